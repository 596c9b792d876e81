"""The limiter of a single process, in memory."""
