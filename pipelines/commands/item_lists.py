"""The commands `similar` and `audience`: lists about items."""

from typing import Annotated

import typer

from pipelines.commands.cluster import runs_on_cluster
from pipelines.commands.options import (
    ConfigOption,
    DatasetOption,
    ForceOption,
    JsonOption,
    MapItemsOption,
    ModelOption,
    SetOption,
    examples,
    read_config,
    select,
)
from pipelines.commands.results import audience_json, similar_json
from pipelines.console.output import only_results_on_stdout, print_json

# Imported as in `pipelines.commands.stages`: once the configuration is read.


def similar(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the nearest items of every item to parquet, exactly.

    similar.measure says how near (cosine or product), similar.k how many; score's lists of items
    and rules hold, save for those of user segments.
    """
    loaded = read_config(config, overrides).config
    chosen = model or select(config, overrides, dataset).model_id  # a model needs no log
    from pipelines.score.similar import run_similar

    with only_results_on_stdout():
        result = run_similar(loaded, chosen, force=force)
    if as_json:
        print_json(similar_json(result))
    else:
        print(result.location)


def audience(
    items: Annotated[
        str, typer.Option("--items", metavar="FILE", help="Raw item ids: one a line, or a table.")
    ],
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    map_items: MapItemsOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the users who want given items most to parquet.

    Users are ranked by log-share: the logarithm of the item's share in the softmax over all that
    may be recommended to them. audience.k says how many users an item gets.
    """
    selected = select(config, overrides, dataset, model)
    from pipelines.score.audience import run_audience

    with only_results_on_stdout():
        result = run_audience(
            selected.loaded.config,
            selected.dataset_id,
            selected.model_id,
            items,
            map_items=map_items,
            force=force,
        )
    if as_json:
        print_json(audience_json(result))
    else:
        print(result.location)


def add_item_commands(app: typer.Typer) -> None:
    """Add `similar` and `audience`."""
    app.command(
        epilog=examples("similar -c my.yaml", "similar -c my.yaml --set similar.measure=product")
    )(runs_on_cluster(similar))
    app.command(
        epilog=examples("audience -c my.yaml --items new.txt --set audience.k=5000 --json")
    )(runs_on_cluster(audience))
