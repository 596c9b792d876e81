"""A simulated upstream and a Stripe double, for the demo and the tests. Production imports nothing from here."""
