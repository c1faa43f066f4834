"""Logs and directories made up for tests, benchmarks and the offline demo."""
