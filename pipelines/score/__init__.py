"""Recommendations for every user, on Ray Data or, for few, in a task."""
