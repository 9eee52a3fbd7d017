"""Services for commands: atomic file writes, locks, processes, signals, progress, optional packages."""
