"""Lists for users: made from a model, as tables, as files, and exported for serving."""
