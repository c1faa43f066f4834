"""Columns of Arrow tables as arrays: ids hashed, grouped and numbered."""
