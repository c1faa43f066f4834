"""Items with features on Ray: a dataset, a model of two workers, lists, and a night after it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightsans.config import RunConfig
from lightsans.dataset.vocabulary import load_vocabulary
from lightsans.stages.feature_files import read_features
from lightsans.stages.item_features import learned_features
from lightsans.storage.location import Location, locate
from lightsans.storage.manifest_kinds import DatasetManifest
from lightsans.storage.manifests import require_manifest
from pipelines.erasure.stage import run_erase
from pipelines.preprocess.stage import run_preprocess
from pipelines.score.stage import run_score
from pipelines.train.stage import run_train

pytestmark = pytest.mark.usefixtures("ray_cluster")

FEATURES = ("data.item_features.categorical=[colour]", "data.item_features.numeric=[size]")


def write_items(path: Path, new: list[str]) -> None:
    """Items 1 to 120 of the small log, and new ones."""
    ids = [*(str(n) for n in range(1, 121)), *new]
    colours = [["red", "green"][n % 2] for n in range(len(ids))]
    sizes = pa.array(np.arange(len(ids), dtype=float))
    pq.write_table(pa.table({"item_id": ids, "colour": colours, "size": sizes}), path)


def recommended(config: RunConfig, dataset: str, model: str) -> set[str]:
    run = run_score(config, dataset, model)
    parts = [pq.read_table(path) for path in sorted(Path(run.location.path).glob("part-*.parquet"))]
    return set(pa.concat_tables(parts)["item_ids"].combine_chunks().flatten().to_pylist())


@pytest.fixture(scope="module")
def first(tiny_config, tmp_path_factory):
    """Configuration, dataset and model of a night with a new item."""
    directory = tmp_path_factory.mktemp("features")
    write_items(directory / "items.parquet", ["new1"])
    settings = ["train.epochs=1", "train.num_workers=2", "score.k=121", *FEATURES]
    config = tiny_config(
        directory / "root", f"data.item_table={directory}/items.parquet", *settings
    )
    made = run_preprocess(config)
    return config, made, run_train(config, made.dataset_id)


def test_a_new_item_is_in_dataset_model_and_lists(first):
    config, made, trained = first
    items = load_vocabulary(made.location)
    summary = made.manifest.item_features
    assert (summary.listed, summary.new) == (121, 1)
    assert items.raw_item_ids.to_pylist()[-1] == "new1"
    assert read_features(made.location).num_rows == items.num_items == made.manifest.items
    learned = learned_features(trained.location)
    assert learned is not None
    assert trained.manifest.item_features_sha256 is not None
    assert "new1" in recommended(config, made.dataset_id, trained.model_id)


def test_a_later_item_joins_the_dataset_of_a_base_and_the_lists_of_the_model_of_before(first):
    config, made, trained = first
    table = Path(config.data.item_table).with_name("later.parquet")
    write_items(table, ["new2"])
    data = replace(config.data, item_table=str(table), base=made.dataset_id)
    later = replace(config, data=data)
    second = run_preprocess(later)
    items = load_vocabulary(second.location)
    assert items.raw_item_ids.to_pylist()[-2:] == ["new1", "new2"]
    found = recommended(later, second.dataset_id, trained.model_id)
    assert "new2" in found
    assert "new1" not in found


def test_the_same_table_is_the_same_dataset_and_another_is_another(first):
    config, made, _ = first
    assert run_preprocess(config).skipped
    assert isinstance(made.location, Location)


def test_users_leave_a_dataset_whose_item_table_is_gone(tiny_config, tmp_path):
    write_items(tmp_path / "items.parquet", ["new1"])
    settings = [f"data.item_table={tmp_path}/items.parquet", *FEATURES]
    config = tiny_config(tmp_path / "root", *settings)
    made = run_preprocess(config)
    (tmp_path / "items.parquet").unlink()
    (tmp_path / "gone.txt").write_text("7\n")
    [erased] = run_erase(config, str(tmp_path / "gone.txt")).roots
    root = locate(config.root, config.storage)
    left = require_manifest(
        DatasetManifest, root / "datasets" / erased.replaced[made.dataset_id], "gone"
    )
    assert left.users == made.manifest.users - 1
    assert left.data == made.manifest.data
    assert left.item_features == made.manifest.item_features
