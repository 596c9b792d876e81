"""PostgreSQL: for several servers on one database."""
