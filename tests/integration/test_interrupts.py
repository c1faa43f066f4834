"""Ctrl-C and SIGTERM end every stage in order, with its status and one line, and leave nothing.

Each stage gets one of them on the Ray of the tests; the tests marked `chaos` give it both, while
the Ray that it has started itself is at work, as a terminal does: to all that runs in it.
``INTERRUPTS_LOG=interrupts.jsonl`` collects how long these took from the signal to their end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from lightsans.config import ModelConfig
from lightsans.storage.location import Location
from lightsans.synthetic.directories import write_synthetic_dataset, write_synthetic_model
from pipelines.session.lease import read_holder
from tests import stage_processes
from tests.commands import ROOT, wait_until
from tests.factories import local
from tests.nights import write_log

MODEL = ModelConfig(
    max_seq_len=20, hidden_size=16, inner_size=16, n_layers=1, k_interests=2, n_heads=2
)
SETTINGS = ("model.max_seq_len=20", "model.hidden_size=16", "model.inner_size=16",
            "model.n_layers=1", "model.k_interests=2", "train.epochs=5000", "train.num_workers=1",
            "train.patience=0", "resources.max_cpus=2", "data.num_parts=2")  # fmt: skip
SPACE = '{"learning_rate": {"choice": [0.01, 0.001]}}'
STAGES = {
    "preprocess": ([], "preprocess: files:"),
    "train": (["--dataset", "small"], "loss "),
    "evaluate": (["--model", "m", "--dataset", "d"], "reports/*/*/baseline-counts.npz"),
    "score": (["--model", "m", "--dataset", "d"], "recommendations/*/_commits/*.json"),
    "tune": (["--dataset", "small", "-s", f"tune.space={SPACE}"], "tune/*/trials/*.json"),
    "nightly": (["--as-of", "2025-11-06"], "train: model "),
}
"""Options of each stage, and what shows that it is at work: words, or files below the root."""
INT, TERM = signal.SIGINT, signal.SIGTERM
SIGNALS = {"preprocess": INT, "train": TERM, "evaluate": INT, "score": TERM, "nightly": TERM}
"""Signal of each stage on the Ray of the tests; that of a search is in ``test_tune.py``."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """Datasets and a model with work for some seconds, and a log beside them."""
    made = local(tmp_path_factory.mktemp("interrupts"))
    write_synthetic_dataset(made / "datasets" / "d", 20_000, 20_000, history=20, num_parts=8)
    write_synthetic_dataset(made / "datasets" / "small", 500, 1000, history=20, num_parts=2)
    write_synthetic_model(made / "models" / "m", MODEL, 20_000, "d")
    write_log(Path(made.path) / "log.csv")
    return made


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """A directory for temporary files, which must be empty at the end."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    yield directory
    kept = [path.name for path in directory.iterdir() if not path.name.startswith("torchinduct")]
    assert kept == [], "files that outlive the command"


def words_of(stage: str, root: Location) -> list[str]:
    settings = [f"root={root}", f"data.input={root}/log.csv", *SETTINGS]
    return [stage, *STAGES[stage][0], *(word for each in settings for word in ("-s", each))]


def sign_of(stage: str, root: Location) -> Callable[[str], bool]:
    """A function of the output that says whether the stage is at work, from now on."""
    sign, began = STAGES[stage][1], time.time()
    if "/" not in sign:
        return lambda said: sign in said
    files = Path(root.path)
    return lambda said: any(path.stat().st_mtime >= began for path in files.glob(sign))


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0))


def check_end(root: Location, status: int, said: str, number: signal.Signals) -> None:
    """A status that names the signal, one last line, and no lease that keeps others out."""
    assert status == 128 + number, said
    lines = [line for line in said.splitlines() if "the same command goes on" in line]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == lines[0], said
    holders = [read_holder(root / "locks" / name) for name in (root / "locks").children()]
    assert not [holder for holder in holders if holder is not None and holder.is_active]


@pytest.mark.parametrize("stage", SIGNALS)
def test_a_signal_ends_a_stage_on_a_cluster_and_frees_what_it_took(
    ray_cluster: object, root: Location, temporary: Path, tmp_path: Path, stage: str
) -> None:
    environment = {
        "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "RAY_AUTH_MODE": "disabled",
        "TMPDIR": str(temporary),
    }
    sign, output, free = sign_of(stage, root), tmp_path / "output", free_cpus()
    with stage_processes.running(words_of(stage, root), [output], environment) as [command]:
        assert stage_processes.wait_until(lambda: sign(command.said), command), command.said
        command.send(SIGNALS[stage])
        check_end(root, command.wait(60), command.said, SIGNALS[stage])
    assert wait_until(lambda: free_cpus() >= free, timeout_s=60)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [INT, TERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_ends_a_stage_with_the_ray_that_it_has_started(
    root: Location, temporary: Path, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    for name in ("RAY_TMPDIR", "RAY_ADDRESS"):
        environment.pop(name, None)
    output = tmp_path / "output"
    sign = sign_of(stage, root)
    status, seconds = interrupt(words_of(stage, root), output, sign, number, environment)
    if "INTERRUPTS_LOG" in os.environ:
        with Path(os.environ["INTERRUPTS_LOG"]).open("a") as log:
            log.write(json.dumps({"stage": stage, "signal": number, "seconds": seconds}) + "\n")
    check_end(root, status, output.read_text(), number)


def interrupt(
    words: list[str],
    output: Path,
    sign: Callable[[str], bool],
    number: signal.Signals,
    environment: dict[str, str],
) -> tuple[int, float]:
    """Send a signal when a command is at work; its status, and the seconds until it has ended."""
    # Started in the background, a process would ignore Ctrl-C.
    born_deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "submit.py", *words],
            cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    signal.signal(signal.SIGINT, born_deaf)
    try:
        assert wait_until(lambda: sign(output.read_text()), process, 120), output.read_text()
        began = time.monotonic()
        if number == signal.SIGINT:  # a terminal tells Ctrl-C to all that runs in it, Ray included
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        return process.wait(60), time.monotonic() - began
    finally:
        process.kill()
        process.wait()
