"""The storage ports on PostgreSQL, for several servers on one database."""
