"""What fits (planner), where weights are (placement), what is used now (monitor)."""
