"""All about an unknown input: format, columns, roles, settings, and the shares that they give."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightsans.columns.findings import describe_findings, describe_repeats
from lightsans.columns.times import to_iso
from lightsans.config import ColumnsConfig, DataConfig, EventConfig
from lightsans.config.marks import to_dict
from lightsans.inspection.events import EventProposal, propose_events
from lightsans.inspection.roles import (
    Column,
    find_by_name,
    find_roles,
    find_unnamed_roles,
    look_at,
)
from lightsans.inspection.sample import Sample, take_sample
from lightsans.reading.ids import natural_type
from lightsans.reading.rows import CheckedRows, RawRows, check_rows
from lightsans.storage.location import FileInfo
from lightsans.storage.records import to_json

_NEEDED = ("user", "item", "timestamp")
_ALL = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleFigures:
    """Figures of a sample under the settings that were found."""

    users: int
    items: int
    refused: Mapping[str, float]
    """Share of refused rows by reason."""
    broken_lines: int
    """Lines that cannot be split."""
    same_user_and_time: float
    """Share of rows that repeat user and time of another."""
    same_user_and_item: float
    duplicates: float
    """Share of rows that repeat user, item and time of another."""
    time_range: tuple[str, str] | None
    """ISO times of the oldest and the newest row; None without a valid one."""
    padded: Mapping[str, int] | None = None
    """Rows with blanks around the id, by role; None where there are none."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Format, columns, roles and settings of an input."""

    sample: Sample
    columns: Sequence[Column]
    roles: dict[str, Column]
    settings: dict[str, Any]
    """The section ``data`` that would read it, without defaults; empty where it is no log."""
    figures: SampleFigures | None
    """Figures under these settings; None where it is no log."""
    remarks: list[str]

    def to_json(self) -> dict[str, Any]:
        """Content for JSON."""
        sample, head = self.sample, self.sample.head
        dialect = getattr(head, "dialect", None)
        return {
            "files": len(sample.files),
            "bytes": sum(file.size for file in sample.files),
            "format": sample.format,
            "compression": head.coding.compression,
            "encoding": head.coding.encoding if head.beginning else None,
            "separator": None if dialect is None else dialect.separator,
            "sample_rows": sample.num_rows,
            "is_sample": not sample.is_whole,
            "columns": [
                {
                    "name": column.name,
                    "type": column.kind,
                    "missing": round(column.missing, 4),
                    "distinct": column.distinct,
                    "examples": column.examples,
                    "role": next((r for r, c in self.roles.items() if c is column), None),
                }
                for column in self.columns
            ],
            "settings": {"data": self.settings} if self.settings else {},
            "figures": {} if self.figures is None else to_json(self.figures),
            "remarks": self.remarks,
        }


def inspect_input(paths: Sequence[str], files: Sequence[FileInfo], data: DataConfig) -> Inspection:
    """Look at a bounded sample of an input.

    Args:
        paths: The input as it was named, for the settings.
        files: Its files.
        data: Settings to begin with.

    Raises:
        InputError: The first file is unreadable.
    """
    sample = take_sample(files, data)
    columns = [
        look_at(name, column, sample.data)
        for name, column in zip(sample.names, sample.columns, strict=True)
    ]
    limit = _ALL if data.max_reject_fraction is None else data.max_reject_fraction
    roles = find_roles(columns, limit) if sample.data.header else find_unnamed_roles(columns)
    remarks = list(sample.problems)
    remarks += _about_missing(columns, roles, limit)
    lacking = [role for role in _NEEDED if role not in roles]
    if lacking:
        remarks += _about_unread_times(sample, columns, roles)
        remarks.append(
            f"no column is likely the {' or the '.join(lacking)}: name it in data.columns; a table "
            "of items is no log, but serves as score.item_table or for titles"
        )
        return Inspection(sample, columns, roles, {}, None, remarks)
    fitting = _settings(sample, roles, paths)
    figures, said = _figures(sample, roles, fitting)
    proposal = _events(sample, roles, limit)
    said += _about_repeats(figures, proposal)
    if figures.padded:
        fitting = replace(fitting, strip_ids=True)
    if proposal is not None:
        said.append(proposal.remark())
    if proposal is not None and proposal.events:
        columns_with_event = replace(fitting.columns, event=_column(sample, roles, "event"))
        fitting = replace(fitting, columns=columns_with_event, events=proposal.events)
    return Inspection(sample, columns, roles, _without_defaults(fitting), figures, remarks + said)


def settings_yaml(settings: dict[str, Any]) -> str:
    """A section ``data`` as YAML to paste."""
    lines = ["data:"]
    for name, value in settings.items():
        if name == "events":
            events = [f"    {_scalar(event)}: {_flow(use)}" for event, use in value.items()]
            lines += ["  events:", *events]
        else:
            lines.append(f"  {name}: {_flow(value)}")
    return "\n".join(lines)


def _flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    return _scalar(value)


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # YAML holds JSON


def _about_missing(columns: Sequence[Column], roles: dict[str, Column], limit: float) -> list[str]:
    """Remarks on columns that would have had a role, were they not so often empty."""
    preferred = find_roles(columns, _ALL)
    return [
        f"column {better.name!r} would be the {role}, but has no value in {better.missing:.1%} of "
        "the rows"
        for role, better in preferred.items()
        if role in _NEEDED and better.missing > limit and roles.get(role) is not better
    ]


def _about_unread_times(
    sample: Sample, columns: Sequence[Column], roles: dict[str, Column]
) -> list[str]:
    """Remarks on a file without rows, or on a column of times that are written in another way."""
    if not sample.num_rows:
        return ["there is a header and no row"]
    named = find_by_name(columns, "timestamp")
    if "timestamp" in roles or named is None or not named.examples:
        return []
    return [
        f"column {named.name!r} would be the timestamp, but most of its values, such as "
        f"{named.examples[0]!r}, are no times of 1990 to 2100 in one unit; write numbers (seconds, "
        "for example) or ISO text such as 2026-09-13T17:45:00+02:00"
    ]


def _settings(sample: Sample, roles: dict[str, Column], paths: Sequence[str]) -> DataConfig:
    """The settings that read the likely columns."""
    found = ColumnsConfig(
        user=_column(sample, roles, "user") or 0,
        item=_column(sample, roles, "item") or 0,
        timestamp=_column(sample, roles, "timestamp") or 0,
        rating=_column(sample, roles, "rating"),
    )
    kinds = {f"{r}_id_type": "int64" for r in ("user", "item") if roles[r].is_doubles}
    unit = roles["timestamp"].unit or "s"
    changed: dict[str, Any] = {"columns": found, "timestamp_unit": unit, **kinds}
    return replace(sample.data, input=tuple(paths), **changed)


def _column(sample: Sample, roles: dict[str, Column], role: str) -> str | int | None:
    """Name of a role's column, or its position where there is no header, or two have the name."""
    if role not in roles:
        return None
    names, name = list(sample.names), roles[role].name
    is_clear = sample.data.header and names.count(name) == 1
    return name if is_clear else names.index(name)


def _events(sample: Sample, roles: dict[str, Column], limit: float) -> EventProposal | None:
    """Uses that the events of the sample likely have."""
    if "event" not in roles or roles["event"].missing > limit:
        return None
    names = list(sample.names)
    values = {role: sample.columns[names.index(roles[role].name)] for role in (*_NEEDED, "event")}
    keys = pa.table({role: values[role] for role in _NEEDED})
    name = roles["event"].name
    return propose_events(name, values["event"], keys, sample.data.missing_values)


def _figures(
    sample: Sample, roles: dict[str, Column], data: DataConfig
) -> tuple[SampleFigures, list[str]]:
    """Shares and range of time of the sample as these settings read it, and what is odd."""
    names = list(sample.names)
    raw = {
        role: sample.columns[names.index(column.name)]
        for role, column in roles.items()
        if role != "event"
    }
    types = {
        role: kind if kind != "auto" else natural_type(raw[role].type) or "string"
        for role, kind in (("user", data.user_id_type), ("item", data.item_id_type))
    }
    rows = RawRows(raw, np.arange(sample.num_rows), [])
    checked = check_rows(rows, data, types["user"], types["item"])
    num_rows, valid = sample.num_rows, checked.table.num_rows
    oldest = pc.min(checked.table["timestamp"]).as_py()
    newest = pc.max(checked.table["timestamp"]).as_py()
    refused = Counter(checked.reject_reasons)
    figures = SampleFigures(
        users=pc.count_distinct(_flat(checked, "user_id")).as_py(),
        items=pc.count_distinct(_flat(checked, "raw_item_id")).as_py(),
        refused={reason: count / max(num_rows, 1) for reason, count in refused.most_common()},
        broken_lines=sample.num_broken,
        same_user_and_time=_share_of_repeats(checked, ["user_id", "timestamp"]),
        same_user_and_item=_share_of_repeats(checked, ["user_id", "raw_item_id"]),
        duplicates=_share_of_repeats(checked, ["user_id", "raw_item_id", "timestamp"]),
        time_range=(to_iso(oldest), to_iso(newest)) if valid else None,
        padded=dict(checked.findings.padded) or None,
    )
    unit = data.timestamp_unit
    said = list(describe_findings(checked.findings, num_rows, valid, unit, oldest))
    return figures, said


def _about_repeats(figures: SampleFigures, proposal: EventProposal | None) -> list[str]:
    """Remarks on events that repeat others, which make targets trivial."""
    if proposal is not None and proposal.repeats:
        return []  # told with the events
    said = describe_repeats(figures.duplicates, has_events=False)
    return [] if said is None else [said]


def _flat(checked: CheckedRows, name: str) -> pa.ChunkedArray:
    column = checked.table[name]
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _share_of_repeats(checked: CheckedRows, names: list[str]) -> float:
    """Share of the rows that repeat these columns of an earlier one."""
    num_rows = checked.table.num_rows
    if not num_rows:
        return 0.0
    table = pa.table({name: _flat(checked, name) for name in names})
    distinct: int = table.group_by(names).aggregate([]).num_rows
    return float(round(1 - distinct / num_rows, 4))


def _without_defaults(data: DataConfig) -> dict[str, Any]:
    """Settings other than the defaults, columns always."""
    values, usual = to_dict(data), to_dict(DataConfig())
    if data.columns.event is None:
        values["columns"] = {k: v for k, v in asdict(data.columns).items() if k != "event"}
    plain = asdict(EventConfig())
    values["events"] = {
        name: {use: value for use, value in asdict(event).items() if value != plain[use]}
        for name, event in data.events.items()
    }
    return {
        name: value for name, value in values.items() if name == "columns" or value != usual[name]
    }
