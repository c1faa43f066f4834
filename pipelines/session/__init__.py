"""What every stage needs of Ray: a session, room for its tasks, a lease."""
