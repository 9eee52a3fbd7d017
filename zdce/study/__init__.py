"""The report as an experiment: which runs, what is measured of them, what that says of each claim, and the page."""
