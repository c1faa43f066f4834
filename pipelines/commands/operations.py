"""The commands `status`, `clean`, `erase` and `backtest`: nights at a glance, tidied, replayed."""

import re
from dataclasses import asdict, replace
from datetime import datetime, time
from typing import Annotated, Any

import typer

from lightsans.columns.times import zone_of
from lightsans.config import RunConfig
from lightsans.errors import ConfigError
from lightsans.storage.location import locate
from pipelines.commands.options import ConfigOption, JsonOption, SetOption, examples, read_config
from pipelines.console.output import only_results_on_stdout, print_json, print_table
from pipelines.session.clusters import expect_own_ray

# What does the work is imported by the commands: `--help` must not wait for it.

NightsOption = Annotated[
    int, typer.Option("--nights", min=0, help="How many of the last nights to show.")
]

CleanDryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be removed, and why; remove nothing.")
]

UsersOption = Annotated[
    str, typer.Option("--users", metavar="FILE", help="The users: one id a line, or a table.")
]
RetrainOption = Annotated[
    bool,
    typer.Option("--retrain", help="Then train and publish anew what is published, from scratch."),
]
AllowUnmatchedOption = Annotated[
    bool, typer.Option("--allow-unmatched", help="A list of which nobody is found is no error.")
]
EraseDryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
]

FirstOption = Annotated[str, typer.Option("--from", metavar="DATE", help="The first night.")]
LastOption = Annotated[str, typer.Option("--to", metavar="DATE", help="The last night.")]
EveryOption = Annotated[
    str, typer.Option("--every", metavar="STEP", help="Time between nights: 12h, 1d, 1w.")
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME[:KEY=VALUE;...]",
        help="A policy and the settings that make it; repeatable. Default: one, as configured.",
    ),
]


def status(
    config: ConfigOption = None,
    overrides: SetOption = None,
    nights: NightsOption = 7,
    as_json: JsonOption = False,
) -> None:
    """Show the last nights, what is at work, sizes by kind, and what to do next.

    Nothing is written and no Ray is started. A night that was killed is `died`.
    """
    loaded = read_config(config, overrides).config
    from pipelines.operations.status import read_status, stage_minutes

    found = read_status(locate(loaded.root, loaded.storage), nights)
    if as_json:
        print_json(found.to_json())
        return
    published = found.published
    if published is None:
        print("published: nothing")
    else:
        of, at = published["as_of"] or "unknown date", published["published_at"] or "unknown"
        print(f"published: {published['run_id']} of {of}, since {at}")
    rows = [
        [
            night.attempt.date,
            night.state,
            _metric(night.attempt, loaded.nightly.metric),
            " ".join(f"{name} {value:g}" for name, value in stage_minutes(night.attempt).items()),
            night.attempt.reason,
        ]
        for night in found.nights
    ]
    header = ["night", "outcome", f"test {loaded.nightly.metric}", "minutes by stage", "reason"]
    print_table(f"The last {len(rows)} nights", header, rows)
    if found.at_work:
        rows = [
            [each.owner, f"{each.host}, process {each.pid}", each.since, each.progress]
            for each in found.at_work
        ]
        print_table("At work", ["what", "where", "since", "how far"], rows)
    sizes = [
        [kind, size["files"], f"{size['bytes'] / 2**20:,.1f}"] for kind, size in found.sizes.items()
    ]
    print_table(f"Sizes below {found.root}", ["kind", "files", "MiB"], sizes)
    print("next:")
    for sentence in found.next:
        print(f"  {sentence}")


def clean(
    config: ConfigOption = None,
    overrides: SetOption = None,
    dry_run: CleanDryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what nobody needs any more, and say what and why.

    Section `clean` says how much stays. What is published, what a rollback brings back and what a
    living process makes or uses stays in any case; exports (serving/) are never touched.
    """
    loaded = read_config(config, overrides).config
    from pipelines.operations.clean import CleanResult, plan_clean
    from pipelines.operations.clean import clean as remove

    if dry_run:
        plan = plan_clean(loaded)
        found = CleanResult(plan.remove, plan.keep, ())
    else:
        found = remove(loaded)
    removed, kept, in_use = found.removed, found.kept, found.in_use
    freed = sum(decision.bytes for decision in removed)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "bytes": freed,
                "removed": [asdict(decision) for decision in removed],
                "in_use": [asdict(decision) for decision in in_use],
                "kept": [asdict(decision) for decision in kept],
            }
        )
        return
    rows = [[d.path, d.kind, f"{d.bytes / 2**20:,.2f}", d.why] for d in removed]
    word = "would be removed" if dry_run else "removed"
    title = f"{len(rows)} {word}, {freed / 2**20:,.1f} MiB; {len(kept)} results stay"
    print_table(title, ["path", "kind", "MiB", "why"], rows)
    for decision in in_use:
        print(f"stays, somebody began to use it: {decision.path}")


def _metric(attempt: Any, name: str) -> str:
    estimate = (attempt.figures.metrics or {}).get(name)
    return "" if estimate is None else f"{estimate:.4f}"


def backtest(
    first: FirstOption,
    last: LastOption,
    every: EveryOption = "1d",
    policies: PolicyOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay the nights of a log as they would have been, and lay policies side by side.

    Each policy has a root of its own below backtests/ID. A table and a picture show metrics, costs
    and decisions of every night, and how good the published lists were by what users did until the
    next night. Datasets are made from those before unless nightly.incremental says otherwise.
    Nobody is notified. The same command goes on after an interruption; a later --to adds nights.
    """
    read_config(config, overrides)  # mistakes are told before anything is imported
    expect_own_ray()
    from pipelines.backtest.dates import nights_between, parse_step
    from pipelines.backtest.report import (
        HEADER,
        MEASURED,
        SUMMARY,
        measured_rows,
        night_rows,
        summary_rows,
        write_report,
    )
    from pipelines.backtest.stage import Policy, backtest_config, run_backtest

    found = []
    for name, settings in parse_policies(policies or ["configured"]):
        loaded = read_config(config, [*(overrides or ()), *settings])
        # The log of a backtest changes no more, so its files need to be read but once.
        is_chosen = loaded.origins.get("nightly.incremental", "default") != "default"
        made = backtest_config(loaded.config, incremental=None if is_chosen else True)
        found.append(Policy(name=name, config=made, settings=tuple(settings)))
    dates = nights_between(first, last, parse_step(every))
    with only_results_on_stdout():
        result = run_backtest(found, dates, every)
        metric = found[0].config.nightly.metric
        content = write_report(result, found, metric)
    if as_json:
        print_json({**content, "path": result.location.uri})
        return
    print_table(f"Backtest of {len(dates)} nights", list(HEADER), night_rows(result.nights, metric))
    print_table("Policies", ["policy", *SUMMARY], summary_rows(content))
    print_table("What users did next", ["policy", *MEASURED], measured_rows(content))
    print(result.location)


def parse_policies(texts: list[str]) -> list[tuple[str, list[str]]]:
    """Names and settings of policies, from ``NAME:KEY=VALUE;KEY=VALUE``.

    Raises:
        ConfigError: A name cannot be that of a directory or comes twice, or a setting has no value.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, _, rest = text.partition(":")
        settings = [each.strip() for each in rest.split(";") if each.strip()]
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
            raise ConfigError(
                f"--policy {text}: {name!r} is no name; expected letters, digits, - and _ before "
                "the colon, such as weekly:nightly.train.every_nights=7"
            )
        if name in found:
            raise ConfigError(f"--policy {name} is given twice; name each policy once")
        without = [each for each in settings if "=" not in each]
        if without:
            raise ConfigError(f"--policy {text}: {without[0]!r} has no value; expected KEY=VALUE")
        found[name] = settings
    return list(found.items())


def erase(
    users: UsersOption,
    config: ConfigOption = None,
    overrides: SetOption = None,
    retrain: RetrainOption = False,
    allow_unmatched: AllowUnmatchedOption = False,
    dry_run: EraseDryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take users out of everything below the root, and search it to prove that.

    Datasets, runs, ranks and audiences are made again without them, under new ids; the published
    run, and those that rollbacks go back to, are replaced; reports and pages lose them. Keyed
    hashes of the users stay, by which every later dataset leaves them out. `models` marks who has
    learnt from them. The logs are not touched. Interrupted, the same command goes on.
    """
    loaded = read_config(config, overrides).config
    from pipelines.erasure.stage import run_erase

    with only_results_on_stdout():
        result = run_erase(loaded, users, dry_run=dry_run, allow_unmatched=allow_unmatched)
        made = _retrain(loaded) if retrain and not dry_run else None
    if as_json:
        print_json({"dry_run": dry_run, **asdict(result), "retrained": made})
        return
    for root in result.roots:
        rows = [[step.path, step.kind, step.action, step.users] for step in root.steps]
        title = f"{'To be done' if dry_run else 'Done'} below {root.root}: {len(rows)} steps"
        print_table(title, ["path", "kind", "action", "users"], rows)
        if root.models:
            marked = [[name, why] for name, why in root.models.items()]
            print_table("Models that learnt from erased users", ["model", "why"], marked)
    print(f"{result.found} of {result.listed} listed users were found, or erased before")
    if result.only_in_tables:
        print(f"{result.only_in_tables} ids are short: looked for in columns of users alone")
    if made is not None:
        print(f"retrained: {made}")


def _retrain(config: RunConfig) -> str:
    """Run the night of the published run again, from scratch; a sentence about what came of it."""
    from pipelines.nightly.stage import run_nightly
    from pipelines.publish import read_published
    from pipelines.run_pipeline import run_pipeline

    current = read_published(locate(config.root, config.storage)).current
    if current is None or current.as_of is None:
        run = run_pipeline(config).recommendations
        return f"run {run.run_id}; `submit.py publish {run.run_id}` publishes it"
    train = replace(config.nightly.train, every_nights=1, start="scratch")
    nightly = replace(config.nightly, train=train)
    night = run_nightly(replace(config, nightly=nightly), _date(current.as_of, config))
    return f"run {night.run_id} is {night.outcome}"


def _date(as_of: str, config: RunConfig) -> str:
    """A moment as a night is usually asked for: a date where it is midnight in data.timezone."""
    moment = datetime.fromisoformat(as_of).astimezone(zone_of(config.data.timezone))
    is_midnight = moment.time() == time.min
    return moment.date().isoformat() if is_midnight else moment.isoformat()


def add_operations_commands(app: typer.Typer) -> None:
    """Add `status`, `clean`, `erase` and `backtest`."""
    app.command(
        epilog=examples(
            "erase -c my.yaml --users requests.txt --dry-run",
            "erase -c my.yaml --users requests.txt --retrain",
        )
    )(erase)
    app.command(epilog=examples("clean -c my.yaml --dry-run", "clean -c my.yaml -s clean.keep=3"))(
        clean
    )
    app.command(epilog=examples("status -c my.yaml", "status -c my.yaml --nights 30 --json"))(
        status
    )
    app.command(
        epilog=examples(
            "backtest -c my.yaml --from 2026-10-01 --to 2026-10-30",
            "backtest -c my.yaml --from 2026-10-01 --to 2026-10-30 --every 1d --policy nightly "
            "--policy 'strict:nightly.gate=strict;nightly.max_relative_drop=0.02'",
        )
    )(backtest)
