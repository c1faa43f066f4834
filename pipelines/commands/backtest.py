"""The command `backtest`: nights of the past, under one policy or several side by side."""

import re
from typing import Annotated

import typer

from lightsans.errors import ConfigError
from pipelines.commands.options import ConfigOption, JsonOption, SetOption, examples, read_config
from pipelines.console.output import only_results_on_stdout, print_json, print_table

# Stages are imported by the command: `--help` must not wait for Ray and torch.

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
    from pipelines.backtest.dates import nights_between, parse_step
    from pipelines.backtest.report import HEADER, SUMMARY, night_rows, summary_rows, write_report
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


def add_backtest_command(app: typer.Typer) -> None:
    """Add `backtest`."""
    app.command(
        epilog=examples(
            "backtest -c my.yaml --from 2026-10-01 --to 2026-10-30",
            "backtest -c my.yaml --from 2026-10-01 --to 2026-10-30 --every 1d --policy nightly "
            "--policy 'strict:nightly.gate=strict;nightly.max_relative_drop=0.02'",
        )
    )(backtest)
