"""One module per endpoint: its fields, and the rules that span several fields."""
