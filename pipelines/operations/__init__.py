"""The operator's view of nights and of the root: attempts, status, pages, metrics, cleaning."""
