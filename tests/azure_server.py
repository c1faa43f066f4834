"""Azurite as a local server of Azure's Blob Storage; it comes from npm: ``npm install azurite``."""

import base64
import hashlib
import hmac
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.commands import ROOT

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and the key that Azurite's documentation gives to everybody."""
CONTAINER = "lake"


@contextmanager
def run_azure_server(directory: Path) -> Iterator[dict[str, str]]:
    """Start the server with one container; the variables by which it is reached.

    The test is skipped where Azurite is not at hand.
    """
    binary = shutil.which("azurite-blob") or shutil.which(
        "azurite-blob", path=str(ROOT / "node_modules" / ".bin")
    )
    if binary is None or shutil.which("node") is None:
        pytest.skip("no azurite-blob: `npm install azurite` here, with Node.js, brings it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [binary, "--blobPort", str(port), "--location", str(directory), "--silent"]
    log = directory / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [*command, "--skipApiVersionCheck", "--disableTelemetry"],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _make_container(server, port, log)
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
        }
    finally:
        server.kill()
        server.wait()


def _make_container(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the server takes it: it may still be starting."""
    give_up = time.monotonic() + 120
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request(
                "PUT", f"/{ACCOUNT}/{CONTAINER}?restype=container", headers=_signed()
            )
            status = connection.getresponse().status
            connection.close()
            assert status in (201, 409), status
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"Azurite did not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)


def _signed() -> dict[str, str]:
    """Headers of a request that makes the container, signed with the account's key."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    place = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    text = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:2021-08-06\n{place}"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}",
        "Content-Length": "0",
    }
