"""The pages for signing in, and the dashboard of an account."""
