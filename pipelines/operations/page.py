"""Collects what a night's page shows, and writes it beside the night's report.

reports/nightly-<date>.html    the night
reports/index.html             all nights, newest first
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lightsans.config import RunConfig
from lightsans.errors import LightSANsError
from lightsans.ranking.bootstrap import Estimate
from lightsans.reports.night_page import (
    Decision,
    IndexEntry,
    NightPage,
    Picture,
    Table,
    UserLists,
    render_index,
    render_night,
)
from lightsans.storage.location import Location
from pipelines.console.logs import printable
from pipelines.operations.attempts import Attempt, read_attempts, telling_attempt
from pipelines.operations.checks import check_text
from pipelines.operations.figures import evaluations_of, run_report
from pipelines.operations.lists import compare_lists, titles_of
from pipelines.operations.status import Night, read_nights
from pipelines.publish import latest_run_id

SHOWN_METRICS = ("hit@10", "ndcg@10", "mrr@10")
INDEXED_NIGHTS = 400
"""Nights in the index."""


def write_pages(config: RunConfig, root: Location, date: str) -> Location:
    """Write the page of a night, from the attempt that stands for it, and the index; the page.

    Args:
        config: The night's configuration.
        root: Where all results lie.
        date: Name of the night.
    """
    attempts, file = read_attempts(root, date), root / "reports" / f"nightly-{date}.html"
    if attempts:
        page = collect_page(config, root, attempts)
        file.write_bytes(render_night(page, _shown).encode())
    nights = read_nights(root, INDEXED_NIGHTS)
    published = latest_run_id(root)
    text = f"Published is run {published}." if published else "Nothing is published."
    pages = set((root / "reports").children())
    entries = [_index_entry(night, config.nightly.metric, pages) for night in nights]
    html = render_index(entries, text, config.nightly.metric, _shown)
    (root / "reports" / "index.html").write_bytes(html.encode())
    return file


def collect_page(config: RunConfig, root: Location, attempts: list[Attempt]) -> NightPage:
    """The content of a night's page.

    Args:
        config: The night's configuration.
        root: Where all results lie.
        attempts: The attempts at the night, oldest first.
    """
    told = telling_attempt(attempts)
    figures = told.figures
    facts = [
        ("as of", told.as_of),
        ("run", told.run_id or "none"),
        ("published before", told.instead_of or _before(told) or "nothing"),
        ("model", told.model_id or "none"),
        ("dataset", told.dataset_id or "none"),
        ("users", _count(figures.users)),
        ("items", _count(figures.items)),
        ("started", told.started_at),
        ("minutes", _minutes(told.seconds)),
    ]
    lists, list_notes = _lists(config, root, told)
    evaluations, _ = evaluations_of(root, told)
    datasets, models = told.ids_of("dataset"), told.ids_of("model")
    run = told.run_id
    return NightPage(
        date=told.date,
        outcome=told.outcome,
        reason=told.reason,
        facts=facts,
        decisions=_decisions(told),
        tables={
            "metrics": _metric_tables(root, told),
            "data": _data_tables(root, told),
            "learning": _learning_tables(root, models),
            "popularity": _popularity_tables(root, told),
            "stages": [_stage_table(told)] if told.stages else [],
            "attempts": [_attempt_table(attempts)],
        },
        notes={"lists": list_notes},
        pictures={
            "metrics": _pictures(
                root, [(f"reports/{name}/report.png", "metrics") for name in [*evaluations][:1]]
            ),
            "data": _pictures(
                root,
                [
                    (f"datasets/{name}/report/{picture}.png", picture)
                    for name in datasets[-1:]
                    for picture in ("lengths", "popularity", "time")
                ],
            ),
            "learning": _pictures(
                root, [(f"models/{name}/curves.png", f"curve of model {name}") for name in models]
            ),
            "popularity": _pictures(
                root,
                [(f"recommendations/{run}/report.png", "popularity and scores")] if run else [],
            ),
        },
        lists=lists,
    )


# ---- sections


def _decisions(attempt: Attempt) -> list[Decision]:
    report = attempt.report or {}
    found = [
        Decision(text=check_text(check), is_good=bool(check.get("passed")))
        for check in report.get("checks", [])
    ]
    for name in ("decisions", "not_compared"):
        before = "not compared: " if name == "not_compared" else ""
        found += [
            Decision(text=before + _text(each), is_good=None) for each in report.get(name, [])
        ]
    return found


def _metric_tables(root: Location, attempt: Attempt) -> list[Table]:
    figures = attempt.figures
    rows = [("tonight's model", figures.metrics), ("published model", figures.published_metrics)]
    rows += list((figures.baselines or {}).items())
    known = [(name, found) for name, found in rows if found]
    tables = []
    if known:
        cells = [[name, *(_estimate(found.get(m)) for m in SHOWN_METRICS)] for name, found in known]
        caption = "Test, with 95 % intervals; all on tonight's dataset"
        tables.append(Table(header=["", *SHOWN_METRICS], rows=cells, caption=caption))
    own, _ = evaluations_of(root, attempt)
    for manifest in [*own.values()][:1]:
        leads = [
            [name, *(_lead(values.get("test", {}).get(m)) for m in SHOWN_METRICS)]
            for name, values in manifest.figures.differences.items()
        ]
        if leads:
            caption = "Lead of tonight's model, paired user by user"
            tables.append(Table(header=["over", *SHOWN_METRICS], rows=leads, caption=caption))
    return tables


def _data_tables(root: Location, attempt: Attempt) -> list[Table]:
    dataset = attempt.dataset_id or attempt.id_of("dataset")
    report = _json(root / "datasets" / dataset / "report" / "report.json") if dataset else {}
    rows: Mapping[str, Any] = report.get("rows", {})
    table = [[name.replace("_", " "), _value(value)] for name, value in _flat(rows)]
    oddities = [
        [name.replace("_", " "), _value(v)] for name, v in _flat(report.get("findings", {}))
    ]
    tables = [Table(header=["rows", "number"], rows=table)] if table else []
    kept = [row for row in oddities if row[1] not in ("0", "", "none", "0.0000")]
    return tables + ([Table(header=["what is odd", ""], rows=kept)] if kept else [])


def _learning_tables(root: Location, models: Sequence[str]) -> list[Table]:
    rows = []
    for name in models:
        manifest = _json(root / "models" / name / "manifest.json")
        metrics = _json(root / "models" / name / "metrics.json").get("valid") or {}
        if manifest:
            kind = "refit" if manifest.get("refit") else "held out"
            seconds = manifest.get("train_s")
            rows.append(
                [
                    name,
                    kind,
                    _value(manifest.get("epochs")),
                    _value(manifest.get("best_epoch")),
                    _value(metrics.get("ndcg@10")),
                    _minutes(seconds if isinstance(seconds, int | float) else None),
                ]
            )
    header = ["model", "kind", "epochs", "best", "valid ndcg@10", "minutes of training"]
    return [Table(header=header, rows=rows)] if rows else []


def _popularity_tables(root: Location, attempt: Attempt) -> list[Table]:
    report = run_report(root, attempt.run_id) if attempt.run_id else None
    if report is None:
        return []
    rows = [[name.replace("_", " "), _value(value)] for name, value in report.figures.items()]
    tables = [Table(header=["figure", "value"], rows=rows)] if rows else []
    warnings = [[_text(warning)] for warning in report.warnings]
    return tables + ([Table(header=["warnings"], rows=warnings)] if warnings else [])


def _stage_table(attempt: Attempt) -> Table:
    rows = [
        [
            stage.stage,
            stage.id,
            "found" if stage.is_found else "failed" if stage.has_failed else "made",
            f"{stage.seconds / 60:.2f}",
            f"{stage.peak_bytes / 2**20:,.0f}" if stage.peak_bytes else "",
        ]
        for stage in attempt.stages
    ]
    header = ["stage", "result", "", "minutes", "most memory on this machine, MiB"]
    return Table(header=header, rows=rows)


def _attempt_table(attempts: list[Attempt]) -> Table:
    rows = [
        [each.id, each.outcome, _minutes(each.seconds), f"{each.host} {each.pid}", each.reason]
        for each in attempts[::-1]
    ]
    return Table(header=["attempt", "outcome", "minutes", "process", "reason"], rows=rows)


def _lists(
    config: RunConfig, root: Location, attempt: Attempt
) -> tuple[list[UserLists], list[str]]:
    if attempt.run_id is None or attempt.dataset_id is None:
        return [], []
    if config.nightly.page_users == 0:
        return [], ["No user is shown (nightly.page_users)."]
    notes, titles = list[str](), dict[str, str]()
    try:
        titles = titles_of(config, attempt.dataset_id)
    except (LightSANsError, OSError) as error:
        notes.append(f"No titles: {error}")
    before = attempt.instead_of or _before(attempt)
    try:
        users = config.nightly.page_users
        found = compare_lists(root, attempt.run_id, before, users, titles)
    except (LightSANsError, OSError) as error:
        return [], [*notes, f"No lists: {error}"]
    return found, notes


def _pictures(root: Location, wanted: list[tuple[str, str]]) -> list[Picture]:
    found = []
    for path, words in wanted:
        try:
            found.append(Picture(png=(root / path).read_bytes(), words=words))
        except OSError:  # a picture is never worth a page
            continue
    return found


def _index_entry(night: Night, metric: str, pages: set[str]) -> IndexEntry:
    attempt = night.attempt
    found = (attempt.figures.metrics or {}).get(metric)
    return IndexEntry(
        date=attempt.date,
        outcome=night.state,
        reason=attempt.reason,
        minutes=_minutes(attempt.seconds),
        has_page=f"nightly-{attempt.date}.html" in pages,
        value=None if found is None else found.value,
        low=None if found is None else found.low,
        high=None if found is None else found.high,
    )


# ---- values as words


def _shown(text: str) -> str:
    return printable(text, keep="\n\t")


def _before(attempt: Attempt) -> str | None:
    before = (attempt.report or {}).get("published_before")
    return before if isinstance(before, str) else None


def _json(file: Location) -> Mapping[str, Any]:
    try:
        return file.read_json()
    except (OSError, LightSANsError):
        return {}


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}: ")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _text(value: Any) -> str:
    """A sentence of a report, or a record of one as name and value."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')}: {each}" for name, each in value.items())
    return str(value)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f}"


def _estimate(found: Estimate | None) -> str:
    return "" if found is None else f"{found:.4f}"


def _lead(found: Estimate | None) -> str:
    return "" if found is None else f"{found:+.4f}"
