import pyarrow as pa
import pytest

from lightsans.config import StorageConfig
from lightsans.errors import AccessError, ConfigError, InputError
from lightsans.storage.location import list_files, locate

STORAGE = StorageConfig()


def test_local_paths_and_file_uris_are_the_same_place(tmp_path):
    assert locate(f"file://{tmp_path}/x", STORAGE) == locate(f"{tmp_path}/x", STORAGE)


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("./data", STORAGE).uri == str(tmp_path / "data")


def test_a_bucketless_uri_is_refused():
    with pytest.raises(ConfigError, match="names no bucket"):
        locate("s3://", STORAGE)


def test_a_root_below_a_file_holds_nothing_and_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("x")
    target = locate(str(tmp_path / "file" / "root" / "x.json"), STORAGE)
    with pytest.raises(FileNotFoundError):
        target.read_bytes()
    with pytest.raises(AccessError, match=r"file/root: no directory for results: Not a directory"):
        target.write_bytes(b"x")


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    target = locate(str(tmp_path / "sub" / "file"), STORAGE)
    with pytest.raises(RuntimeError), target.open_atomic() as aside:  # noqa: PT012
        aside.write_text("half")
        raise RuntimeError
    assert not target.exists()
    assert list((tmp_path / "sub").iterdir()) == []


def test_a_file_being_written_is_not_listed_and_replaces_the_old_one_at_once(tmp_path):
    target = locate(str(tmp_path / "file"), STORAGE)
    target.write_bytes(b"old")
    with target.open_atomic() as aside:
        aside.write_bytes(b"new")
        assert target.read_bytes() == b"old"
        assert target.parent.children() == ["file"]
    assert target.read_bytes() == b"new"


def test_tables_and_json_round_trip(tmp_path):
    root = locate(str(tmp_path), STORAGE)
    table = pa.table({"x": [1, 2]})
    (root / "t.parquet").write_table(table)
    (root / "j.json").write_json({"ü": 1})
    assert (root / "t.parquet").read_table() == table
    assert (root / "j.json").read_json() == {"ü": 1}
    assert root.children() == ["j.json", "t.parquet"]


def test_a_copy_outlives_and_ignores_what_happens_to_its_source(tmp_path):
    source, target = (locate(str(tmp_path / name), STORAGE) for name in ("a", "b/c"))
    source.write_bytes(b"old")
    source.copy_to(target)
    source.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    source.copy_to(target)
    source.delete()
    assert target.read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["c"]


def test_directories_and_globs_are_listed_by_path_bytes_without_markers(tmp_path):
    for name in ("b.csv", "a/z.csv", "B.csv", "_SUCCESS", ".hidden", "c.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    found = [
        f.location.uri.removeprefix(f"{tmp_path}/") for f in list_files(str(tmp_path), STORAGE)
    ]
    assert found == ["B.csv", "a/z.csv", "b.csv", "c.txt"]
    found = [f.location.name for f in list_files(f"{tmp_path}/*.csv", STORAGE)]
    assert found == ["B.csv", "b.csv"]


def test_an_input_that_matches_nothing_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.csv: no such file"):
        list_files(str(tmp_path / "nothing.csv"), STORAGE)
    with pytest.raises(InputError, match="no file matches"):
        list_files(str(tmp_path / "*.csv"), STORAGE)


def test_a_rewritten_file_has_another_etag(tmp_path):
    path = tmp_path / "f"
    path.write_text("1")
    before = list_files(str(path), STORAGE)[0]
    path.write_text("2")
    assert list_files(str(path), STORAGE)[0].etag != before.etag


def test_the_credentials_of_an_endpoint_never_enter_the_configuration():
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        StorageConfig(endpoint_url="http://key:secret@host:9000")
