"""A simulated upstream and a Stripe double for the demo and the tests. A production server doesn't import them."""
