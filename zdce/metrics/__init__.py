"""How close results come to references."""
