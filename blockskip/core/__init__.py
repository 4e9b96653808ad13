"""Settings, presets, events, errors, files and processes. Every other folder may import them."""
