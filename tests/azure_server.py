"""Azurite as a local server of Azure's Blob Storage; it comes from npm: ``npm install azurite``."""

import base64
import hashlib
import hmac
import http.client
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.servers import free_ports, run_server

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
    [port] = free_ports(1)
    command = [binary, "--blobPort", str(port), "--location", str(directory), "--silent"]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    with run_server(command, directory, lambda: _make_container(port), (OSError,)):
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
        }


def _make_container(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{ACCOUNT}/{CONTAINER}?restype=container", headers=_signed())
    status = connection.getresponse().status
    connection.close()
    assert status in (201, 409), status


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
