"""The command `inspect`: an unknown input, and the settings that would read it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.options import ConfigOption, JsonOption, SetOption, examples, read_config
from pipelines.console.logs import printable
from pipelines.console.output import print_json, print_table

if TYPE_CHECKING:  # `--help` must not wait for Arrow
    from lightsans.inspection.description import SampleFigures


def inspect(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, directories or globs of a log.")
    ],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a log: format, columns, likely settings to paste, shares of what is odd.

    Reads a bounded sample of the first file and the columns of some others.
    """
    from lightsans.inspection.description import inspect_input, settings_yaml
    from lightsans.warehouse.tables import list_log_inputs

    loaded = read_config(config, overrides).config
    listing = list_log_inputs(paths, loaded.storage)
    found = inspect_input(paths, listing.files, loaded.data)
    content = found.to_json()
    content["remarks"] = [*listing.notes("the input"), *content["remarks"]]
    if as_json:
        yaml = settings_yaml(found.settings) if found.settings else ""
        print_json({**content, "yaml": yaml})
        return
    print(printable(f"{', '.join(paths)}: {_summary(content)}"))
    print_table(
        "Columns",
        ["column", "type", "missing", "distinct", "examples", "likely"],
        [
            [
                column["name"],
                column["type"],
                f"{column['missing']:.1%}",
                column["distinct"],
                ", ".join(map(_short, column["examples"])),
                column["role"] or "",
            ]
            for column in content["columns"]
        ],
    )
    for line in _figures(found.figures):
        print(printable(line))
    for remark in content["remarks"]:
        print(printable(f"- {remark}"))
    if found.settings:
        print("\nSettings to paste:\n")
        print(printable(settings_yaml(found.settings), keep="\n"))


def _summary(content: dict[str, Any]) -> str:
    how = [content["format"], *filter(None, (content["compression"], content["encoding"]))]
    if content["separator"] is not None:
        how.append(f"separator {content['separator']!r}")
    whole = "a sample of the first" if content["is_sample"] else "all"
    return (
        f"files: {content['files']:,}, {content['bytes'] / 1e6:,.1f} MB; {', '.join(how)}; "
        f"looked at {whole} {content['sample_rows']:,} rows"
    )


def _figures(figures: "SampleFigures | None") -> list[str]:
    if figures is None:
        return []
    refused = [f"{reason} {share:.2%}" for reason, share in figures.refused.items()]
    lines = [f"users: {figures.users:,}, items: {figures.items:,}"]
    if figures.time_range:
        lines.append("time: {} to {}".format(*figures.time_range))
    lines.append(f"refused rows: {', '.join(refused) or 'none'}")
    if figures.broken_lines:
        lines.append(f"lines that cannot be split: {figures.broken_lines:,}")
    return [
        *lines,
        f"rows with the user and time of another: {figures.same_user_and_time:.2%}, with user "
        f"and item: {figures.same_user_and_item:.2%}, with all three: "
        f"{figures.duplicates:.2%}",
    ]


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:30]}…"


def add_inspect_command(app: typer.Typer) -> None:
    """Add `inspect`."""
    app.command(
        epilog=examples("inspect logs/", "inspect log.csv.gz --json", "inspect s3://bucket/log/")
    )(inspect)
