"""Lines of another's that are kept out of standard error, and those that are not."""

import os
import re

import pytest

from pipelines.console import raw_lines
from pipelines.console.raw_lines import hiding

RAYS = (
    b"[2026-11-27 18:31:14,135 E 10248 10248] core_worker.cc:2465: Actor with class name: 'A' and "
    b"ID: 'a8' has constructor arguments in the object store and max_restarts > 0.\n"
)


def test_the_warning_is_kept_out_and_all_else_that_was_said_stays(capfd):
    with hiding(raw_lines.WARNING):
        os.write(2, b"before\n" + RAYS + b"core_worker.cc:1: something else\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\ncore_worker.cc:1: something else\nafter\n"


def test_an_error_in_between_gives_standard_error_back(capfd):
    def fail():
        os.write(2, b"x\ny\n")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), hiding(re.compile(b"x\n")):
        fail()
    os.write(2, b"z\n")
    assert capfd.readouterr().err == "y\nz\n"
