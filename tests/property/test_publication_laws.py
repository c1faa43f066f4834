"""LATEST, rollbacks and what is kept for them, against a stack of runs: also when moves die."""

import tempfile
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightsans.config import ScoreConfig
from lightsans.errors import NotFoundError
from lightsans.storage.conditional_writes import write_if_unchanged
from lightsans.storage.manifests import write_manifest
from pipelines import publish
from pipelines.publish import Published, latest_run_id, publish_run, read_published, roll_back
from pipelines.score.old_runs import needed_runs
from tests.factories import local
from tests.manifests import run_manifest

RUNS = "abcd"
LATER = datetime.now(UTC) + timedelta(days=2)
"""Nobody reads by then what LATEST has said today."""


class DiedError(BaseException):
    """A process that dies after the history and before LATEST."""


class Stack:
    """The published runs as the rules say it: the newest is on top."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.withdrawn: set[str] = set()

    @property
    def below(self) -> list[str]:
        """Runs that rollbacks bring back, one after the other, each once."""
        found = [run for run in self.runs[::-1] if run not in self.withdrawn]
        return [run for run in dict.fromkeys(found) if run != self.runs[-1]]

    def publish(self, run: str) -> None:
        if self.runs[-1:] != [run]:
            self.runs.append(run)
            self.withdrawn.discard(run)

    def roll_back(self) -> None:
        target = self.below[0]
        self.withdrawn.add(self.runs[-1])
        while self.runs[-1] != target:
            self.runs.pop()


def dies(file, content, version):
    """Write the history, as a process that dies then."""
    if file.name == publish.LATEST:
        raise DiedError
    return WRITE(file, content, version)


WRITE = write_if_unchanged


def move(before: Published, what: str) -> None:
    if what == "rollback":
        roll_back(before)
    else:
        publish_run(before, what)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*RUNS, "rollback"]), st.booleans()), max_size=12),
    st.integers(1, 4),
)
def test_publications_are_a_stack_whatever_died_in_between(moves, keep):
    stack = Stack()
    with tempfile.TemporaryDirectory() as directory:
        root = local(directory)
        for name in RUNS:
            write_manifest(root / "recommendations" / name, run_manifest(name, parts=()))
        for what, is_killed in moves:
            before = read_published(root)
            if what == "rollback" and not (stack.runs and stack.below):
                with pytest.raises(NotFoundError, match="nothing was published before"):
                    roll_back(before)
                continue
            if is_killed and stack.runs[-1:] != [what]:
                with patch.object(publish, "write_if_unchanged", dies), pytest.raises(DiedError):
                    move(before, what)
            else:
                move(before, what)
                stack.roll_back() if what == "rollback" else stack.publish(what)
            found = read_published(root)
            kept = stack.runs[-1:] + stack.below if stack.runs else []
            assert latest_run_id(root) == (kept[0] if kept else None)
            assert {run for run in RUNS if found.withdrawn(run)} == stack.withdrawn
            assert [entry.run_id for entry in found.going_back] == kept[1:]
            assert list(needed_runs(found, ScoreConfig(keep_published=keep), LATER)) == kept[:keep]
