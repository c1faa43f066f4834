"""Erasure of users from everything below a root: replacements, references, proof."""
