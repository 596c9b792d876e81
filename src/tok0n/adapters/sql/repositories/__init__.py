"""The storage ports in SQL, one module each, for both engines."""
