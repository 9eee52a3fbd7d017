"""Import of weights from other code, and export of networks for other programs."""
