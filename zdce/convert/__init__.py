"""Weights from other code, and networks for other programs."""
