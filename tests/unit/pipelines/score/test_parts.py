"""Parts of a run, each scored and committed by one process."""

import pyarrow as pa
import pytest

from lightsans.errors import LeaseError
from pipelines.score import stage
from pipelines.session.lease import Lease
from tests.scored_here import finished_runs, make_root, score, scorer_of, without_ray


@pytest.fixture
def root(tmp_path, monkeypatch):
    without_ray(monkeypatch)
    return make_root(tmp_path)


def test_a_worker_of_a_lost_owner_replaces_nothing(root, monkeypatch):
    """Its driver slept for longer than the lease; the run is another's by now."""
    first = score(root)
    (first.location / "manifest.json").delete()
    committed = (first.location / "_commits" / "part-00000.parquet.json").read_bytes()
    lock = root / "locks" / f"run-{first.run_id}.json"

    def lose(job, choice):
        content = lock.read_json()
        lock.write_json({**content, "expires_at": "2020-01-01T00:00:00+00:00"})
        Lease(lock, "another owner", 60).take()
        scorer_of(job, choice)(pa.table({"name": ["part-00000.parquet"]}))

    monkeypatch.setattr(stage, "_score_parts", lose)
    with pytest.raises(LeaseError, match="lost to another owner"):
        score(root)
    assert (first.location / "_commits" / "part-00000.parquet.json").read_bytes() == committed
    assert not finished_runs(root)
