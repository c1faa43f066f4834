"""Mistakes drawn at random, from a fixed seed: wrong values of every setting, damaged results.

`test_mistakes` has the mistakes that people thought of.
"""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from lightsans.config.run import setting_names, setting_type
from tests.mistakes import RAY_STARTED, alone, call, require_told
from tests.recorded import DATASET, MODEL, RECORDED, RUN

ROOT = Path(__file__).parents[2]
CHANGES = [
    b"\0",
    b"\t",
    b"{",
    b"]",
    b":",
    b"- ",
    b"\xff",
    b"\x1b",
    b"&a ",
    b"*a",
    b"%",
    b"\n\n",
    b"'",
]
PER_SETTING = 4
PER_FILE = 8
BOTH = ["--dataset", DATASET, "--model", MODEL]
RECOMMEND = ["recommend", "--user", "u025", *BOTH]
ON_BOTH = [["evaluate"], ["score"], ["similar"], ["audience", "--items", "items.txt"]]
EVALUATION = "evaluate-c549ee0b2d40"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with alone(monkeypatch, tmp_path):
        yield


# ---- settings


def wrong_values(annotation: Any) -> list[str]:
    """Values, as ``--set`` takes them, that no setting of this type can have."""
    kinds = [annotation, *get_args(annotation)]
    origins = {get_origin(kind) for kind in kinds}
    wrong = ["[[1]]", "{a: {b: 1}}", "[&a [*a]]", '"\\0"', "[x, y, z]", '["\\0"]']
    if dict in origins:
        return ["7", "[1]", "words", "{a: .nan}", "{a: .inf}", "{a: [words]}", "{1: 2}"]
    if str not in kinds:
        wrong += ["words", "2026-13-45", "x" * 5000, '"\\e[2J"', "é", "~x"]
        if float not in kinds and tuple not in origins:
            wrong += ["1.5", "-1.5", "99999999999999999999999", "-99999999999999999999999"]
        if bool not in kinds:
            wrong += [".nan", ".inf", "-.inf", "1e999"]
    return wrong if tuple not in origins else [value for value in wrong if value != "[x, y, z]"]


def test_wrong_values_of_every_setting_are_named(capfd):
    drawn = random.Random(2026)
    count = 0
    for name in setting_names():
        values = wrong_values(setting_type(name))
        for value in drawn.sample(values, PER_SETTING):
            words = ["config", "--set", f"{name}={value}"]
            require_told(call(capfd, *words), words, name)
            count += 1
    assert count > 400


def test_settings_out_of_range_are_named(capfd):
    for name in setting_names():
        kinds = [setting_type(name), *get_args(setting_type(name))]
        is_number = (int in kinds or float in kinds) and str not in kinds
        signed = {"data.min_rating", "score.min_score", "tune.target"}
        if not is_number or name in signed or get_origin(setting_type(name)) in (dict, Literal):
            continue
        words = ["config", "--set", f"{name}=-3"]
        require_told(call(capfd, *words), words, name)


# ---- files and addresses


def test_a_configuration_with_some_bytes_changed_is_read_or_named(capfd, tmp_path):
    drawn = random.Random(2027)
    whole = (ROOT / "pipelines/configs/quickstart.yaml").read_bytes()
    file = tmp_path / "changed.yaml"
    told = 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(drawn.randint(1, 4)):
            at = drawn.randrange(len(content))
            content[at : at + drawn.choice([0, 1, 1, 5])] = drawn.choice(CHANGES)
        file.write_bytes(content)
        words = ["config", "--config", file.name]
        done = call(capfd, *words)
        if done.status != 0:
            require_told(done, words, file.name)
            told += 1
    assert told > 100


ADDRESSES = [
    *("foo://b/x", "s3:/b/x", "s3://", "s3:///x", "s3://a b/x", "hdfs://h/x", "ftp://h/x"),
    *("http://h/x", "gs://", "file:/x", "://x", "s3://b\t/x", "webhdfs://h", "a" * 5000),
    *("loop", "loop/x", "a.csv/x", "\0", "s3://user:secret@b/x"),
]


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: ascii(address)[:30])
def test_an_address_of_nothing_is_named(address, capfd, tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    log = ["--set", "data.input=a.csv"]
    quoted = json.dumps(address)
    for words in (
        ["preprocess", "--set", f"data.input={quoted}"],
        ["preprocess", *log, "--set", f"data.exclude_users={quoted}"],
        ["recommend", "--user", "u", *log, "--set", f"root={quoted}"],
        ["publish", "r", "--set", f"root={quoted}"],
        ["import-recbole", "--tokens", "a.csv", "x.pth", "--set", f"root={quoted}"],
    ):
        done = call(capfd, *words)
        setting = words[-1].partition("=")[0]
        require_told(done, words, address[:40], setting, repr(address), "no dataset", "x.pth")
        assert "secret" not in done.all


# ---- damaged results


def damages(content: bytes, drawn: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Ways in which a file can be damaged; None: it is gone."""
    yield "gone", None
    yield "cut off", content[: len(content) // 2]
    yield "empty", b""
    yield "bytes", b"\xff\xfe\x00"
    yield "a list", b"[]"
    yield "deep", b"[" * 100_000
    if not content.startswith(b"{"):
        return
    yield "no field", b"{}"
    fields = json.loads(content)
    values = ["x", [{}], {"a": []}, -1, None, 10**30, True]
    for name in drawn.sample(sorted(fields), min(len(fields), PER_FILE)):
        yield f"no {name}", json.dumps({k: v for k, v in fields.items() if k != name}).encode()
        for value in drawn.sample(values, 2):
            yield f"{name}: {value}", json.dumps({**fields, name: value}).encode()


DATASET_FILES: Sequence[tuple[str, list[list[str]]]] = [
    (
        f"datasets/{DATASET}/manifest.json",
        [
            RECOMMEND,
            ["preprocess", "--base", DATASET],
        ],
    ),
    (f"datasets/{DATASET}/interactions.json", [["preprocess", "--base", DATASET]]),
    (
        f"datasets/{DATASET}/items.parquet",
        [RECOMMEND],
    ),
    (
        f"datasets/{DATASET}/sequences/part-00001.parquet",
        [RECOMMEND],
    ),
    (f"models/{MODEL}/manifest.json", [["models"], RECOMMEND]),
    (f"models/{MODEL}/metrics.json", [["models"]]),
    (f"models/{MODEL}/items.parquet", [RECOMMEND]),
    (f"models/{MODEL}/model.safetensors", [RECOMMEND]),
    (f"recommendations/{RUN}/manifest.json", [["recommendations"], ["publish", RUN]]),
    ("recommendations/history.json", [["rollback"], ["publish", RUN]]),
    ("recommendations/LATEST", [["rollback"], ["recommendations"]]),
    (f"datasets/{DATASET}/report/report.json", [["preprocess"]]),
    (f"models/{MODEL}/config.yaml", [["models"], RECOMMEND]),
    (f"models/{MODEL}/history.json", [["models"]]),
    (f"models/{MODEL}/manifest.json", [[*command, *BOTH] for command in ON_BOTH]),
    (f"datasets/{DATASET}/manifest.json", [[*command, *BOTH] for command in ON_BOTH]),
    (f"models/{MODEL}/items.parquet", [[*command, *BOTH] for command in ON_BOTH]),
    (f"reports/{EVALUATION}/manifest.json", [["evaluate", *BOTH], ["status"]]),
    ("recommendations/history.json", [["status"], ["recommendations"]]),
]
QUIET = {"report.json", "config.yaml", "history.json"}
"""Files that some of these commands do not read, or take as they are."""


@pytest.fixture
def root(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """Results of an earlier version, the run published."""
    made = tmp_path / "root"
    shutil.copytree(RECORDED, made)
    assert call(capfd, "publish", RUN, "--set", f"root={made}").status == 0
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
    (tmp_path / "items.txt").write_text("i24\n")
    return made


@pytest.mark.parametrize(("name", "lines"), DATASET_FILES, ids=[file for file, _ in DATASET_FILES])
def test_a_damaged_result_is_named_or_does_no_harm(name, lines, root, capfd):
    """Status 2, or a list that passes over it, with the name of the file; or it does no harm."""
    drawn = random.Random(name)
    file = root / name
    whole = file.read_bytes()
    told = 0
    for damage, content in damages(whole, drawn):
        for line in lines:
            file.unlink() if content is None else file.write_bytes(content)
            words = [*line, "--set", f"root={root}", "--set", "data.input=a.csv"]
            done = call(capfd, *words)
            shown = f"{damage}: {words}\n{done.all[-2000:]}"
            assert "Traceback" not in done.all, shown
            assert "unexpectedly" not in done.all, shown
            assert done.status in (0, 2, RAY_STARTED), shown
            if done.status == 2 or "passed over" in done.error:
                named = str(file), f"{file.parent}/", file.parent.name
                require_told(done, words, *named, status=done.status)
                told += 1
            file.write_bytes(whole)
    assert told >= 3 or file.name in QUIET, "no damage was found"
