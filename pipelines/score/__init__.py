"""Recommendations for every user, on Ray Data."""
