"""The use cases, one file each. They know the ports and the domain, and nothing that can be configured."""
