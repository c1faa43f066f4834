"""Hyper-parameter spaces and what proposes values from them."""
