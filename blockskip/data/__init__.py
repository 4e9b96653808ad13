"""Photos: upright, framed, cropped, captioned; the schedule of every draw of a run."""
