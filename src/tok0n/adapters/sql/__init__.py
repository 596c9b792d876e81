"""The ledger, the accounts and the catalogue in a SQL database: one schema, one set of transaction functions."""
