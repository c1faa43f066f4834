import os
import signal
import threading

import pyarrow as pa
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import AccessError, ConfigError
from lightsans.storage.location import Location, locate
from tests.factories import local

STORAGE = StorageConfig()


@pytest.mark.parametrize("uri", ["~nobody-is-called-so/x", "file://~nobody-is-called-so/x"])
def test_a_home_that_is_not_known_is_named(uri):
    with pytest.raises(ConfigError, match=r"no home directory is known for ~nobody-is-called-so"):
        locate(uri, StorageConfig())


def test_local_paths_and_file_uris_are_the_same_place(tmp_path):
    assert locate(f"file://{tmp_path}/x", STORAGE) == locate(f"{tmp_path}/x", STORAGE)


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("./data", STORAGE).uri == str(tmp_path / "data")


def test_a_root_below_a_file_holds_nothing_and_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("x")
    target = local(tmp_path / "file" / "root" / "x.json")
    with pytest.raises(FileNotFoundError):
        target.read_bytes()
    with pytest.raises(AccessError, match=r"file/root: no directory for results: Not a directory"):
        target.write_bytes(b"x")


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    target = local(tmp_path / "sub" / "file")
    with pytest.raises(RuntimeError), target.open_atomic() as aside:  # noqa: PT012
        aside.write_text("half")
        raise RuntimeError
    assert not target.exists()
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_file_being_written_is_not_listed_and_replaces_the_old_one_at_once(tmp_path):
    target = local(tmp_path / "file")
    target.write_bytes(b"old")
    with target.open_atomic() as aside:
        aside.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert target.parent.children() == ["file"]
    assert target.read_bytes() == b"new"


def test_tables_and_json_round_trip(tmp_path):
    root = local(tmp_path)
    table = pa.table({"x": [1, 2]})
    (root / "t.parquet").write_table(table)
    (root / "j.json").write_json({"ü": 1})
    assert (root / "t.parquet").read_table() == table
    assert (root / "j.json").read_json() == {"ü": 1}
    assert root.children() == ["j.json", "t.parquet"]


def test_a_copy_outlives_and_ignores_what_happens_to_its_source(tmp_path):
    source, target = (local(tmp_path / name) for name in ("a", "b/c"))
    source.write_bytes(b"old")
    source.copy_to(target)
    source.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    source.copy_to(target)
    source.delete()
    assert target.read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["c"]


def test_the_credentials_of_an_endpoint_never_enter_the_configuration():
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        StorageConfig(endpoint_url="http://key:secret@host:9000")


def test_the_children_of_a_path_below_a_file_are_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file/models: a part of this path is a file"):
        local(tmp_path / "file" / "models").children()


def test_a_denied_path_is_an_access_error_that_names_it(tmp_path, monkeypatch):
    place = local(tmp_path)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("ls", "info", "open"):
        monkeypatch.setattr(type(place.filesystem), name, deny)
    for use in (place.children, place.info, place.open):
        with pytest.raises(AccessError, match=rf"{tmp_path}: permission denied"):
            use()


ODD_NAMES = ["del[1]", "del*", "del?", "a b", "100%", "größe", "[!x]", "{a,b}"]


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path):
    """A directory on disk, or a prefix of a bucket."""
    if request.param == "disk":
        return local(tmp_path)
    server = request.getfixturevalue("s3_server")
    storage = StorageConfig(endpoint_url=server.endpoint_url)
    return locate(server.uri(f"literal/{tmp_path.name}"), storage)


def test_a_deletion_takes_every_name_literally(place):
    neighbours = ["del1", "delx", "del", "a", "100", "b", "y"]
    for name in (*ODD_NAMES, *neighbours):
        (place / name / "manifest.json").write_bytes(b"{}")
        (place / f"{name}.json").write_bytes(b"{}")
    for name in ODD_NAMES:
        (place / name).delete()
        (place / f"{name}.json").delete()
        (place / name).delete()  # nothing is there any more
    expected = sorted([*neighbours, *(f"{name}.json" for name in neighbours)])
    assert place.children() == expected
    assert all((place / name / "manifest.json").exists() for name in neighbours)


def test_odd_names_are_written_read_and_listed_as_they_are(place):
    for name in ODD_NAMES:
        (place / name / "x.json").write_json({"name": name})
        assert (place / name / "x.json").read_json() == {"name": name}
        assert (place / name).children() == ["x.json"]
    assert place.children() == sorted(ODD_NAMES)


def test_a_deletion_below_a_file_does_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    local(tmp_path / "file" / "x").delete()
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("uri", ["a\0b", "s3://bucket/a\0b", "file:///a\0b"])
def test_a_nul_character_is_refused(uri):
    with pytest.raises(ConfigError, match=r"a\\x00b': a path or an id cannot hold a NUL"):
        locate(uri, STORAGE)


def test_a_nul_character_in_an_id_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"models/a\\x00b': a path or an id cannot hold a NUL"):
        local(tmp_path) / "models" / "a\0b"


def test_a_bucket_that_the_client_refuses_is_no_outage():
    """Addresses that `locate` lets through and botocore does not: no attempt is made."""
    storage = StorageConfig(anonymous=True, endpoint_url="http://x.test")
    with pytest.raises(ConfigError, match=r"s3://no bucket/x: S3 refuses this address: .*bucket"):
        Location("s3://no bucket/x", storage).read_bytes()


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    """As a device is: a process with rights to ``/dev`` must leave ``/dev/null`` there."""
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    local(tmp_path / "pipe").write_bytes(b"content")
    reader.join(10)
    assert found == [b"content"]
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_pipe_takes_all_of_a_long_content_though_a_signal_comes_in_between(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    content, found, noted = bytes(1 << 20), [], threading.Event()

    def read():
        with open(tmp_path / "pipe", "rb") as pipe:
            noted.wait(10)  # until then the pipe is full
            found.append(pipe.read())

    reader = threading.Thread(target=read)
    reader.start()
    me = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, lambda *_: noted.set())
    try:
        threading.Timer(0.2, signal.pthread_kill, (me, signal.SIGUSR1)).start()
        local(tmp_path / "pipe").write_bytes(content)
    finally:
        signal.signal(signal.SIGUSR1, before)
    reader.join(10)
    assert found == [content]


@pytest.mark.parametrize("uri", ["logs/\udcff", "s3://bucket/\udcff"])
def test_a_name_that_is_not_utf8_is_refused(uri):
    with pytest.raises(ConfigError, match=r"\\udcff': the name is not UTF-8"):
        locate(uri, STORAGE)


@pytest.mark.parametrize("uri", ["", "  "])
def test_an_empty_name_is_not_the_working_directory(uri):
    with pytest.raises(ConfigError, match=r"names no file or directory; .* is '\.'"):
        locate(uri, STORAGE)


def test_the_parent_of_what_lies_at_the_top_is_the_top():
    top = locate("/metrics.prom", STORAGE).parent
    assert (top.uri, (top / "x").uri, top.parent.uri) == ("/", "/x", "/")
    assert top.exists()
    assert locate("s3://bucket/x", STORAGE).parent.uri == "s3://bucket"
