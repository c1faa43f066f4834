#!/usr/bin/env python
"""Run a stage of the LightSANs pipeline: the one entry point.

A stage runs on the Ray cluster of RAY_ADDRESS (set inside a Ray job), or on an embedded one.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from lightsans.config.file import LoadedConfig, dump_yaml, load_config
from lightsans.config.json_schema import json_schema
from lightsans.errors import (
    ConfigError,
    GateError,
    InputError,
    LightSANsError,
    NotFoundError,
    VocabularyMismatchError,
)
from lightsans.storage.location import locate
from lightsans.storage.manifests import finished_directories
from pipelines.commands.export import add_export_commands
from pipelines.commands.jobs import add_job_commands, runs_on_cluster
from pipelines.commands.options import (
    BaseOption,
    ConfigOption,
    DatasetOption,
    DryRunOption,
    ForceOption,
    FromOption,
    JsonOption,
    MapItemsOption,
    ModelOption,
    RefitOption,
    ResumeOption,
    SetOption,
    SinceOption,
    SpaceOption,
    dataset_json,
    evaluation_json,
    examples,
    model_json,
    run_json,
    search_json,
    select,
    with_space,
)
from pipelines.commands.publishing import add_publish_commands
from pipelines.commands.recbole import add_recbole_commands
from pipelines.console.logs import configure_logs, log_error
from pipelines.console.output import only_results_on_stdout, print_json, print_metrics, print_table

# Stages are imported by the commands that run them: `--help` must not wait for Ray and torch.

EXIT_FAILED, EXIT_USAGE, EXIT_GATE = 1, 2, 3

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "fetch ml-100k",
        "pipeline --config pipelines/configs/quickstart.yaml",
        "recommend --config pipelines/configs/quickstart.yaml --user 196 --items data/ml-100k.item",
    )
    + "\n\nExit status: 0 done, 1 failed, 2 bad usage, configuration or input, 3 refused by the "
    "gate of nightly.",
)


@app.command(
    epilog=examples(
        "preprocess --config my.yaml --set data.min_rating=3",
        "preprocess --config my.yaml --base 0a1b2c3d4e5f",
    )
)
@runs_on_cluster
def preprocess(
    config: ConfigOption = None,
    overrides: SetOption = None,
    base: BaseOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn interaction logs into a dataset of user sequences.

    Reads parquet, csv, jsonl or RecBole's .inter from data.input (files, directories or globs) and
    writes datasets/ID under root: interactions, a sequence for every user, items, a data report.
    Rows that cannot be used go to rejects/ with file, position and reason. The same input and
    settings have the same ID, so what exists is not made again.
    """
    from pipelines.preprocess.stage import run_preprocess

    settings = [*(overrides or ()), *([f"data.base={base}"] if base else [])]
    loaded = load_config(config, settings)
    with only_results_on_stdout():
        result = run_preprocess(loaded.config, force=force)
    manifest = result.manifest
    if as_json:
        print_json(dataset_json(result))
    else:
        counts = {name: manifest[name] for name in ("users", "trainable_users", "items")}
        print_table(f"Dataset {result.dataset_id}", list(counts), [list(counts.values())])
        print(result.location)


@app.command(
    epilog=examples(
        "train --config my.yaml",
        "train -c my.yaml -s train.epochs=20 --dry-run",
        "train -c my.yaml --from 0a1b2c3d4e5f",
        "train -c my.yaml --refit",
    )
)
@runs_on_cluster
def train(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    resume: ResumeOption = False,
    warm_start: FromOption = None,
    refit: RefitOption = False,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a dataset; an interrupted run goes on from its last checkpoint.

    After every epoch all held-out valid items are ranked; training stops after train.patience
    epochs that were no better. models/ID gets the weights of the best epoch, the items,
    metrics.json and the learning curve.
    """
    from pipelines.train.stage import refit_config, run_train

    if warm_start is not None:
        overrides = [*(overrides or ()), f"train.warm_start={warm_start}"]
    selected = select(config, overrides, dataset)
    run = selected.loaded.config
    if refit:
        run = refit_config(run, selected.dataset_id)
    if dry_run:
        from pipelines.train.dry_run import dry_run as estimate

        with only_results_on_stdout():
            figures = estimate(run, selected.dataset_id)
        if as_json:
            print_json(figures)
        else:
            rows = [[name.replace("_", " "), value] for name, value in figures.items()]
            print_table("Dry run", ["figure", "value"], rows)
        return
    with only_results_on_stdout():
        result = run_train(run, selected.dataset_id, force=force, must_resume=resume)
    if as_json:
        print_json(model_json(result))
    else:
        valid = result.metrics["valid"]
        print_table(f"Model {result.model_id}", ["metric", "valid"], list(valid.items()))
        print(result.location)


@app.command(epilog=examples("evaluate -c my.yaml", "evaluate -c my.yaml --model 0a1b2c3d4e5f"))
@runs_on_cluster
def evaluate(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    map_items: MapItemsOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank held-out items with a model and two baselines, on valid and test.

    The baselines are the most popular items, and the most frequent successors of the last item; a
    model that loses to one is named. Results go to reports/, and to metrics.json of the model.
    """
    from pipelines.evaluate import protocol_text, run_evaluate

    selected = select(config, overrides, dataset, model)
    with only_results_on_stdout():
        result = run_evaluate(
            selected.loaded.config,
            selected.dataset_id,
            selected.model_id,
            map_items=map_items,
            force=force,
        )
    if as_json:
        print_json(evaluation_json(result, selected.loaded))
    else:
        print_metrics(result.metrics, protocol_text(selected.loaded.config))


@app.command(
    epilog=examples(
        "score -c my.yaml",
        "score -c my.yaml -s score.k=20 -s score.layout=long",
        "score -c my.yaml --model 0a1b2c3d4e5f --since LATEST",
        "score -c my.yaml -s score.users=segment.csv",
    )
)
@runs_on_cluster
def score(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    map_items: MapItemsOption = False,
    since: SinceOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the top-K recommendations of every user to parquet.

    The same command after an interruption scores only the parts that are missing. Beside the parts
    are report.json and report.png (coverage, popularity, scores, overlap with the run before);
    manifest.json comes last. docs/recommendations.md has the layouts and example queries.
    """
    from pipelines.score.stage import run_score

    selected = select(config, overrides, dataset, model)
    with only_results_on_stdout():
        result = run_score(
            selected.loaded.config,
            selected.dataset_id,
            selected.model_id,
            map_items=map_items,
            force=force,
            since=since,
        )
    if as_json:
        print_json(run_json(result))
    else:
        print(result.location)


@app.command(
    epilog=examples(
        "pipeline --config pipelines/configs/quickstart.yaml",
        "pipeline -c my.yaml -s root=s3://bucket/prefix --json",
    )
)
@runs_on_cluster
def pipeline(
    config: ConfigOption = None,
    overrides: SetOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Preprocess, train, evaluate and score; finished stages are skipped.

    After an interruption the same command goes on where it was. With a changed setting only the
    stages that depend on it run anew.
    """
    from pipelines.evaluate import protocol_text
    from pipelines.run_pipeline import run_pipeline

    loaded = load_config(config, overrides or ())
    with only_results_on_stdout():
        result = run_pipeline(loaded.config, force=force)
    if as_json:
        stages = {
            "dataset": dataset_json(result.dataset),
            "model": model_json(result.model),
            "evaluation": evaluation_json(result.evaluation, loaded),
            "recommendations": run_json(result.recommendations),
        }
        print_json(stages)
        return
    print_metrics(result.evaluation.metrics, protocol_text(loaded.config))
    for name in ("dataset", "model", "recommendations"):
        print(f"{name:16} {getattr(result, name).location}")


@app.command(
    epilog=examples(
        "tune --space hyper.test --config my.yaml",
        "tune -c my.yaml -s 'tune.space={k_interests: {choice: [5, 10]}}' -s tune.engine=grid",
    )
)
@runs_on_cluster
def tune(
    config: ConfigOption = None,
    overrides: SetOption = None,
    space: SpaceOption = None,
    dataset: DatasetOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search hyper-parameters on valid; an interrupted search goes on. Test: once, for the best."""
    from pipelines.evaluate import protocol_text
    from pipelines.tune.report import print_leaderboard
    from pipelines.tune.stage import run_tune

    selected = select(config, with_space(overrides, space), dataset)
    loaded = selected.loaded
    with only_results_on_stdout():
        if dataset is None:
            from pipelines.preprocess.stage import run_preprocess

            run_preprocess(loaded.config)
        result = run_tune(loaded.config, selected.dataset_id, force=force)
    if as_json:
        print_json(search_json(result, loaded))
        return
    print_leaderboard(result)
    print_metrics(result.evaluation.metrics, protocol_text(loaded.config))
    for name, path in (("search", ""), ("configuration", "/best.yaml")):
        print(f"{name:16} {result.location}{path}")
    print(f"{'model':16} {result.manifest['best']['model_id']}")


@app.command(
    "config",
    epilog=examples(
        "config", "config -c my.yaml -s model.k_interests=10", "config --schema > schema.json"
    ),
)
def show_config(
    config: ConfigOption = None,
    overrides: SetOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema for editors.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the effective configuration and where each value came from.

    The command line (--set) wins over the file, the file over the defaults. The output is a
    complete configuration file.
    """
    if schema:
        print_json(json_schema())
        return
    loaded = load_config(config, overrides or ())
    if as_json:
        from lightsans.config import to_dict

        print_json({"config": to_dict(loaded.config), "origins": dict(loaded.origins)})
        return
    print(_annotated_yaml(loaded))


@app.command(epilog=examples("fetch ml-100k", "fetch ml-1m --to data", "fetch generated"))
def fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m, or generated (a made-up log).")],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Where to put it.")] = "data",
    source: Annotated[
        str, typer.Option(help="auto, grouplens, or recbole (ml-100k out of its wheel).")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Download a public log and check it. MovieLens is free for research, not for resale.

    Writes DIR/NAME.inter, titles in DIR/NAME.item, and their checksums; files that are there and
    unchanged are kept. Without a network, DIR/NAME.zip from GroupLens will do.
    """
    from pipelines.fetch import run_fetch

    with only_results_on_stdout():
        result = run_fetch(name, to, source)
    if as_json:
        print_json({"name": name, "paths": [str(path) for path in result.paths]})
    else:
        for path in result.paths:
            print(path)


@app.command(
    epilog=examples(
        "recommend -c my.yaml --user 17",
        "recommend -c my.yaml --user 196 --items data/ml-100k.item -k 20",
    )
)
def recommend(
    user: Annotated[str, typer.Option("--user", "-u", help="User id, as in the log.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    items: Annotated[
        str | None,
        typer.Option(
            "--items", metavar="FILE", help="Item table with titles: parquet, csv or .item."
        ),
    ] = None,
    title_column: Annotated[
        str | None,
        typer.Option(
            "--title-column", metavar="NAME", help="Default: the first that is named so or alike."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to show.")] = 10,
    map_items: MapItemsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show one user's history and recommendations.

    Both are those of the dataset and the model that the configuration stands for. No Ray is
    started, nothing is written.
    """
    from pipelines.score.one_user import load_titles, recommend_for_user

    selected = select(config, [*(overrides or ()), f"score.k={k}"], dataset, model)
    titles = load_titles(selected.loaded.config, items, title_column) if items else {}
    view = recommend_for_user(
        selected.loaded.config,
        selected.dataset_id,
        selected.model_id,
        user,
        map_items=map_items,
    )
    recent = view.history[:k]
    if as_json:
        print_json(
            {
                "user": view.user_id,
                "source": view.source,
                "history": [_item_json(item, titles) for item in recent],
                "recommendations": [
                    {**_item_json(item, titles), "score": value}
                    for item, value in view.recommendations
                ],
            }
        )
        return
    print_table(
        f"User {user}: {len(recent)} of {len(view.history)} items, newest first",
        ["item", "title"],
        [[str(item), titles.get(str(item), "")] for item in recent],
    )
    print_table(
        f"Top {k} ({view.source})",
        ["rank", "item", "title", "score"],
        [
            [rank, str(item), titles.get(str(item), ""), value]
            for rank, (item, value) in enumerate(view.recommendations, 1)
        ],
    )


@app.command(epilog=examples("models -c my.yaml"))
def models(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List trained models with their metrics, oldest first."""
    from pipelines.train.model_directory import read_metrics

    loaded = load_config(config, overrides or ()).config
    directory = locate(loaded.root, loaded.storage) / "models"
    found = []
    for name, manifest in finished_directories(directory):
        metrics = read_metrics(directory / name)
        found.append({**manifest, "id": name, "metrics": metrics})
    if as_json:
        print_json({"models": found})
        return
    rows = [
        [
            entry["id"],
            entry["created_at"],
            entry["dataset_id"],
            entry["best_epoch"],
            entry["metrics"]["valid"].get("ndcg@10", "not evaluated"),
            entry["metrics"].get("test", {}).get("ndcg@10", "not evaluated"),
        ]
        for entry in found
    ]
    header = ["model", "created", "dataset", "best epoch", "valid ndcg@10", "test ndcg@10"]
    print_table(f"{len(rows)} models in {directory}", header, rows)


add_publish_commands(app)
add_job_commands(app)
add_recbole_commands(app)
add_export_commands(app)


def _item_json(item: str | int, titles: Mapping[str, str]) -> dict[str, object]:
    """One item for ``--json``, with its title where one is known."""
    title = titles.get(str(item))
    return {"item": item} if title is None else {"item": item, "title": title}


def _annotated_yaml(loaded: LoadedConfig) -> str:
    """The configuration as YAML, with the origin of each value that is not a default."""
    lines = ["# Values without a remark are defaults."]
    path: list[str] = []
    for line in dump_yaml(loaded.config).splitlines():
        name = line.split(":", 1)[0]
        depth = (len(name) - len(name.lstrip())) // 2
        path[depth:] = [name.strip()]
        origin = loaded.origins.get(".".join(path), "default")
        lines.append(line if origin == "default" else f"{line}  # {origin}")
    return "\n".join(lines)


@contextmanager
def _plain_errors(exit_with: Callable[[int], None]) -> Iterator[None]:
    """Errors that a person can mend are told in a line; others keep their traceback."""
    try:
        yield
    except (ConfigError, InputError, NotFoundError, VocabularyMismatchError) as error:
        log_error(f"error: {error}", error)
        exit_with(EXIT_USAGE)
    except GateError as error:
        log_error(f"not published: {error}", error)
        exit_with(EXIT_GATE)
    except LightSANsError as error:
        log_error(f"failed: {error}", error)
        exit_with(EXIT_FAILED)
    except KeyboardInterrupt as error:
        log_error("interrupted; the same command goes on from here", error)
        exit_with(130)
    except Exception as error:
        log_error("failed unexpectedly", error, with_traceback=True)
        exit_with(EXIT_FAILED)


def main() -> None:
    """Run the command line and exit with its status."""
    # As Kubernetes and schedulers end a process: leave in order, give back the lease, stop Ray.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with _plain_errors(sys.exit):
        configure_logs()
        app()


if __name__ == "__main__":
    main()
