"""What every long-running command needs: files put in place whole, locks, processes, signals, progress."""
