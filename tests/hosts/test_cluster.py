"""Commands from a host outside, on a head without CPUs and three workers that share only S3."""

import json
import time
from typing import Any

import pytest

from tests.hosts.cluster import DASHBOARD, HostCluster, settings
from tests.hosts.host import PROJECT
from tests.hosts.processes import wait_for
from tests.nights import FIRST, SECOND, write_log
from tests.s3_server import BUCKET

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]

ON_THREE = ("train.num_workers=3", "score.num_workers=3")
NIGHTS = ("nightly.incremental=true", "nightly.max_relative_drop=0.5", "nightly.beat_baselines=[]")
SPACE = {"learning_rate": {"loguniform": [0.003, 0.03]}, "n_heads": {"choice": [1, 2]}}
LIMIT_S = 420


def result_of(done: Any) -> dict[str, Any]:
    """JSON result of a command that must have succeeded."""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.fixture(scope="module")
def on_three(cluster: HostCluster) -> tuple[dict[str, Any], str]:
    """The pipeline over three hosts: its result, and what the host outside was told."""
    done = cluster.submit("pipeline", *settings("three", *ON_THREE), "--json", limit_s=LIMIT_S)
    return result_of(done), done.stderr


def test_the_pipeline_runs_over_three_hosts_and_its_progress_is_told_outside(cluster, on_three):
    result, told = on_three
    assert result["recommendations"]["users"] == result["dataset"]["users"] > 400
    made = cluster.rows("three", result["recommendations"]["run_id"])
    assert made["users"] == made["rows"] == result["dataset"]["users"]
    assert "instead of" not in told, "one train worker, and one actor of score, for each host"
    for words in ("submitted to", "preprocess: 5,101 rows", "epoch   3/3", "score: 500 users"):
        assert words in told
    assert not cluster.outside.run("pgrep", "raylet").stdout, "it is no part of the cluster"


def test_rays_own_command_finds_the_same_results_made(cluster, on_three):
    command = ["ray", "job", "submit", "--address", DASHBOARD, "--working-dir", ".", "--"]
    command += ["python", "submit.py", "pipeline", *settings("three", *ON_THREE), "--json"]
    done = cluster.outside.run(*command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    [made] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"data')]
    assert made["recommendations"]["run_id"] == on_three[0]["recommendations"]["run_id"]


def test_a_search_of_eight_trials_spreads_over_the_hosts(cluster, on_three):
    space = f"tune.space={json.dumps(SPACE)}"
    words = settings("three", space, "tune.max_trials=8", "tune.engine=random", "train.epochs=2")
    dataset = on_three[0]["dataset"]["dataset_id"]
    done = cluster.submit("tune", "--dataset", dataset, *words, "--json", limit_s=LIMIT_S)
    result = result_of(done)
    assert sum(result["trials"].values()) == 8
    assert set(result["trials"]) <= {"finished", "stopped"}


def test_two_nights_one_from_the_other_are_published(cluster, tmp_path):
    write_log(tmp_path / "log.csv")
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    for since, date in (("", FIRST), (FIRST, SECOND)):
        day = [header, *(row for row in rows if since <= row.split(",")[2] < date)]
        cluster.put(f"days/{date}.csv", "\n".join(day))
        days = f"data.input=s3://{BUCKET}/days/*.csv"
        words = ["nightly", *settings("nights", *ON_THREE, *NIGHTS, days), "--as-of", date]
        result = result_of(cluster.submit(*words, "--json", limit_s=LIMIT_S))
        assert result["outcome"] == "published", result
    report = json.loads(cluster.get(f"nights/reports/nightly-{SECOND}.json"))
    dataset = json.loads(cluster.get(f"nights/datasets/{report['dataset_id']}/manifest.json"))
    assert dataset["base"], "made from the dataset of the first night"
    assert cluster.get("nights/recommendations/LATEST") == report["run_id"]
    again = result_of(cluster.submit(*words, "--json"))
    assert again["run_id"] == report["run_id"]


def test_a_gate_that_refuses_is_told_outside_by_its_own_status(cluster):
    words = settings("gate", *ON_THREE, "nightly.beat_baselines=[]", "nightly.floors={ndcg@10: 1}")
    done = cluster.submit("nightly", *words, "--as-of", FIRST, limit_s=LIMIT_S)
    told = done.stdout + done.stderr
    assert done.returncode == 3, told[-6000:]
    assert "ndcg@10" in told
    report = json.loads(cluster.get(f"gate/reports/nightly-{FIRST}.json"))
    assert report["outcome"] == "refused", report
    assert "gate/recommendations/LATEST" not in cluster.objects("gate/recommendations/")


@pytest.mark.parametrize("name", ["root", "data.input"])
def test_relative_paths_are_refused_before_anything_is_sent(cluster, name):
    cluster.outside.write(f"{PROJECT}/here/log.csv", "user_id,item_id,timestamp\n")
    done = cluster.submit("preprocess", *settings("local"), "--set", f"{name}=here/log.csv")
    assert done.returncode == 2
    assert f"{name}=here/log.csv is relative to this directory" in done.stderr
    assert "submitted" not in done.stderr


def test_an_input_that_only_the_head_has_is_a_clear_error(cluster):
    cluster.head.write("/srv/log.csv", "user_id,item_id,timestamp\nu,i,1\n")
    done = cluster.submit("preprocess", *settings("local"), "--set", "data.input=/srv/log.csv")
    assert_explained(done, "never had it: a file must lie where every machine of a cluster can")


def test_a_root_that_machines_do_not_share_is_a_clear_error(cluster):
    done = cluster.submit("pipeline", *settings("local", *ON_THREE), "--set", "root=/srv/results")
    assert_explained(
        done, "root=/srv/results is not shared by the machines of the cluster: worker1"
    )


def assert_explained(done: Any, words: str) -> None:
    """The job's log says so in a line, and has no traceback."""
    told = done.stdout + done.stderr
    assert done.returncode == 2, told[-6000:]
    assert words in told
    assert "Traceback" not in told


def test_a_job_is_read_and_stopped_from_outside(cluster):
    words = settings("stopped", *ON_THREE, "train.epochs=500", "train.patience=500")
    job = json.loads(cluster.submit("pipeline", *words, "--no-wait", "--json").stdout)["job_id"]
    in_training = lambda: "epoch   1/500" in cluster.submit("logs", job).stdout  # noqa: E731
    assert wait_for(in_training, 240), cluster.submit("logs", job).stdout[-3000:]
    follower = cluster.start_job("logs", job, "--follow", limit_s=120)
    stopped = cluster.submit("stop", job)
    assert stopped.returncode == 0, stopped.stderr
    assert follower.wait() not in (0, 124), "it follows to the end, and tells what became of it"
    jobs = json.loads(cluster.submit("jobs", "--json").stdout)["jobs"]
    assert [each["status"] for each in jobs if each["job_id"] == job] == ["STOPPED"]
    assert wait_for(cluster.is_idle, 60), "hosts are free again"


def test_one_worker_host_makes_the_same_as_three(cluster, on_three):
    for worker in cluster.workers[1:]:
        worker.vanish()
    try:
        assert wait_for(lambda: cluster.alive() == 2, 120)
        began = time.monotonic()
        one = settings("one", "train.num_workers=1", "score.num_workers=1")
        alone = result_of(cluster.submit("pipeline", *one, "--json", limit_s=LIMIT_S))
        print(f"pipeline on one host: {time.monotonic() - began:.0f} s")
    finally:
        for worker in cluster.workers[1:]:
            worker.start()
            cluster.start_worker(worker)
    result = on_three[0]
    assert alone["dataset"]["dataset_id"] == result["dataset"]["dataset_id"]
    below = f"datasets/{alone['dataset']['dataset_id']}"
    first, second = (
        {k.removeprefix(root): v for k, v in cluster.objects(f"{root}/{below}/").items()}
        for root in ("one", "three")
    )
    data = [name for name in first if name.endswith(".parquet")]
    assert data
    assert [first[name] for name in data] == [second[name] for name in data]
    valid = alone["model"]["metrics"]["valid"]
    assert valid == pytest.approx(result["model"]["metrics"]["valid"], abs=1e-3)
    runs = [
        cluster.rows(root, each["recommendations"]["run_id"])
        for root, each in (("one", alone), ("three", result))
    ]
    assert runs[0] == runs[1]
