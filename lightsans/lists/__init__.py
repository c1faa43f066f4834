"""Lists of ids and tables of users and items, read as logs are read."""
