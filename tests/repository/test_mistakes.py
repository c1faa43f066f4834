"""Hundreds of mistakes at every command: a status of the table, a message that names the thing.

No Ray is started: what a user did wrong is found before that.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from pipelines.commands.app import app
from tests.commands import ROOT
from tests.mistakes import alone, call, require_told

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
STAGES = ["preprocess", "train", "evaluate", "score", "pipeline", "tune"]
READERS = ["models", "recommendations", "rollback", "publish", "recommend", "export"]
REQUIRED = {
    "backtest": ["--from", "2030-01-01", "--to", "2030-01-02"],
    "publish": ["0a1b2c3d4e5f"],
    "inspect": ["log.csv"],
    "recommend": ["--user", "u"],
    "audience": ["--items", "items.txt"],
    "erase": ["--users", "users.txt"],
    "export-recbole": ["--to", "x.pth"],
    "import-recbole": ["x.pth"],
    "fetch": ["generated"],
    "logs": ["j"],
    "stop": ["j"],
}
CONFIGURED = [
    name
    for name, command in COMMANDS.items()
    if any(parameter.name == "config" for parameter in command.params)
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with alone(monkeypatch, tmp_path):
        yield


# ---- settings


FILES = {
    "absent.yaml": None,
    "bytes.yaml": b"\xff\xfe\x00root: x",
    "list.yaml": b"- a\n- b\n",
    "scalar.yaml": b"just words",
    "tab.yaml": b"root:\n\t- x",
    "open.yaml": b"train: {epochs: 3",
    "twice.yaml": b"root: a\nroot: b\n",
    "tag.yaml": b"root: !!python/object/apply:os.system ['true']\n",
    "key.yaml": b"? [a, b]\n: 1\n",
    "null-key.yaml": b"? \n: 1\n",
    "number.yaml": b"7: 8\n",
    "deep.yaml": b"root: " + b"[" * 1000,
    "alias.yaml": b"a: &a [x, x]\nb: &b [*a, *a]\nroot: *b\n",
    "unknown.yaml": b"trian: {epochs: 3}\n",
    "section.yaml": b"train: 7\n",
    "two.yaml": b"root: a\n---\nroot: b\n",
    "profile.yaml": b"profile: ../../etc/passwd\n",
    "control.yaml": b"root: \x07\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_configuration_file_is_named_by_every_command(name, capfd, tmp_path):
    content = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for command in CONFIGURED:
        words = [command, *REQUIRED.get(command, []), "--config", name]
        require_told(call(capfd, *words), words, name)


def test_a_directory_as_a_configuration_is_named(capfd, tmp_path):
    for command in CONFIGURED:
        words = [command, *REQUIRED.get(command, []), "--config", str(tmp_path)]
        require_told(call(capfd, *words), words, str(tmp_path))


# ---- arguments

IDS = ["", "../../etc", "/", "no such", "a" * 5000, "\x1b[2J", "LATEST", "é", "*", ".."]


@pytest.mark.parametrize("given", IDS, ids=lambda value: ascii(value)[:40])
def test_an_id_of_nothing_is_told(given, capfd, tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
    log = ["--set", "data.input=a.csv"]
    lines = [
        *(["evaluate", "--model", given, *log], ["evaluate", "--dataset", given, *log]),
        *(["score", "--model", given, *log], ["train", "--dataset", given, *log]),
        *(
            ["train", "--from", given, *log],
            ["publish", given],
            ["preprocess", "--base", given, *log],
        ),
        *(["recommend", "-u", "1", "--model", given, *log], ["export", "--model", given, *log]),
        *(["export-recbole", "--to", "x", "--model", given, *log],),
        *(["tune", "--dataset", given, "-s", "tune.space={k_interests: {choice: [3]}}", *log],),
    ]
    for words in lines:
        done = call(capfd, *words)
        require_told(
            done, words, given[:40] or words[1], "no dataset", "first", "no manifest", "id"
        )


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_option_or_argument_is_told_by_every_command(command, capfd):
    for extra in (
        ["--no-such"],
        ["-Z"],
        ["--json=3"],
        ["a", "b", "c"],
        ["--json", "--", "-x", "y"],
    ):
        words = [command, *extra]
        done = call(capfd, *words)
        require_told(done, words, extra[-1], extra[0], extra[0].partition("=")[0], "Missing", "Got")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["nothing"], "nothing"),
        (["recommend"], "--user"),
        (["recommend", "-u", "1", "-k", "0"], "-k"),
        (["recommend", "-u", "1", "-k", "many"], "-k"),
        (["train", "--wait", "long"], "--wait"),
        (["train", "--wait", "nan"], "--wait"),
        (["train", "--log-format", "xml"], "--log-format"),
        (["fetch", "ml-7"], "ml-7"),
        (["fetch", "ml-100k", "--source", "nowhere"], "nowhere"),
        (["tune", "--space", "absent.test"], "absent.test"),
        (["tune", "--space", "."], "search space"),
        (["nightly", "--as-of", "soon"], "soon"),
        (["nightly", "--as-of", "2026-02-30"], "2026-02-30"),
        *(
            (["train", "--set", "root=s3://b", "--cluster", address], "--cluster")
            for address in ["", "head:8265", "ray://h:1", "http://", "http://[", "ftp://h", "\x1b"]
        ),
        (["jobs"], "--cluster"),
        (["jobs", "--cluster", "http://[::1"], "--cluster"),
    ],
)
def test_a_wrong_argument_is_named(words, named, capfd):
    require_told(call(capfd, *words), words, named)


# ---- files


def tables(directory: Path) -> list[str]:
    """Files that are no logs, in every way a log can fail to be one."""
    contents = {
        "empty.csv": b"",
        "blank.csv": b"\n\n\n",
        "columns.csv": b"a,b,c\n1,2,3\n",
        "twice.csv": b"user_id,user_id,item_id,timestamp\n1,2,3,4\n",
        "bytes.csv": b"\xff\x00\xfe",
        "not.parquet": b"PAR1 no",
        "empty.parquet": b"",
        "not.csv.gz": b"plain",
        "words.jsonl": b"words\n",
        "list.jsonl": b"[1, 2]\n",
        "untyped.inter": b"user_id\titem_id\n1\t2\n",
        "what.xlsx": b"PK\x03\x04",
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    (directory / "link.csv").symlink_to(directory / "away.csv")
    (directory / "loop.csv").symlink_to(directory / "loop.csv")
    (directory / "empty").mkdir()
    return [*contents, "link.csv", "loop.csv", "empty"]


def test_a_log_that_is_none_is_named(capfd, tmp_path):
    for name in tables(tmp_path):
        for command in ("preprocess", "pipeline"):
            words = [command, "--set", f"data.input={name}"]
            require_told(call(capfd, *words), words, name)


# ---- through a shell


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("train --config absent.yaml", "absent.yaml"),
        ("config -s train.epochs=many", "train.epochs"),
        ("models -s root=/etc/passwd", "/etc/passwd"),
        ("preprocess -s data.input=absent.csv", "absent.csv"),
        ("evaluate --dataset --model X", "--dataset"),
        ("recommend", "--user"),
        ("publish ''", "id"),
        ("nothing", "nothing"),
        ("config --set", "--set"),
        ("config -s train.epochs=99999999999999999999", "train.epochs"),
        ("config -s 'nightly.floors={ndcg@10: .nan}'", "nightly.floors"),
        ("config -c /", "/"),
        ("models -s root=foo://b", "foo://"),
        ("recommendations -s root=s3:/b", "s3:/b"),
        ("rollback -s storage.timeout_s=1e300", "storage.timeout_s"),
        ("fetch ml-7", "ml-7"),
        ("jobs", "--cluster"),
        ("logs", "Missing"),
        ("stop x --cluster http://[", "--cluster"),
        ("inspect absent.csv", "absent.csv"),
        ("audience -s data.input=absent.csv --items x", "absent.csv"),
        ("similar -s similar.k=0", "similar.k"),
    ],
)
def test_the_shell_sees_the_same(line, named, tmp_path):
    command = f"{sys.executable} {ROOT / 'submit.py'} {line}"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert named in done.stderr, done.stderr
    assert not done.stdout
