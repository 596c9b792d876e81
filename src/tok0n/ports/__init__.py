"""Everything that services need from outside, as Protocols: one module per subject."""
