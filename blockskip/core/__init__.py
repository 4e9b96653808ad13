"""Settings, presets, events, errors, files, processes: what every other folder may use."""
