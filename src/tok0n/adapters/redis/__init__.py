"""Redis or Valkey, for the limits of many processes."""
