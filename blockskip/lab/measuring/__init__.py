"""Shared parts of measurements: processes, pages, plots."""
