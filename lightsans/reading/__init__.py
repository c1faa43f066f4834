"""Interaction logs of every format -> checked rows.

`units` plans which task reads what, finds mistakes early and reads one unit; `formats` names the
file that knows each format, `rows`, `ids`, `times` and
`values` turn whatever a file holds into ids, microseconds and ratings; `rejects` counts and keeps
what was refused. `lightsans.lists` reads tables and lists of ids by the same.
"""
