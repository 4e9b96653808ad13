"""Photos (orientation, boxes, crops, captions) and the schedule of a run's draws."""
