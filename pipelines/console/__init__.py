"""What people read: log lines, progress bars, tables."""
