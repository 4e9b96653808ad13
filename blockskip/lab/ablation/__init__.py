"""The tables of the ablation."""
