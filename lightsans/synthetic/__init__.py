"""Synthetic logs and directories for tests, benchmarks and the offline demo."""
