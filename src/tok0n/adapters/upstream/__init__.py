"""Calling the providers."""
