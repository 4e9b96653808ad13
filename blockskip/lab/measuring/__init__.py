"""What measurements share: processes, pages, plots."""
