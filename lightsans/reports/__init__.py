"""Figures of datasets and runs, and their pictures."""
