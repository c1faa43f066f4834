"""The nights of a log as they would have been, under one policy or several side by side."""
