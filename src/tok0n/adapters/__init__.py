"""Implementations of the ports: databases, limiters, upstreams, payments, email and passwords."""
