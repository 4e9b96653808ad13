"""Memory: planning what fits, placing and streaming weights, monitoring what is in use."""
