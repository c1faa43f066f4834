"""A dataset becomes a model, on Ray Train."""
