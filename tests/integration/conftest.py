"""Fixtures of the tests of stages: one small log, and a configuration that trains in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightsans.config import RunConfig
from lightsans.config.file import load_config
from lightsans.synthetic.logs import generate_blocks, write_inter
from pipelines.nightly.stage import NightlyResult, run_nightly
from tests.commands import SMALL_RUN
from tests.nights import FIRST, SECOND, latest, write_log

TINY = (*SMALL_RUN, "train.epochs=6")

LONGEST_FIRST = (
    *("readme", "tune", "benchmarks", "preflight", "wheel", "train", "nightly", "preprocess"),
    *("pipeline", "jobs", "preprocess_kills", "backtest", "autoscaling", "score", "score_rules"),
)
"""Files that take minutes, without ``test_``: none of them may be left when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take."""

    def rank(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 300 users and 120 items in which what comes next depends on what came last."""
    path = tmp_path_factory.mktemp("log") / "small.inter"
    write_inter(path, generate_blocks(300, 120, 6000, seed=3))
    return path


@pytest.fixture(scope="session")
def tiny_config(small_log: Path) -> Callable[..., RunConfig]:
    """Make a configuration: ``tiny_config(root, "train.num_workers=1", …)``."""

    def make(root: Path | str, *overrides: str) -> RunConfig:
        settings = [f"root={root}", f"data.input={small_log}", *TINY, *overrides]
        return load_config(None, settings).config

    return make


class TwoNights(NamedTuple):
    """Nights that were made once for all tests of nights."""

    config: RunConfig
    first: NightlyResult
    second: NightlyResult
    report: dict[str, Any]
    """Report of the second."""


@pytest.fixture(scope="session")
def two_nights(ray_cluster: object, tmp_path_factory: pytest.TempPathFactory) -> TwoNights:
    """Two nights in a row, the second one published; tests unpublish and publish them."""
    directory = tmp_path_factory.mktemp("nightly")
    write_log(directory / "log.csv")
    settings = [f"root={directory}/root", f"data.input={directory}/log.csv", *TINY]
    settings += ["data.columns.rating=null", "data.num_parts=1", "score.num_workers=1"]
    settings += ["train.num_workers=1", "train.epochs=3", "model.hidden_size=32"]
    config = load_config(None, [*settings, "nightly.max_relative_drop=0.3"]).config
    first = run_nightly(config, FIRST)
    assert latest(Path(config.root)) == first.run_id
    second = run_nightly(config, SECOND)
    return TwoNights(config, first, second, second.report.read_json())
