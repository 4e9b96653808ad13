"""The ablation's tables, runner and report."""
