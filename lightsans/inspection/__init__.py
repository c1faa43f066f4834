"""An unknown log: its format, its columns, and the settings that would read it."""
