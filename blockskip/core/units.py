"""Units of memory and time."""

from __future__ import annotations

GIB = 2**30  # bytes


def duration(seconds: float, days: str = "days") -> str:
    """Return seconds in plain form: 40 s, 3 min, 1 h 20 min, 5 days. At least 5 s. days: the word."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{round(hours / 24)} {days}"
