"""Interaction logs become a dataset, on Ray Data."""
