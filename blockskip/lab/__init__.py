"""For the science, not for the app's user: demo world, judge, measurements."""
