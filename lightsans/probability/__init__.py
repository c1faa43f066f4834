"""Probabilities from scores: softmax sums, temperature, reliability; torch and numpy alone."""
