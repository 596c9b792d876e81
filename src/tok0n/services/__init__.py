"""The use cases, one file each. They import only the ports and the domain, and read no settings."""
