"""The storage ports on SQLite and PostgreSQL, with one schema and one set of transaction functions."""
