"""Interaction logs become a dataset, by tasks; Ray Data exchanges the rows of large ones."""
