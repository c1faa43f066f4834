"""Work of the stages that is the same with and without Ray."""
