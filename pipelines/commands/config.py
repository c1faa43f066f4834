"""The commands `config` and `fetch`: settings and data before the first stage."""

from typing import Annotated

import typer

from lightsans.config.file import LoadedConfig, dump_yaml
from lightsans.config.json_schema import json_schema
from pipelines.commands.options import ConfigOption, JsonOption, SetOption, examples, read_config
from pipelines.console.output import only_results_on_stdout, print_json


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
    loaded = read_config(config, overrides)
    if as_json:
        from lightsans.config import to_dict

        print_json({"config": to_dict(loaded.config), "origins": dict(loaded.origins)})
        return
    print(_annotated_yaml(loaded))


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


def add_config_commands(app: typer.Typer) -> None:
    """Add `config` and `fetch`."""
    app.command(
        "config",
        epilog=examples(
            "config", "config -c my.yaml -s model.k_interests=10", "config --schema > schema.json"
        ),
    )(show_config)
    app.command(epilog=examples("fetch ml-100k", "fetch ml-1m --to data", "fetch generated"))(fetch)
