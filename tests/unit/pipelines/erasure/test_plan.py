"""Where erased users are, and what is done about it: without Ray."""

from itertools import pairwise, permutations

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lightsans.config import DataConfig, RunConfig
from lightsans.lists.id_lists import id_list_of
from lightsans.lists.id_search import IdSearch
from lightsans.storage.manifests import write_manifest
from pipelines.erasure.plan import backtest_roots, logs_below, plan_root
from pipelines.operations.listing import list_root
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest, run_manifest

SEARCH = IdSearch(id_list_of("--users", local("users"), pa.array(["erased-1", "ann"])))
USERS = pa.table({"user_id": ["ann", "bob"]})


def plan_of(root):
    plan = plan_root(root, SEARCH, frozenset())
    return [(step.path, step.action, step.users) for step in plan.steps]


def test_results_with_users_are_replaced_after_the_datasets_that_they_are_of(tmp_path):
    root = local(tmp_path)
    write_manifest(root / "datasets" / "d2", dataset_manifest("d2"))
    (root / "datasets" / "d2" / "sequences" / "p.parquet").write_table(USERS)
    write_manifest(root / "recommendations" / "of-users", run_manifest("r", dataset_id="other"))
    (root / "recommendations" / "of-users" / "p.parquet").write_table(USERS)
    write_manifest(root / "recommendations" / "of-d2", run_manifest("r", dataset_id="d2"))
    write_manifest(root / "recommendations" / "of-none", run_manifest("r", dataset_id="other"))
    found = plan_of(root)
    assert found[0] == ("datasets/d2", "replaced", 1)
    assert sorted(found[1:]) == [
        ("recommendations/of-d2", "replaced", 0),
        ("recommendations/of-users", "replaced", 1),
    ]


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_results_are_replaced_after_their_bases_however_old_they_say_they_are(tmp_path, names):
    """The new names of bases are written into what is made from them."""
    root = local(tmp_path)
    for base, name in pairwise([None, *names]):
        dataset, run = root / "datasets" / name, root / "recommendations" / name
        write_manifest(dataset, dataset_manifest(name, base=base))
        write_manifest(run, run_manifest(name, dataset_id=name, since=base))
        for directory in (dataset, run):
            (directory / "p.parquet").write_table(USERS)
            manifest = directory / "manifest.json"
            made_at = f"2026-01-0{1 + names[::-1].index(name)}T00:00:00+00:00"
            manifest.write_json(manifest.read_json() | {"created_at": made_at})
    rooms = ("datasets", "recommendations")
    assert [path for path, _, _ in plan_of(root)] == [f"{r}/{n}" for r in rooms for n in names]


def test_unfinished_work_leftovers_and_checkpoints_go_and_reports_are_rewritten(tmp_path):
    root = local(tmp_path)
    (root / "datasets/half/interactions/p.parquet").write_table(USERS)
    (root / "recommendations/half/p.parquet").write_bytes(b"PAR1 and no more")
    (root / "models/half/checkpoints/x/notes.json").write_json({})
    (root / "models/half/.weights.tmp").write_bytes(b"erased-1")
    write_manifest(root / "models" / "m", model_manifest("m"))
    (root / "models/m/checkpoints/x/notes.json").write_json({"user": "erased-1"})
    (root / "tune/s/trial.json").write_json({"user": "erased-1"})
    (root / "reports/nightly-2026-01-01.json").write_json({"reason": "of erased-1"})
    (root / "reports/nightly-2026-01-02.json").write_json({"reason": "of ann"})
    (root / "notes.txt").write_bytes(b"erased-1")
    actions = {path: action for path, action, _ in plan_of(root)}
    assert actions == {
        "datasets/half": "removed",
        "recommendations/half": "removed",
        "models/half": "removed",
        "models/m/checkpoints": "removed",
        "tune/s": "removed",
        "reports/nightly-2026-01-01.json": "rewritten",
        "notes.txt": "left",
    }


def test_files_written_aside_go_and_files_of_others_with_such_an_ending_are_left(tmp_path):
    root = local(tmp_path)
    for path in ("similar/.items.parquet.0a1b2c3d.tmp", "logs/day1.csv.tmp"):
        (root / path).write_bytes(b"erased-1")
    for path in ("logs/day2.parquet.tmp", "similar/.half.parquet.0a1b2c3d.tmp"):
        (root / path).write_bytes(b"PAR1 and no more")
    assert plan_of(root) == [
        ("logs/day1.csv.tmp", "left", 1),
        ("similar/.half.parquet.0a1b2c3d.tmp", "removed", 0),
        ("similar/.items.parquet.0a1b2c3d.tmp", "removed", 1),
    ]


def test_roots_of_backtests_are_planned_by_themselves_and_logs_are_spared(tmp_path):
    root = local(tmp_path)
    (root / "backtests/b/weekly/reports/nightly-2026-01-01.json").write_bytes(b"erased-1")
    (root / "backtests/b/report.json").write_bytes(b"erased-1")
    (root / "log.csv").write_bytes(b"user_id\nerased-1\n")
    assert backtest_roots(list_root(root)) == ["backtests/b/weekly"]
    config = RunConfig(root=str(tmp_path), data=DataConfig(input=(f"{tmp_path}/log.csv",)))
    plan = plan_root(root, SEARCH, logs_below(config, root))
    assert [(step.path, step.action) for step in plan.steps] == [
        ("backtests/b/report.json", "rewritten")
    ]


@pytest.mark.parametrize("scheme", ["", "delta://"])
def test_a_log_that_is_a_table_is_spared_with_its_history(tmp_path, scheme):
    log = tmp_path / "log"
    rows = pa.table({"user_id": ["erased-1"], "item_id": ["a"], "timestamp": [1]})
    write_deltalake(log, rows)
    DeltaTable(log).delete()
    write_deltalake(log, rows, mode="append")
    config = RunConfig(root=str(tmp_path), data=DataConfig(input=(f"{scheme}{log}",)))
    root = local(tmp_path)
    assert logs_below(config, root) == {(root / file.path).uri for file in list_root(root).files}
    assert plan_root(root, SEARCH, frozenset()).steps != ()
    assert plan_root(root, SEARCH, logs_below(config, root)).steps == ()
