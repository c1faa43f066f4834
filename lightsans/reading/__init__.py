"""Interaction logs of every format -> checked rows; lists of ids -> ids.

`units` plans which task reads what, finds mistakes early and reads one unit; `formats` names the
file that knows each format, `rows`, `ids`, `times` and
`values` turn whatever a file holds into ids, microseconds and ratings; `rejects` counts and keeps
what was refused; `id_lists` reads every file that lists users or items.
"""
