"""`make attack`: attack a running server, and measure its memory and how an honest client fares meanwhile."""
