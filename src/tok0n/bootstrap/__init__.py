"""Wires everything together: the only place that names concrete adapters."""
