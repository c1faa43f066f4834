"""Ray for every stage: a session, resources for its tasks, a lease."""
