import errno
import os
import sys

import pytest
from ray.exceptions import RuntimeEnvSetupError

from lightsans.errors import NotFoundError
from pipelines.commands.app import plain_errors
from pipelines.console.faults import explain_fault


@pytest.mark.parametrize(
    ("number", "status"),
    [
        *((errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EMFILE, 1)),
        *((errno.EROFS, 2), (errno.EACCES, 2), (errno.ENAMETOOLONG, 2), (errno.ENOTDIR, 2)),
    ],
)
def test_a_fault_of_a_disk_is_one_line_with_the_status_of_the_readme(number, status, capsys):
    statuses: list[int] = []
    with plain_errors(statuses.append):
        raise RuntimeError("a task failed") from OSError(number, os.strerror(number), "/full/file")
    assert statuses == [status]
    [line] = capsys.readouterr().err.splitlines()
    assert number == errno.EMFILE or "/full/file" in line


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a device that is always full")
def test_a_full_disk_says_that_the_command_goes_on():
    with (
        pytest.raises(OSError, match="No space") as caught,
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")
    explained = explain_fault(caught.value)
    assert "no space left" in str(explained)
    assert "it goes on from here" in str(explained)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("[Node 10.0.0.4] Traceback\nOSError: [Errno 28] No space left on device", "on 10.0.0.4: "),
        ("OSError: [Errno 28] No space left on device: '/tmp/ray/x'", "temporary files: no space"),
    ],
)
def test_a_full_disk_of_another_machine_is_read_from_the_text_that_ray_has_of_it(told, named):
    explained = explain_fault(RuntimeEnvSetupError(told))
    assert "no space left; free some" in str(explained)
    assert named in str(explained)
    assert explain_fault(RuntimeEnvSetupError("[Node 10.0.0.4] pip failed")) is None


def test_an_error_that_came_while_another_was_handled_is_not_hidden_by_it():
    fault = KeyError("a fault of ours")
    fault.__context__ = NotFoundError("no dataset")
    assert explain_fault(fault) is None
