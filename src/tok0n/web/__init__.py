"""HTTP: the /v1 API, and what an operator's load balancer asks."""
