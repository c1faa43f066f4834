"""Text files as streams of UTF-8 lines: compressions, encodings, dialects, JSON arrays."""
