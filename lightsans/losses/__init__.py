"""Losses over the next item, and the negatives they draw."""
