import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
from ray.exceptions import AuthenticationError

from lightsans.config import ColumnsConfig, DataConfig, ModelConfig, RunConfig
from lightsans.config.file import LoadedConfig, dump_yaml, load_config
from lightsans.errors import AccessError, ConfigError
from pipelines.jobs import client as jobs


def test_settings_that_travel_as_overrides_make_the_same_configuration(tmp_path):
    config = RunConfig(
        root='s3://b/ü😀 "quoted" $HOME',
        data=DataConfig(
            input=("/a/*.csv", "/b,c.csv"),
            separator="\t",
            header=False,
            columns=ColumnsConfig(user="0", item=1, timestamp=2, rating=None),
            quote_char=None,
            as_of="2026-11-01",
        ),
        model=ModelConfig(layer_norm_eps=1e-9, hidden_dropout_prob=0.0),
    )
    (tmp_path / "all.yaml").write_text(dump_yaml(config))
    overrides = jobs.settings_as_overrides(load_config(str(tmp_path / "all.yaml")))
    assert load_config(None, overrides).config == config


@pytest.mark.parametrize("separator", ["\x01", "\x7f", "\x85", "\u2028", "¦", "\N{GRINNING FACE}"])
def test_characters_that_yaml_does_not_take_as_they_are_travel_too(separator):
    origins = {**load_config(None).origins, "data.separator": "--set"}
    config = RunConfig(data=DataConfig(separator=separator))
    overrides = jobs.settings_as_overrides(LoadedConfig(config=config, origins=origins))
    assert load_config(None, overrides).config.data.separator == separator


def test_only_chosen_settings_travel_even_when_the_choice_is_the_default():
    assert jobs.settings_as_overrides(load_config(None)) == []
    loaded = load_config(None, ["train.epochs=100"])  # it may stand against a profile
    assert jobs.settings_as_overrides(loaded) == ["train.epochs=100"]


@pytest.mark.parametrize(
    "setting",
    [
        "root",
        "data.input",
        "data.exclude_users",
        "score.deny_items",
        "train.warm_start",
        "train.mlflow_uri",
    ],
)
def test_a_path_relative_to_this_machine_is_refused_by_name(setting):
    settings = {"root": "/shared", "data.input": "s3://b/x", setting: "./here"}
    config = load_config(None, [f"{name}={path}" for name, path in settings.items()]).config
    with pytest.raises(ConfigError, match=rf"^{setting}=\./here is relative to this directory"):
        jobs.require_reachable_paths(config)


def test_so_is_a_delta_table_but_no_catalog():
    for setting in ("data.input=[delta://here]", "score.table.uri=delta://here"):
        with pytest.raises(ConfigError, match=r"delta://here is relative to this directory"):
            jobs.require_reachable_paths(load_config(None, ["root=s3://b/x", setting]).config)
    for path in ("./here", "warehouse/shop/log", "Iceberg"):
        settings = ["root=s3://b/x", f"data.input=[iceberg://{path}]"]
        with pytest.raises(ConfigError, match=rf"iceberg://{path} is relative to this directory"):
            jobs.require_reachable_paths(load_config(None, settings).config)
    tables = [
        "root=s3://b/x",
        "data.input=[delta://s3://b/log@v3, iceberg://p/a.c, iceberg:///shared/log]",
        "score.table.uri=iceberg://p/a.b",
    ]
    jobs.require_reachable_paths(load_config(None, tables).config)


def test_the_id_of_a_model_or_the_name_of_a_service_is_no_path():
    names = ["train.warm_start=0123456789ab", "train.mlflow_uri=databricks"]
    settings = ["root=/shared", "data.input=s3://b/x", *names]
    jobs.require_reachable_paths(load_config(None, settings).config)


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "auto"])
def test_an_address_that_is_no_dashboard_is_refused(address):
    with pytest.raises(ConfigError, match="http://HEAD:8265"):
        jobs.connect(address)


def test_a_closed_port_explains_itself(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:2")  # the argument wins
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    expected = r"http://127\.0\.0\.1:1 \(Connection refused\).*ray\[default\]"
    with pytest.raises(jobs.ClusterError, match=expected):
        jobs.connect("http://127.0.0.1:1")


def test_a_command_too_long_for_a_shell_names_the_way_out():
    arguments = ["train", "--set", f"data.input={json.dumps(['/x' * 100] * 1000)}"]
    with pytest.raises(ConfigError, match="as a directory or glob"):
        jobs.submit_job(None, arguments, python="python", variables={})  # type: ignore[arg-type]


def test_no_two_jobs_ask_for_the_same_environment_since_ray_remembers_those_that_failed():
    first, again = (jobs.environment_of(job, "/code", {"A": "1"}) for job in ("job-1", "job-2"))
    assert first != again
    assert first["working_dir"] == again["working_dir"] == "/code"
    assert first["env_vars"]["A"] == again["env_vars"]["A"] == "1"


def test_a_token_that_is_not_there_is_what_the_user_gave(monkeypatch):
    def refuse(address: str) -> None:
        raise AuthenticationError("Token file not found.")

    monkeypatch.setattr(jobs, "_Client", refuse)
    with pytest.raises(AccessError, match=r"not found.* To mend it, export RAY_AUTH_MODE=token"):
        jobs.connect("http://127.0.0.1:1")


def test_a_checkout_is_uploaded_as_it_is_and_installed_packages_from_a_copy(tmp_path):
    with jobs.upload_directory(jobs.CODE) as directory:
        assert directory == jobs.CODE
    for name in ("lightsans/__init__.py", "pipelines/configs/a.yaml", "numpy/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "lightsans/__pycache__").mkdir()
    with jobs.upload_directory(tmp_path) as directory:
        found = {
            str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
        }
        assert found == {"submit.py", "lightsans/__init__.py", "pipelines/configs/a.yaml"}
        compile((directory / "submit.py").read_text(), "submit.py", "exec")
    assert not directory.exists()


Drops = tuple[str, Counter[str], list[str]]


@contextmanager
def dashboard_that_drops(
    requests: set[str], attempts: int, *, accepts: bool, answer: str = ""
) -> Iterator[Drops]:
    """A dashboard that ends the connections of some first attempts without an answer.

    Yields its address, how often each request came, and the ids of the jobs that it has.

    Args:
        requests: Method and path, up to the names in it, of those that are dropped.
        attempts: How many of each are.
        accepts: Whether a job is started before its answer is lost.
        answer: An error that these attempts get instead.
    """
    came, accepted = Counter[str](), []

    class Handler(BaseHTTPRequestHandler):
        def handle_request(self) -> None:
            request = f"{self.command} {'/'.join(self.path.split('/')[:3])}"
            came[request] += 1
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            job_id = json.loads(body)["submission_id"] if request == "POST /api/jobs" else ""
            is_dropped = request in requests and came[request] <= attempts
            if job_id and (accepts or not is_dropped):
                accepted.append(job_id)
            if is_dropped and answer:
                self.send_response(500)
                self.end_headers()
                self.wfile.write(answer.encode())
                return
            if is_dropped:
                self.close_connection = True
                return
            known = request != "GET /api/jobs" or self.path.split("/")[-1] in accepted
            self.send_response(200 if known and request != "GET /api/packages" else 404)
            self.end_headers()
            told = {"type": "SUBMISSION", "status": "RUNNING", "entrypoint": "submit.py"}
            if job_id:
                told = {"submission_id": job_id, "job_id": job_id}
            elif request == "GET /api/version":
                told = {"version": "4", "ray_version": ray.__version__}
            self.wfile.write(json.dumps(told).encode() if known else b"does not exist")

        do_GET = do_PUT = do_POST = handle_request  # noqa: N815

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", came, accepted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


DROPPED = {"GET /api/version", "GET /api/packages", "PUT /api/packages", "POST /api/jobs"}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "BETWEEN_ATTEMPTS_S", 0.01)
    monkeypatch.setattr(jobs, "CODE", tmp_path)
    for name in jobs.PACKAGES:
        (tmp_path / name).mkdir()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.mark.parametrize("accepts", [False, True])
def test_a_connection_that_is_dropped_is_tried_again_and_no_job_started_twice(quick, accepts):
    with dashboard_that_drops(DROPPED, 2, accepts=accepts) as (address, came, accepted):
        job_id = jobs.submit_job(jobs.connect(address), ["train"], python="python", variables={})
        assert accepted == [job_id]
        assert came["POST /api/jobs"] == (1 if accepts else 3)


def test_a_head_that_has_no_agent_yet_is_asked_again(quick):
    """As Ray's dashboard answers it, once it has waited for ten seconds itself."""
    answer = "No available agent to submit job, please try again later."
    submitted = {"POST /api/jobs"}
    with dashboard_that_drops(submitted, 2, accepts=False, answer=answer) as (address, came, ids):
        job_id = jobs.submit_job(jobs.connect(address), ["train"], python="python", variables={})
        assert ids == [job_id]
        assert came["POST /api/jobs"] == 3
    with dashboard_that_drops(submitted, 99, accepts=False, answer=answer) as (address, came, _):
        with pytest.raises(jobs.OutOfReachError, match="please try again later"):
            jobs.submit_job(jobs.connect(address), ["train"], python="python", variables={})
        assert came["POST /api/jobs"] == jobs.ATTEMPTS


def test_a_job_is_asked_for_after_the_last_attempt_too(quick, monkeypatch):
    monkeypatch.setattr(jobs, "ATTEMPTS", 1)
    with dashboard_that_drops({"POST /api/jobs"}, 99, accepts=True) as (address, _, accepted):
        job_id = jobs.submit_job(jobs.connect(address), ["train"], python="python", variables={})
        assert accepted == [job_id]


def test_a_dashboard_that_drops_everything_is_out_of_reach(quick):
    with dashboard_that_drops({"GET /api/version"}, 99, accepts=False) as (address, came, _):
        with pytest.raises(jobs.OutOfReachError, match="nothing answers at http://127"):
            jobs.connect(address)
        assert came["GET /api/version"] == jobs.ATTEMPTS
