"""From a budget to a plan, by arithmetic on tables; no torch."""
