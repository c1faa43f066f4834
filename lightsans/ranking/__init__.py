"""Exact top-K, ranks, metrics and the baselines they are compared with."""
