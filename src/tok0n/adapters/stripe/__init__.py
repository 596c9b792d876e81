"""Stripe, and the double of it that the demo and the tests pay with."""
