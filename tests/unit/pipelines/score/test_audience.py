"""Audiences, part by part in this process."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from lightsans.config.file import load_config
from lightsans.errors import LeaseError
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.stages.seen_rows import SeenRows
from lightsans.storage.location import locate
from lightsans.storage.manifest_kinds import RunQuestion
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.score import audience
from pipelines.score.shared_model import load_shared
from pipelines.session.lease import Lease, Owner
from tests.scored_here import MODEL

PART = "part-00001.parquet"


@pytest.fixture
def job(tmp_path, monkeypatch):
    config = load_config(None, [f"root={tmp_path}", "audience.k=5"]).config
    root = locate(str(tmp_path), config.storage)
    dataset = root / "datasets" / "d"
    manifest = write_synthetic_dataset(dataset, 60, 40, history=6, num_parts=3)
    torch.manual_seed(0)
    write_synthetic_model(root / "models" / "m", MODEL, 40, "d")
    monkeypatch.setattr(ray, "get", lambda packed: packed)
    return audience._Job(
        config, dataset, root / "audience" / "a", manifest, "w" * 64,
        np.array([3, 7, 9]), SeenRows(False), Owner(root / "locks" / "a.json", None),
    )  # fmt: skip


def make_part(job):
    model = job.dataset.parent.parent / "models" / "m"
    question = RunQuestion(dataset_id="d", model_id="m", map_items=False, settings={})
    choice = read_item_choice(job.config)
    shared: Any = load_shared(job.config, job.dataset, model, question, choice, None)
    audience._make_part(job, [shared], PART)
    return job.part(PART).read_table()


def test_users_that_are_scored_at_once_change_no_audience(job):
    whole = make_part(job)
    few = replace(job.config, audience=replace(job.config.audience, batch_size=7))
    again = make_part(replace(job, config=few, weights="v" * 64))
    assert whole.num_rows == 15
    for name in ("place", "user_id"):
        assert again[name].equals(whole[name])
    np.testing.assert_allclose(
        again["log_share"].to_numpy(), whole["log_share"].to_numpy(), atol=1e-5
    )


def test_a_worker_of_a_lost_owner_writes_no_part(job, tmp_path):
    lock = locate(str(tmp_path / "lock.json"), job.config.storage)
    Lease(lock, "another owner", 60).take()
    with pytest.raises(LeaseError, match="lost to another owner"):
        make_part(replace(job, owner=Owner(lock, "the token of before")))
    assert not job.part(PART).exists()


def test_items_of_the_list_that_count_zero_have_no_audience(job):
    items = (job.dataset / "items.parquet").read_table()
    place = items.schema.get_field_index("count")
    counts = np.where(np.arange(1, 41) == 7, 0, items["count"].to_numpy())
    (job.dataset / "items.parquet").write_table(
        items.set_column(place, items.schema.field(place), pa.array(counts))
    )
    assert set(make_part(job)["place"].to_pylist()) == {0, 2}
