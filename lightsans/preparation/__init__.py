"""Rows of a log become sorted parts, a vocabulary and sequences."""
