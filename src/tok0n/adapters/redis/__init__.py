"""The limiter of several processes, on Redis or Valkey."""
