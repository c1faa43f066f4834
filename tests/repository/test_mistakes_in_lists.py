"""Mistakes in what lists, tables, rules, tables of a warehouse and variables say, at every command.

Results are those of an earlier version; no Ray is started.
"""

import itertools
import logging
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.mistakes import RAY_STARTED, call, refuse_ray, require_told
from tests.recorded import DATASET, MODEL, RECORDED

BOTH = ["--dataset", DATASET, "--model", MODEL]
RECOMMEND = ["recommend", "--user", "u025", *BOTH]
SCORERS = [["score", *BOTH], ["audience", "--items", "good.txt", *BOTH], RECOMMEND]
ABOUT_ITEMS = [*SCORERS, ["similar", *BOTH]]
FILES = {
    "empty.csv": b"",
    "blank.txt": b"\n\n \n",
    "columns.csv": b"a,b,c\n1,2,3\n",
    "ragged.csv": b"item_id,user_id,keep\ni1,u1,true,7,8\ni2\n",
    "twice.csv": b"item_id,item_id,user_id,user_id,keep\n1,2,3,4,true\n",
    "words.csv": b"item_id,user_id,keep\ni1,u1,perhaps\n",
    "bytes.txt": b"\xff\x00\xfe",
    "latin.csv": b"item_id,user_id,keep\n\xe4,\xe4,true\n",
    "not.parquet": b"PAR1 no",
    "not.csv.gz": b"plain",
    "words.jsonl": b"words\n",
    "deep.jsonl": b"[" * 5000,
    "untyped.item": b"item_id\tkeep\n1\ttrue\n",
    "what.xlsx": b"PK\x03\x04",
    "nobody.txt": b"nobody\n",
    "nul.txt": b"a\0b\n",
}


@pytest.fixture(autouse=True)
def root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Results to work on, and the files, in the directory of the process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "init", refuse_ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made = tmp_path / "root"
    shutil.copytree(RECORDED, made)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.txt").write_text("i24\ni11\n")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "empty").mkdir()
    before = signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, before)
    logging.getLogger("lightsans").handlers.clear()


def is_told(capfd: pytest.CaptureFixture[str], words: list[str], *named: str) -> bool:
    """Whether it was refused, with a message that names the thing; any other end is no fault."""
    done = call(capfd, *words)
    shown = f"{words}\n{done.all[-2000:]}"
    assert "Traceback" not in done.all, shown
    assert "unexpectedly" not in done.all, shown
    assert done.status in (0, 2, RAY_STARTED), shown
    if done.status == 2:
        require_told(done, words, *named)
    return bool(done.status == 2)


SETTINGS = {
    "score.allow_items": ABOUT_ITEMS,
    "score.deny_items": ABOUT_ITEMS,
    "score.item_table": ABOUT_ITEMS,
    "score.users": SCORERS[:2],
    "evaluate.user_table": [["evaluate", *BOTH]],
    "data.exclude_users": [["preprocess", "--set", "data.input=root/log.csv"]],
}
BESIDE = {
    "score.item_table": ["--set", "score.eligible_column=keep"],
    "evaluate.user_table": ["--set", "evaluate.user_column=keep"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_list_or_table_that_is_none_is_named_by_every_command(setting, root, capfd):
    names = [*FILES, "loop.csv", "empty", "absent.txt", "absent/*.csv", "s3:/b/x", "foo://b/x"]
    told = 0
    for name, line in itertools.product(names, SETTINGS[setting]):
        words = [*line, "--set", f"root={root}", "--set", f"{setting}={name}"]
        told += is_told(capfd, [*words, *BESIDE.get(setting, [])], name, setting)
    assert told >= len(names) // 2


def test_items_of_an_audience_that_are_none_are_named(root, capfd):
    told = 0
    for name in [*FILES, "loop.csv", "empty", "absent.txt", "."]:
        words = ["audience", "--items", name, *BOTH, "--set", f"root={root}"]
        told += is_told(capfd, words, name, "--items")
    assert told >= 10


RULES = [
    *("7", "words", "[1]", "{segments: 7}", "{segments: [{}]}", "{boosts: [{column: keep}]}"),
    *("{segments: [{users: nobody.txt}]}", "{segments: [{users: absent.txt, deny: {items: x}}]}"),
    *("{pins: [{item: a, position: 0}]}", "{pins: [{item: a, position: 1000}]}"),
    *("{pins: [{item: a, position: 1}, {item: b, position: 1}]}", "{caps: [{column: absent}]}"),
    *("{quotas: [{group: {}, at_least: 1, first: 2}]}", "{quotas: [{at_least: 3, first: 2}]}"),
    *("{diversity: {weight: 7}}", "{diversity: {weight: .nan}}", "{boosts: [{weight: .inf}]}"),
    *("{caps: [{column: keep, at_most: -1, first: 2}]}", "{nothing: [1]}", "{segments: [[]]}"),
]


@pytest.mark.parametrize("rules", RULES)
def test_a_rule_that_makes_no_sense_is_named_by_every_command(rules, root, capfd):
    for line in ABOUT_ITEMS:
        words = [*line, "--set", f"root={root}", "--set", f"score.rules={rules}"]
        require_told(call(capfd, *words), words, "score.rules", "absent.txt")


TABLES = [
    *("delta://absent", "iceberg://absent", "delta://empty", "iceberg://empty", "delta://"),
    *("delta://absent@v9", "iceberg://empty@v1", "delta://good.txt", "iceberg://good.txt"),
    *("delta://foo://b/x", "delta://s3:/b", "iceberg://\t", "delta://loop.csv", "iceberg://a.json"),
]


@pytest.mark.parametrize("address", TABLES, ids=ascii)
def test_a_table_of_a_warehouse_that_is_none_is_named(address, root, capfd):
    quoted = address.replace("\t", "\\t")
    for words in (
        ["preprocess", "--set", f"root={root}", "--set", f'data.input="{quoted}"'],
        ["inspect", address],
        [
            "similar",
            *BOTH,
            "--set",
            f"root={root}",
            "-s",
            f'score.deny_items="{quoted}"',
        ],
    ):
        path = address.partition("://")[2].partition("@")[0].strip("\t")
        named = (address, path, repr(address)) if path else ("no Iceberg table", "delta")
        require_told(call(capfd, *words), words, *named)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LIGHTSANS_LOG", "xml"),
        ("RAY_API_SERVER_ADDRESS", "ftp://h"),
        ("RAY_API_SERVER_ADDRESS", "head:8265"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(variable, value, root, capfd, monkeypatch):
    monkeypatch.setenv(variable, value)
    words = ["jobs"] if variable != "LIGHTSANS_LOG" else ["models", "--set", f"root={root}"]
    require_told(call(capfd, *words), words, variable, value)


SPACES = [
    *("7", "words", "{}", "{train.epochs: 3}", "{nothing: {choice: [1]}}", "{seed: {choice: []}}"),
    *(
        "{model.n_layers: {choice: []}}",
        "{model.n_layers: {choice: [0]}}",
        "{model: {choice: [1]}}",
    ),
    *("{learning_rate: {uniform: [2, 1]}}", "{learning_rate: {loguniform: [0, 1]}}"),
    *("{learning_rate: {uniform: [a, b]}}", "{learning_rate: {what: [1, 2]}}"),
    *("{learning_rate: {uniform: [1]}}", "{learning_rate: {choice: [.nan]}}", "[learning_rate]"),
]


@pytest.mark.parametrize("space", SPACES)
def test_a_space_that_makes_no_sense_is_named(space, root, capfd):
    words = ["tune", "--dataset", DATASET, "--set", f"root={root}", "-s", f"tune.space={space}"]
    require_told(call(capfd, *words), words, "tune.space", "n_layers", "learning_rate")
