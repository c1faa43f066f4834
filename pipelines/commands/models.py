"""The commands `models` and `recommend`: a list of models, and one user's recommendations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lightsans.errors import InputError
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import ModelManifest, ModelMetrics
from lightsans.storage.manifests import finished_directories, manifest_json
from lightsans.storage.parts import read_metrics
from lightsans.storage.records import to_json
from pipelines.commands.options import (
    ConfigOption,
    DatasetOption,
    JsonOption,
    MapItemsOption,
    ModelOption,
    OfRefitOption,
    SetOption,
    examples,
    read_config,
    select,
)
from pipelines.console.output import print_json, print_table, with_interval
from pipelines.console.progress import say_passed_over

if TYPE_CHECKING:
    from pipelines.score.one_user import Move, RawId, UserView

Shown = tuple["RawId", float, Mapping[str, Any]]
"""A recommendation: item, score and computed columns by name."""

# torch is imported by the commands that need it: `--help` must not wait for it.


def recommend(
    user: Annotated[str, typer.Option("--user", "-u", help="User id, as in the log.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    items: Annotated[
        str | None,
        typer.Option(
            "--items",
            metavar="FILE",
            help="Item table with titles, in any format that a log may have.",
        ),
    ] = None,
    title_column: Annotated[
        str | None,
        typer.Option(
            "--title-column", metavar="NAME", help="Default: the first that is named so or alike."
        ),
    ] = None,
    refit: OfRefitOption = False,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to show.")] = 10,
    map_items: MapItemsOption = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell which rule of score.rules moved what.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one user's history and recommendations.

    Both are those of the dataset and the model that the configuration stands for. No Ray is
    started, nothing is written.
    """
    from lightsans.stages.computed_columns import BUY_AGAIN, SOURCES
    from pipelines.score.one_user import load_titles, recommend_for_user

    selected = select(config, overrides, dataset, model, refit)
    run = selected.loaded.config
    # A list under rules is one whole: its first items are shown, not a shorter list.
    score = replace(run.score, k=max(k, run.score.k))
    titles = load_titles(run, selected.dataset_id, items, title_column) if items else {}
    view = recommend_for_user(
        replace(run, score=score),
        selected.dataset_id,
        selected.model_id,
        user,
        map_items=map_items,
        explain=explain,
    )
    # What may be bought again stands behind the list, of which no more than k are shown.
    best = [
        (*found, computed)
        for rank, (found, computed) in enumerate(
            zip(view.recommendations, view.computed, strict=True)
        )
        if rank < k or computed.get(SOURCES) == BUY_AGAIN
    ]
    if as_json:
        moves = {"moves": [asdict(move) for move in view.moves]} if explain else {}
        print_json(_view_json(view, k, best, titles) | moves)
        return
    _print_view(view, k, best, titles)
    if explain:
        _print_moves(view.moves, score.k, titles)


def _view_json(
    view: "UserView", k: int, best: Sequence[Shown], titles: Mapping[str, str]
) -> dict[str, object]:
    """A view as ``--json`` prints it."""
    return {
        "user": view.user_id,
        "source": view.source,
        "history": [_item_json(item, titles) for item in view.history[:k]],
        "recommendations": [
            {**_item_json(item, titles), "score": value, **computed}
            for item, value, computed in best
        ],
    }


def _print_view(view: "UserView", k: int, best: Sequence[Shown], titles: Mapping[str, str]) -> None:
    """Print a table of the history and one of the recommendations."""
    recent = view.history[:k]
    print_table(
        f"User {view.user_id}: {len(recent)} of {len(view.history)} items, newest first",
        ["item", "title"],
        [[str(item), titles.get(str(item), "")] for item in recent],
    )
    names = list(view.computed[0]) if view.computed else []
    print_table(
        f"Top {k} ({view.source})",
        ["rank", "item", "title", "score", *names],
        [
            [rank, str(item), titles.get(str(item), ""), value, *map(_cell, computed.values())]
            for rank, (item, value, computed) in enumerate(best, 1)
        ],
    )


def _print_moves(moves: "Sequence[Move]", places: int, titles: Mapping[str, str]) -> None:
    """Print what rules changed, step by step."""
    rows = [
        [move.rule, str(move.item), titles.get(str(move.item), ""), move.before, move.after]
        for move in moves
    ]
    print_table(
        f"What rules did, among {places} places, step by step",
        ["rule", "item", "title", "rank before", "rank after"],
        [["-" if value is None else value for value in row] for row in rows],
    )


def models(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List trained models with their dates and metrics, newest first."""
    loaded = read_config(config, overrides).config
    directory = locate(loaded.root, loaded.storage) / "models"
    found = []
    for name, manifest in finished_directories(ModelManifest, directory, say_passed_over)[::-1]:
        try:
            found.append((name, manifest, read_metrics(directory / name)))
        except InputError as error:
            say_passed_over(error)
    from pipelines.erasure.models import marked_models

    marked = marked_models(locate(loaded.root, loaded.storage))
    if as_json:
        listed = [
            {
                **manifest_json(manifest),
                "id": name,
                "metrics": to_json(metrics),
                **({"learnt_from_erased": marked[name]} if name in marked else {}),
            }
            for name, manifest, metrics in found
        ]
        print_json({"models": listed})
        return
    rows = [
        [
            name,
            manifest.created_at or "",
            manifest.dataset_id,
            manifest.best_epoch,
            *(_metric_text(metrics, split) for split in ("valid", "test")),
            *([marked.get(name, "")] if marked else []),
        ]
        for name, manifest, metrics in found
    ]
    header = ["model", "created", "dataset", "best epoch", "valid ndcg@10", "test ndcg@10"]
    header += ["learnt from erased users"] if marked else []
    print_table(f"{len(rows)} models in {directory}", header, rows)


def _metric_text(metrics: ModelMetrics, split: Literal["valid", "test"]) -> str:
    """The metric ndcg@10 of a split, with its interval where that is known."""
    values = getattr(metrics, split) or {}
    if "ndcg@10" not in values:
        return "not evaluated"
    return with_interval(values, (metrics.intervals or {}).get(split, {}), "ndcg@10")


def _cell(value: Any) -> str | float:
    """A computed value as a table shows it."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value is None else value


def _item_json(item: str | int, titles: Mapping[str, str]) -> dict[str, object]:
    """One item for ``--json``, with its title where one is known."""
    title = titles.get(str(item))
    return {"item": item} if title is None else {"item": item, "title": title}


def add_model_commands(app: typer.Typer) -> None:
    """Add `recommend` and `models`."""
    app.command(
        epilog=examples(
            "recommend -c my.yaml --user 17",
            "recommend -c my.yaml --user 196 --items data/ml-100k.item -k 20",
            "recommend -c my.yaml --user 17 --explain",
        )
    )(recommend)
    app.command(epilog=examples("models -c my.yaml"))(models)
