"""Properties of S3 that the pipeline relies on, tried on the server that the other tests use."""

import os

import botocore.session
import pytest
import s3fs
from botocore.exceptions import ClientError


@pytest.fixture
def filesystem(s3_server):
    return s3fs.S3FileSystem(endpoint_url=s3_server.endpoint_url, use_listings_cache=False)


@pytest.fixture
def client(s3_server):
    return botocore.session.get_session().create_client("s3", endpoint_url=s3_server.endpoint_url)


def test_what_is_written_is_read_back_and_listed(filesystem, s3_server):
    base = f"{s3_server.bucket}/round-trip"
    data = os.urandom(12 << 20)  # two parts of a multipart upload
    filesystem.pipe_file(f"{base}/small", b"small")
    with filesystem.open(f"{base}/large", "wb") as file:
        file.write(data)
    assert filesystem.cat_file(f"{base}/small") == b"small"
    assert filesystem.cat_file(f"{base}/large") == data
    assert filesystem.cat_file(f"{base}/large", start=100, end=110) == data[100:110]
    assert sorted(filesystem.ls(base, detail=False)) == [f"{base}/large", f"{base}/small"]


def test_an_object_that_was_replaced_has_another_etag(filesystem, s3_server):
    path = f"{s3_server.bucket}/etag"
    filesystem.pipe_file(path, b"one")
    first = filesystem.info(path)["ETag"]
    filesystem.pipe_file(path, b"two")
    assert filesystem.info(path)["ETag"] != first


def test_of_two_conditional_writes_only_the_first_counts(client, s3_server):
    """``If-None-Match: *`` decides between two runs that write the same object."""
    target = {"Bucket": s3_server.bucket, "Key": "conditional"}
    client.put_object(**target, Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        client.put_object(**target, Body=b"second", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert client.get_object(**target)["Body"].read() == b"first"


def test_s3fs_writes_conditionally_too(filesystem, s3_server):
    path = f"{s3_server.bucket}/exclusive"
    filesystem.pipe_file(path, b"first", mode="create")
    with pytest.raises(OSError, match="pre-conditions"):
        filesystem.pipe_file(path, b"second", mode="create")
    assert filesystem.cat_file(path) == b"first"


def test_a_wrong_key_is_refused(s3_server):
    stranger = s3fs.S3FileSystem(
        endpoint_url=s3_server.endpoint_url,
        key="stranger",
        secret="wrong",
        skip_instance_cache=True,
    )
    with pytest.raises(PermissionError):
        stranger.ls(s3_server.bucket)
