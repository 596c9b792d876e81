"""What stands behind the ports: databases, limiters, upstreams."""
