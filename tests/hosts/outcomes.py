"""The part of a stage's results that no fault may change; runs on a host.

python -m tests.hosts.outcomes ENDPOINT STAGE ROOT prints it as JSON, with the moment at which the
stage's last file was written.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import botocore.session

from lightsans.stages.evaluate_job import WORK
from pipelines.preprocess.parts import WORK as NOTES
from tests.hosts.s3_files import objects, rows
from tests.s3_server import BUCKET

RESULTS = {
    "preprocess": r"datasets/\w+/manifest\.json",
    "train": r"models/\w+/manifest\.json",
    "evaluate": r"reports/evaluate-\w+/manifest\.json",
    "score": r"recommendations/\w+/manifest\.json",
    "tune": r"tune/\w+/manifest\.json",
    "nightly": r"reports/nightly-[\d-]+\.json",
}
"""Name of the file, below the root, that makes a stage's result exist."""


def read_json(client: Any, key: str) -> Any:
    """Content of an object."""
    return json.loads(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def rounded(values: Any) -> Any:
    """The same values, with floats to four digits: training sums in an order of its own."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    return round(values, 4) if isinstance(values, float) else values


def tables(client: Any, prefix: str) -> dict[str, Any]:
    """Size and entity tag of every table below a prefix."""
    found = objects(client, prefix)
    assert not any({WORK, NOTES} & set(key.split("/")) for key in found), "half-written"
    return {key.removeprefix(prefix): found[key] for key in found if key.endswith(".parquet")}


def trained(client: Any, directory: str) -> Any:
    """Metrics of a model."""
    return rounded(read_json(client, f"{directory}/metrics.json"))


def tried(client: Any, directory: str) -> Any:
    """Values, state and learning curve of each trial of a search."""
    names = sorted(objects(client, directory + "/trials/"))
    records = [read_json(client, name) for name in names if name.count("/") == 4]
    return [
        [record["values"], record["status"], [rounded(row["valid"]) for row in record["history"]]]
        for record in records
    ]


OUTCOMES: dict[str, Callable[[Any, str], Any]] = {
    "preprocess": tables,
    "train": trained,
    "evaluate": tables,
    "score": lambda client, directory: rows(client, f"{directory}/part-"),
    "tune": tried,
}


def outcome(client: Any, stage: str, root: str) -> dict[str, Any]:
    """The result of a stage below a root, and when it was there."""
    [key] = [key for key in objects(client, root + "/") if re.fullmatch(
        f"{re.escape(root)}/{RESULTS[stage]}", key)]  # fmt: skip
    ended = client.head_object(Bucket=BUCKET, Key=key)["LastModified"].timestamp()
    if stage == "nightly":
        report = read_json(client, key)
        lists = f"{root}/recommendations/{report['run_id']}"
        found = {"outcome": report["outcome"], "rows": OUTCOMES["score"](client, lists)}
    else:
        found = OUTCOMES[stage](client, key.rsplit("/", 1)[0])
    return {"result": found, "ended": ended}


if __name__ == "__main__":
    endpoint, stage, root = sys.argv[1:]
    made = botocore.session.get_session().create_client("s3", endpoint_url=endpoint)
    print(json.dumps(outcome(made, stage, root)))
