"""A module for each older schema, which migrates it to the next one."""
