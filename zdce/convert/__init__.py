"""Import of weights from other programs, and export of networks for other programs."""
