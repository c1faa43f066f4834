"""A dataset becomes a model, by tasks or Ray Train."""
