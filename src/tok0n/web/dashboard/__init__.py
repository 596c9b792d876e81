"""The pages: public ones, signing in, and what a customer sees of the account."""
