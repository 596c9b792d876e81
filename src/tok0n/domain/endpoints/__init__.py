"""One description per endpoint: its fields, and the rules that span several of them."""
