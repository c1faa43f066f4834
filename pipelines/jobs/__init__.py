"""Commands as jobs on a cluster."""
