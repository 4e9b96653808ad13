"""Runs: their folders, processes, pictures and results."""
