"""One module per port: the same functions for both engines."""
