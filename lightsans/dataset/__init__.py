"""A finished dataset as arrays: vocabulary, sequences, held-out targets."""
