"""Attempts of requests to S3, without a server."""

from typing import Any

import pytest
from aiohttp import ClientPayloadError

from lightsans.errors import StorageError
from lightsans.storage import s3
from lightsans.storage.s3 import PatientS3FileSystem


class CutOff:
    """The body of an answer: the connection breaks while it is read, so many times."""

    def __init__(self, breaks: list[None]) -> None:
        self.breaks = breaks

    async def __aenter__(self) -> "CutOff":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def read(self) -> bytes:
        if self.breaks:
            self.breaks.pop()
            raise ClientPayloadError("Response payload is not completed")
        return b"content"


def read_through(monkeypatch: pytest.MonkeyPatch, breaks: int) -> tuple[bytes, str]:
    bodies = [None] * breaks

    async def call(method: str, **name: str) -> dict[str, object]:
        return {"Body": CutOff(bodies), "ETag": '"1"'}

    filesystem: Any = PatientS3FileSystem(
        max_attempts=3, timeout_s=1, anon=True, skip_instance_cache=True
    )
    monkeypatch.setattr(filesystem, "_call_s3", call)
    monkeypatch.setattr(s3, "_FIRST_PAUSE_S", 0.001)
    found: tuple[bytes, str] = filesystem.read_with_etag("bucket", "key")
    return found


def test_an_answer_that_breaks_off_is_asked_for_again(monkeypatch):
    assert read_through(monkeypatch, breaks=2) == (b"content", '"1"')


def test_an_answer_that_always_breaks_off_is_an_error_that_names_the_object(monkeypatch):
    with pytest.raises(StorageError, match=r"s3://bucket/key: gave up after 3 attempts .*payload"):
        read_through(monkeypatch, breaks=3)
