"""Reports of a search: leaderboard, plots, and the table of trials while it runs."""

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lightsans.reports.plots import draw_history, draw_importance
from lightsans.search.proposals import make_study
from lightsans.search.space import SearchSpace, Values
from lightsans.storage.location import Location
from pipelines.console.output import print_table
from pipelines.console.progress import can_draw, say
from pipelines.session.pictures import save_pictures
from pipelines.tune.records import TrialRecord
from pipelines.tune.search import Search

SHOWN_TRIALS = 20


def ranked(search: Search) -> list[TrialRecord]:
    """Trials from the best; failed ones last."""
    records = sorted(search.trials.values(), key=lambda record: record.number)
    return sorted(
        records,
        key=lambda r: (
            r.has_failed,
            -(r.score(search.metric) if r.score(search.metric) is not None else -1.0),  # type: ignore[operator]
        ),
    )


def leaderboard(search: Search, space: SearchSpace) -> pa.Table:
    """One row a trial, from the best: status, epochs, metrics of the best epoch, and values."""
    rows = []
    for rank, record in enumerate(ranked(search), 1):
        best = record.best_row(search.metric)
        rows.append(
            {
                "rank": rank,
                "trial": record.number,
                "status": record.status,
                "epochs": len(record.history),
                "best_epoch": None if best is None else best.epoch,
                **{f"valid_{n}": value for n, value in (best.valid if best else {}).items()},
                **record.values,
                "train_s": round(record.train_s, 1),
                "model_id": record.model_id,
                "error": record.error,
            }
        )
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    """Values of one setting; those of mixed kinds as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def save_leaderboard(table: pa.Table, directory: Location) -> None:
    """Write ``leaderboard.parquet`` and ``leaderboard.csv``."""
    (directory / "leaderboard.parquet").write_table(table)
    with (directory / "leaderboard.csv").open_atomic() as aside:
        pa.csv.write_csv(table, aside)


def print_leaderboard(result: Any) -> None:
    """The best trials of a finished search (a `TuneResult`) as a table."""
    table = (result.location / "leaderboard.parquet").read_table()
    best = result.manifest.best
    names = ["rank", "trial", *best.values, "status", "epochs"]
    metric = result.manifest.metric
    header = [name.rpartition(".")[2] for name in names] + [metric]
    names.append(f"valid_{metric}")
    shown = table.slice(0, SHOWN_TRIALS).select(names).to_pylist()
    rows = [
        [str(_short(row[name])) if name in best.values else row[name] or "" for name in names]
        for row in shown
    ]
    epochs, trials = result.manifest.epochs, table.num_rows
    print_table(f"Search {result.search_id}: {trials} trials, {epochs} epochs", header, rows)


def table_rows(search: Search, records: Sequence[TrialRecord]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of the table that people see."""
    metric = search.metric
    names = [dimension.name for dimension in search.space.dimensions]
    header = ["trial", *(name.partition(".")[2] for name in names), "status", "epochs", metric]
    rows = []
    for record in records:
        score = record.score(metric)
        values = [str(_short(record.values[name])) for name in names]
        shown = "" if score is None else score
        rows.append([record.number, *values, record.status, len(record.history), shown])
    return header, rows


def describe(values: Values) -> str:
    """Values in a line."""
    return ", ".join(f"{name.partition('.')[2]} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


# ---- plots ---------------------------------------------------------------------------------------


def importances(search: Search) -> dict[str, float]:
    """Share of each setting in what makes trials good (Optuna's PED-ANOVA), largest first.

    Empty where there is too little to tell: fewer than four scored trials, or no Optuna.
    """
    observed = [r.observation(search.metric) for r in search.trials.values() if not r.has_failed]
    observed = [o for o in observed if o.curve]
    if len(observed) < 4 or importlib.util.find_spec("optuna") is None:
        return {}
    import optuna

    finished = [type(o)(o.values, "finished", o.curve) for o in observed]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, and settings with one value
        shares = optuna.importance.get_param_importances(make_study(search.space, finished))
    return {name: float(share) for name, share in shares.items()}


def save_plots(search: Search, directory: Location) -> dict[str, float]:
    """Write ``history.png`` and ``importance.png``; returns the importances."""
    scored = []
    for record in sorted(search.trials.values(), key=lambda r: r.number):
        score = record.score(search.metric)
        if score is not None and not record.has_failed:
            scored.append((record.number, score, record.status))
    shares = importances(search)

    def draw() -> dict[str, bytes]:
        history = {"history.png": draw_history(scored, search.metric)}
        if not shares:
            return history
        return {**history, "importance.png": draw_importance(shares, search.metric)}

    save_pictures("tune", directory, draw)
    return shares


# ---- while it runs -------------------------------------------------------------------------------


class TrialBoard:
    """Shows a search while it runs: a live table on a terminal, a line a trial elsewhere."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def __enter__(self) -> "TrialBoard":
        if can_draw():
            self._live = Live(
                console=Console(stderr=True),
                transient=True,
                refresh_per_second=4,
                auto_refresh=True,
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, search: Search, record: TrialRecord) -> None:
        """Show that something happened to a trial."""
        if not record.is_running:
            self._tell(search, record)
        if self._live is not None:
            self._live.update(self._table(search))

    def _tell(self, search: Search, record: TrialRecord) -> None:
        score, best = record.score(search.metric), search.best
        result = f"valid {search.metric} {score:.4f}" if score is not None else "no epoch"
        text = (
            f"trial {record.number} {record.status} after {len(record.history)} epochs: {result}"
            f" ({describe(record.values)})"
        )
        if record.error:
            text += f"; {record.error}"
        elif best is not None and best is not record:
            text += f"; best {best.score(search.metric):.4f} by trial {best.number}"
        fields = {"trial": record.number, "status": record.status, "score": score}
        if self._live is not None:
            self._live.console.print(text, highlight=False, soft_wrap=True)
        else:
            say(text, **fields)

    def _table(self, search: Search) -> Table:
        records = ranked(search)
        running = [record for record in records if record.is_running]
        others = [record for record in records if not record.is_running]
        shown = running + others[: max(0, SHOWN_TRIALS - len(running))]
        header, rows = table_rows(search, shown)
        minutes, seconds = divmod(int(search.spent_s), 60)
        epochs = sum(len(record.history) for record in records)
        table = Table(
            title=f"{len(records)} trials, {epochs} epochs, {minutes}:{seconds:02d}",
            box=box.SIMPLE_HEAD,
            title_justify="left",
        )
        for name in header:
            table.add_column(name)
        for row in rows:
            table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row))
        return table
