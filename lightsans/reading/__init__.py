"""Interaction logs of every format -> checked rows.

`plan` decides who reads what and finds mistakes early, `units` reads one unit, `csv_files`,
`jsonl_files` and `parquet_files` know the formats, `text_pieces` cuts text at line ends, and
`columns` turns whatever a file holds into ids, microseconds and ratings.
"""
