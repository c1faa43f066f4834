"""Fit, recommend and evaluate in one process, from data frames and without Ray."""
