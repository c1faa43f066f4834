"""The commands `status` and `clean`: a root at a glance, and without what nobody needs."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from lightsans.storage.location import locate
from pipelines.commands.options import ConfigOption, JsonOption, SetOption, examples, read_config
from pipelines.console.output import print_json, print_table, with_interval

# What reads the root is imported by the commands: `--help` must not wait for it.

NightsOption = Annotated[
    int, typer.Option("--nights", min=0, help="How many of the last nights to show.")
]

CleanDryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be removed, and why; remove nothing.")
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
    if estimate is None:
        return ""
    return with_interval({name: estimate.value}, {name: (estimate.low, estimate.high)}, name)


def add_operations_commands(app: typer.Typer) -> None:
    """Add `status` and `clean`."""
    app.command(epilog=examples("clean -c my.yaml --dry-run", "clean -c my.yaml -s clean.keep=3"))(
        clean
    )
    app.command(epilog=examples("status -c my.yaml", "status -c my.yaml --nights 30 --json"))(
        status
    )
