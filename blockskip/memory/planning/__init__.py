"""Plan a run for a memory budget by arithmetic on tables, without torch."""
