"""Ray of this machine alone, as a command starts it: no process it does not need, quick workers."""
