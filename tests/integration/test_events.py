"""A log of views and purchases through the stages."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import RunConfig
from lightsans.errors import ConfigError, InputError
from pipelines.evaluate.stage import run_evaluate
from pipelines.preprocess.stage import PreprocessResult, run_preprocess
from pipelines.score.stage import run_score
from pipelines.train.stage import run_train
from tests.logs_on_disk import write_bytes

pytestmark = pytest.mark.usefixtures("ray_cluster")

EVENTS = (
    "data.columns.event=what",
    "data.events={purchase: {input: true, target: true, seen: true, weight: 2}, "
    "view: {input: true}, refund: {}}",
)


def write_log(path: Path, users: range) -> Path:
    """Purchases of items that were viewed a few seconds or a day before; and other events."""
    rng, lines = random.Random(users.start), ["user_id,item_id,timestamp,what"]
    for user in users:
        time = 1_700_000_000
        for _ in range(8):
            item = int(30 * rng.random() ** 2)
            lines.append(f"u{user},i{item},{time},view")
            lines.append(f"u{user},i{30 + item % 10},{time + 1},view")
            time += rng.choice([60, 86_400])
            lines.append(f"u{user},i{item},{time},purchase")
            time += 86_400
        lines.append(f"u{user},i1,{time},refund")
        lines.append(f"u{user},i1,{time},share")
    return write_bytes(path, "\n".join([*lines, ""]).encode())


def rows_of(directory) -> list[dict[str, Any]]:
    names = [name for name in directory.children() if name.startswith("part-")]
    table = pa.concat_tables([(directory / name).read_table() for name in names])
    return list(table.to_pylist())


def fingerprints(made) -> list[tuple[str, int]]:
    rows = rows_of(made.location / "sequences")
    return sorted((row["user_id"], row["fingerprint"]) for row in rows)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "monday.csv", range(60))


@pytest.fixture(scope="module")
def config(ray_cluster, tmp_path_factory, tiny_config, log) -> RunConfig:
    made: RunConfig = tiny_config(
        tmp_path_factory.mktemp("root"), f"data.input={log}", *EVENTS, "train.epochs=1",
        "train.num_workers=1", "score.k=30", "evaluate.remove_seen=true", "data.num_parts=3",
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def made(config) -> PreprocessResult:
    return run_preprocess(config)


def target_counts(made) -> dict[str, int]:
    items = pq.read_table((made.location / "items.parquet").path).to_pylist()
    return {item["raw_item_id"]: item["target_count"] for item in items}


def test_rows_of_every_event_are_counted_and_targets_are_popular(made):
    rows = made.manifest.rows
    assert made.manifest.format_version == 4
    assert rows.events == {"view": 960, "purchase": 480, "refund": 60, "share": 60}
    assert (rows.read, rows.valid, rows.unused) == (1560, 1440, 120)
    targets = target_counts(made)
    assert sum(targets.values()) == 480
    assert {targets[f"i{item}"] for item in range(30, 40)} == {0}


def test_purchases_are_predicted_from_views_and_purchases(config, made, log):
    model = run_train(config, made.dataset_id)
    evaluated = run_evaluate(config, made.dataset_id, model.model_id)
    assert evaluated.metrics["model"]["valid"] == pytest.approx(model.metrics.valid)
    viewed = evaluated.figures.segments["target viewed"]
    users = {label: found.users for label, found in viewed.items()}
    assert sum(users.values()) == 60
    assert min(users.values()) > 10

    run = run_score(config, made.dataset_id, model.model_id)
    lists = {row["user_id"]: row["item_ids"] for row in rows_of(run.location)}
    text = [line.split(",") for line in log.read_text().splitlines()[1:]]
    num_bought = sum(count > 0 for count in target_counts(made).values())
    assert len(lists) == 60
    for user, listed in lists.items():
        bought = {item for name, item, _, what in text if name == user and what == "purchase"}
        assert not bought & set(listed)
        assert not {f"i{item}" for item in range(30, 40)} & set(listed)  # never bought by anybody
        assert len(listed) == num_bought - len(bought)


def test_new_files_give_the_sequences_that_all_files_give(config, made, log, tmp_path):
    grown = write_log(tmp_path / "tuesday.csv", range(40, 80))
    both = replace(config.data, input=(str(log), str(grown)))
    later = run_preprocess(replace(config, data=replace(both, base=made.dataset_id)))
    whole = run_preprocess(replace(config, data=both))
    assert later.manifest.fingerprint != made.manifest.fingerprint
    assert later.manifest.rows.events == whole.manifest.rows.events
    assert target_counts(later) == target_counts(whole)
    assert fingerprints(later) == fingerprints(whole)


def test_events_that_are_not_there_are_told_and_bases_have_the_same(tmp_path, tiny_config, log):
    wrong = "data.events={view: {input: true}, purchas: {target: true}}"
    with pytest.raises(InputError, match=r"no row of the log is one.*did you mean purchase"):
        run_preprocess(tiny_config(tmp_path, f"data.input={log}", EVENTS[0], wrong))
    base = run_preprocess(tiny_config(tmp_path, f"data.input={log}")).dataset_id
    changed = tiny_config(tmp_path, f"data.input={log}", *EVENTS, f"data.base={base}")
    with pytest.raises(ConfigError, match=r"data\.columns is .* was read with"):
        run_preprocess(changed)
