"""The training loop without Ray: batches, steps, optimizer, progress."""
