"""All stages for a date, a quality gate, then publishing."""
