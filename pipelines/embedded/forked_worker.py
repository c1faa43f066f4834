"""Program that an embedded Ray starts for a worker: has it forked, or else becomes it.

Ray's command is ``PYTHON OURS FLAGS OURS NAME WORKER … --language=PYTHON``, with the environment of
a worker that has one of its own in ``--serialized-runtime-env-context=JSON``, or, where nothing is
to be set up, ``PYTHON FLAGS OURS NAME WORKER …``. Imports little: Ray waits for it.
"""

import json
import os
import resource
import socket
import struct
import sys

_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
_WAIT_S = 30.0
"""Time in which the fork server, which may be importing, must answer; Ray waits for a minute."""


def main(arguments: list[str]) -> None:
    """Have a worker forked, or become one.

    Args:
        arguments: Command line of this program.
    """
    own, *rest = arguments
    flags = []
    while rest[0] == own or rest[0].startswith("-"):
        flags += [rest[0]] if rest[0] != own else []
        rest = rest[1:]
    name, *worker = rest
    plain = [each for each in worker if not each.startswith((_CONTEXT, _LANGUAGE))]
    contexts = [each.removeprefix(_CONTEXT) for each in worker if each.startswith(_CONTEXT)]
    request = {
        "arguments": plain,
        "context": json.loads(contexts[0]) if contexts else {},
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }
    if not _is_forked(name, json.dumps(request).encode()):
        setup = os.path.join(os.path.dirname(plain[0]), "setup_worker.py")
        command = [*([setup] if worker != plain else []), *flags, *worker]
        os.execv(sys.executable, [sys.executable, *command])


def _is_forked(name: str, request: bytes) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_WAIT_S)
            connection.connect("\0" + name)
            pid_user_group = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", pid_user_group)[1] != os.getuid():  # it would see our secrets
                return False
            socket.send_fds(connection, [len(request).to_bytes(4, "little")], [0, 1, 2])
            connection.sendall(request)
            return connection.recv(1) == b"1"
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv)
