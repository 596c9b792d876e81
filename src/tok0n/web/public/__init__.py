"""The pages that need no session."""
