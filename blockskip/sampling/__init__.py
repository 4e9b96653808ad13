"""Pictures: sampling, step caches, key steps, larger patches."""
