"""Schemes of paths, and the packages they need."""

import os

import pytest

from lightsans.config import StorageConfig
from lightsans.errors import ConfigError
from lightsans.storage.filesystems import remove_tree, split_account
from lightsans.storage.location import locate

STORAGE = StorageConfig()


@pytest.mark.parametrize(
    "uri", ["foo://x/y", "ftp://host/x", "hdfs://x/y", "https://host/x.csv", "http://host/x.csv"]
)
def test_a_scheme_that_is_not_supported_is_an_error_that_names_those_that_are(uri):
    with pytest.raises(ConfigError, match=r"is not supported; expected .*file://, s3://, gs://"):
        locate(uri, STORAGE)


def test_a_scheme_without_its_package_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr("lightsans.storage.filesystems.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package obstore; .*lightsans\[azure\]"):
        locate("abfs://container/x", STORAGE)


@pytest.mark.parametrize("scheme", ["wasb", "wasbs", "adl"])
def test_older_addresses_of_azure_lead_to_the_one_that_is_read(scheme):
    with pytest.raises(ConfigError, match=r"abfs://CONTAINER@ACCOUNT\.dfs\.core\.windows\.net"):
        locate(f"{scheme}://logs@shop.blob.core.windows.net/x", STORAGE)


def test_an_account_in_an_address_is_no_part_of_the_path():
    location = locate("abfss://logs@shop.dfs.core.windows.net/a/b@c", STORAGE)
    assert location.uri == "abfs://logs@shop.dfs.core.windows.net/a/b@c"
    assert location.path == "logs/a/b@c"
    assert split_account(location.uri)[1] == "shop"
    assert split_account("abfs://logs/a@shop.dfs.core.windows.net")[1] is None


def test_a_scheme_may_be_written_in_capitals():
    assert locate("S3://Bucket/Key", STORAGE).uri == "s3://Bucket/Key"
    assert locate("FILE:///x", STORAGE).uri == "/x"


def test_a_bucketless_uri_is_refused():
    with pytest.raises(ConfigError, match="names no bucket"):
        locate("s3://", STORAGE)


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("s3:/x", "s3://x"),
        ("S3:/x/y", "S3://x/y"),
        ("s3a:/x", "s3a://x"),
        ("gs:/x", "gs://x"),
        ("abfss:/x", "abfss://x"),
        ("file:/x", "file:///x"),
    ],
)
def test_one_slash_after_a_scheme_is_refused_with_what_was_meant(uri, meant):
    with pytest.raises(ConfigError, match=rf"'{uri}' has one slash .* expected {meant} \(or"):
        locate(uri, STORAGE)


def test_a_colon_elsewhere_is_part_of_a_path():
    assert locate("/a/s3:/x", STORAGE).uri == "/a/s3:/x"
    assert locate("./s3:/x", STORAGE).uri.endswith("/s3:/x")
    assert locate("own:/x", STORAGE).uri.endswith("/own:/x")


@pytest.mark.parametrize("bucket", ["my bucket", "a*b", "a" * 256, "b:c", "größe", "?"])
def test_a_malformed_bucket_is_named_before_any_request(bucket):
    uri = f"s3://{bucket}/x"
    with pytest.raises(ConfigError, match="cannot be the name of a bucket") as raised:
        locate(uri, STORAGE)
    assert repr(uri) in str(raised.value)


def test_a_directory_goes_although_others_write_into_it_and_delete_from_it(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "gone").touch()
    rmdir, unlink = os.rmdir, os.unlink

    def write_first(path, **options):
        monkeypatch.setattr(os, "rmdir", rmdir)
        (tree / "inner" / "late").touch()
        rmdir(path, **options)

    def delete_first(path, **options):
        monkeypatch.setattr(os, "unlink", unlink)
        unlink(path, **options)
        unlink(path, **options)

    monkeypatch.setattr(os, "rmdir", write_first)
    monkeypatch.setattr(os, "unlink", delete_first)
    remove_tree(str(tree))
    assert not tree.exists()


def test_a_directory_that_cannot_be_removed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "tree").mkdir()

    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(PermissionError):
        remove_tree(str(tmp_path / "tree"))
