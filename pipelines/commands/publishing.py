"""The commands `nightly`, `publish`, `rollback`, `resume` and `recommendations`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from lightsans.config import RunConfig
from lightsans.errors import ConfigError, GateError
from lightsans.storage.location import Location, locate
from lightsans.storage.records import to_json
from pipelines.commands.cluster import runs_on_cluster
from pipelines.commands.options import (
    ConfigOption,
    JsonOption,
    RunArgument,
    SetOption,
    examples,
    read_config,
)
from pipelines.console.output import (
    only_results_on_stdout,
    print_json,
    print_table,
    with_interval,
)
from pipelines.session.clusters import expect_own_ray

# Stages are imported by the commands that run them: `--help` must not wait for Ray and torch.

AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="DATE", help="Read the log up to this date or time; or set data.as_of."
    ),
]
InsistOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Publish after a rollback, also the run that was rolled back; make a date that is "
        "older than the published one, without publishing it, or still to come.",
    ),
]


CatchUpOption = Annotated[
    bool,
    typer.Option(
        "--catch-up",
        help="First run the nights that were missed since the newest published one, at most "
        "nightly.catch_up; older ones are reported as passed over.",
    ),
]


def nightly(
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_of: AsOfOption = None,
    catch_up: CatchUpOption = False,
    force: InsistOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make, check and publish the recommendations of a date; the same date again does nothing.

    Exit status 3: the run is not good enough (`nightly` in the configuration), what was published
    stays published, and root/reports/nightly-DATE.json holds the numbers. After `rollback`, and for
    a date before the published one, the run is made and kept, but not published.
    """
    loaded = read_config(config, overrides).config
    if as_of is not None and not as_of.strip():  # a variable that was not set, most likely
        raise ConfigError("--as-of is empty; give a date, or leave it out and set data.as_of")
    expect_own_ray()
    from pipelines.nightly.catch_up import run_missed_nights
    from pipelines.nightly.stage import run_nightly

    try:
        with only_results_on_stdout():
            missed = run_missed_nights(loaded, as_of, force=force) if catch_up else []
            result = run_nightly(loaded, as_of, force=force)
    except GateError as error:
        if as_json:
            print_json({"outcome": "refused", **error.report})
        raise
    if as_json:
        content = asdict(result) | {"path": result.location.uri, "report": result.report.uri}
        del content["location"]
        if catch_up:
            names = ("as_of", "outcome", "run_id")
            content["caught_up"] = [{n: getattr(each, n) for n in names} for each in missed]
        print_json(content)
    else:
        why = f": {result.reason}" if result.reason else ""
        print(f"{result.outcome}: {result.run_id} ({result.location}){why}")


def publish(
    run_id: RunArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run the published one, whatever the gate says."""
    from pipelines.publish import publish_run, read_published

    loaded = read_config(config, overrides).config
    made = publish_run(read_published(locate(loaded.root, loaded.storage)), run_id)
    _print_publication(made, as_json)
    _write_to_table(loaded, run_id)


def rollback(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Publish again what was published before; twice goes back one further.

    Nights are then made and kept, but not published, until `publish` or `resume`.
    """
    from pipelines.publish import read_published, roll_back

    loaded = read_config(config, overrides).config
    made = roll_back(read_published(locate(loaded.root, loaded.storage)))
    _print_publication(made, as_json)
    _write_to_table(loaded, made.run_id)


def resume(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Let nights publish again after a rollback; the run that was rolled back stays withdrawn."""
    from pipelines.publish import read_published, resume

    before = read_published(_root(config, overrides))
    made = resume(before)
    if as_json:
        print_json({"resumed": made is not None, "run_id": before.run_id})
    elif made is None:
        print(f"nights publish already; published: {before.run_id or 'nothing'}")
    else:
        print(f"nights publish again; until the next one: {made.run_id}")


def recommendations(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List the finished runs, newest first: their dates, metrics, and which one is published."""
    from pipelines.operations.runs import list_runs
    from pipelines.publish import latest_run_id

    root = _root(config, overrides)
    found = list_runs(root)
    if as_json:
        listed = [to_json(run) for run in found]
        print_json({"published": latest_run_id(root), "recommendations": listed})
        return
    rows = [
        [
            run.id,
            run.created_at,
            run.as_of or "",
            run.model_id,
            run.users,
            with_interval(run.metrics, run.intervals, "ndcg@10"),
            "yes" if run.published else "",
        ]
        for run in found
    ]
    header = ["run", "created", "as of", "model", "users", "test ndcg@10", "published"]
    print_table(f"{len(rows)} runs in {root / 'recommendations'}", header, rows)


def add_publish_commands(app: typer.Typer) -> None:
    """Give the command line `nightly`, `publish`, `rollback`, `resume` and `recommendations`."""
    app.command(
        epilog=examples(
            "nightly --config my.yaml --as-of 2026-11-05",
            "nightly -c my.yaml --as-of $(date -u +%F) -s nightly.max_relative_drop=0.1",
            "nightly -c my.yaml --as-of $(date -u +%F) --catch-up",
        )
    )(runs_on_cluster(nightly))
    app.command(epilog=examples("publish 0a1b2c3d4e5f --config my.yaml"))(publish)
    app.command(epilog=examples("rollback --config my.yaml"))(rollback)
    app.command(epilog=examples("resume --config my.yaml"))(resume)
    app.command(epilog=examples("recommendations --config my.yaml"))(recommendations)


def _root(config: str | None, overrides: list[str] | None) -> Location:
    loaded = read_config(config, overrides).config
    return locate(loaded.root, loaded.storage)


def _write_to_table(config: RunConfig, run_id: str) -> None:
    """Commit the published run to ``score.table``, if there is one; the pointer has moved."""
    if config.score.table.uri is not None:
        from pipelines.score.table import write_to_table

        with only_results_on_stdout():
            write_to_table(config, run_id)


def _print_publication(made: Any, as_json: bool) -> None:
    if as_json:
        print_json(asdict(made))
    elif made.instead_of == made.run_id:
        print(f"published already: {made.run_id}; nights publish again")
    else:
        date = f" of {made.as_of}" if made.as_of else ""
        print(f"published: {made.run_id}{date}, instead of {made.instead_of or 'nothing'}")
