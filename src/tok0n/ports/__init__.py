"""The interfaces of services to databases, providers and clocks, as Protocols. Adapters implement them."""
