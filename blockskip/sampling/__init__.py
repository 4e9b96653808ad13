"""Sample images, with step caches, key steps and larger patches."""
