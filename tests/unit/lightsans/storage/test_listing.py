import os
import socket

import pytest

from lightsans.config import StorageConfig
from lightsans.errors import InputError
from lightsans.storage.listing import check_unchanged, list_files, list_inputs
from lightsans.storage.location import locate

STORAGE = StorageConfig()


def make_files(directory, *names, content="x"):
    for name in names:
        path = directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content)


def listed(pattern):
    """Paths below the directory of the test."""
    return [file.location.uri.split("/base/")[1] for file in list_files(str(pattern), STORAGE)]


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


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


@pytest.mark.parametrize("pattern", ["", "**", "**/*.csv", "*/*.csv"])
def test_what_other_tools_leave_beside_data_is_not_read(base, pattern):
    make_files(
        base,
        "a/day1.csv",
        "a/.ipynb_checkpoints/day1-checkpoint.csv",
        "a/_temporary/0/task_1/part-0.csv",
        "a/_delta_log/000.csv",
        "a/part-0.csv.crc",
        ".ipynb_checkpoints/day2.csv",
        "_temporary/part-1.csv",
        "_spark_metadata/0.csv",
        "a/_SUCCESS",
        "README.md",
        "a/readme.txt",
        "a/LICENSE",
        "a/day1.csv.sha256",
        "SHA256SUMS",
        "a/day1.csv~",
        "a/#day1.csv#",
        "a/day1.csv.tmp",
        "a/day1.csv.bak",
        "a/day1.csv._COPYING_",
        "a/day2.csv.crdownload",
        "Thumbs.db",
        "desktop.ini",
    )
    make_files(base, "a_$folder$", content="")
    assert listed(f"{base}/{pattern}") == ["a/day1.csv"]


def test_partitions_whose_column_begins_with_an_underscore_are_read(base):
    make_files(base, "_day=1/x.csv", "day=2/x.csv")
    assert listed(base) == ["_day=1/x.csv", "day=2/x.csv"]


def test_a_directory_above_the_pattern_may_be_hidden(base):
    make_files(base, ".cache/_logs/x.csv")
    assert listed(f"{base}/.cache/_logs") == [".cache/_logs/x.csv"]
    assert listed(f"{base}/.cache/_logs/*.csv") == [".cache/_logs/x.csv"]
    assert listed(f"{base}/.cache/../.cache/_logs") == [".cache/../.cache/_logs/x.csv"]


def test_a_name_that_exists_is_no_glob(base):
    make_files(base, "day[1].csv", "day1.csv", "a[1]/x.csv", "a1/x.csv", "b*/c[2]/x.csv")
    assert listed(f"{base}/day[1].csv") == ["day[1].csv"]
    assert listed(f"{base}/a[1]") == ["a[1]/x.csv"]
    assert listed(f"{base}/a[1]/*.csv") == ["a[1]/x.csv"]
    assert listed(f"{base}/b*/c[2]/*.csv") == ["b*/c[2]/x.csv"]
    assert listed(f"{base}/day[12].csv") == ["day1.csv"]


def test_names_and_markers_are_the_same_on_s3(s3_server):
    storage = StorageConfig(endpoint_url=s3_server.endpoint_url)
    base = locate(s3_server.uri("listing"), storage)
    for name in ("a/x[1].csv", "a/x1.csv", "a/_temporary/0/y.csv", ".hidden/z.csv"):
        (base / name).write_bytes(b"x")
    base.filesystem.pipe_file(f"{base.path}/a_$folder$", b"")
    base.filesystem.call_s3("put_object", Bucket=s3_server.bucket, Key="listing/a/")
    names = [file.location.name for file in list_files(base.uri, storage)]
    assert names == ["x1.csv", "x[1].csv"]
    assert [file.location.name for file in list_files(f"{base}/a/*.csv", storage)] == names
    literal = list_files(f"{base}/a/x[1].csv", storage)
    assert [file.location.name for file in literal] == ["x[1].csv"]


def test_empty_part_files_are_left_out_and_counted(base):
    make_files(base, "part-0.csv", "part-1.csv")
    make_files(base, "part-2.csv", "part-3.csv", content="")
    found = list_inputs([str(base)], STORAGE)
    assert [file.location.name for file in found.files] == ["part-0.csv", "part-1.csv"]
    assert found.num_empty == 2


def test_a_day_of_empty_files_beside_others_is_left_out(base):
    make_files(base, "day1/part-0.csv")
    make_files(base, "day2/part-0.csv", "day2/part-1.csv", content="")
    found = list_inputs([f"{base}/day1", f"{base}/day2"], STORAGE)
    assert [file.location.name for file in found.files] == ["part-0.csv"]
    assert found.num_empty == 2


def test_directories_that_a_glob_matches_are_read_with_all_below_them(base):
    make_files(base, "day=1/a/x.csv", "day=2/y.csv", "day=2/_SUCCESS", "other/z.csv", "day=3.csv")
    found = ["day=1/a/x.csv", "day=2/y.csv", "day=3.csv"]
    assert listed(f"{base}/day=*") == found
    assert listed(f"{base}/day=*/**") == found[:2]


def test_hidden_names_are_read_where_the_pattern_says_so(base):
    make_files(base, "a/_logs/x.csv", "a/_logs/.y.csv", "b/logs/z.csv")
    assert listed(f"{base}/*/_logs/*") == ["a/_logs/x.csv"]
    assert listed(f"{base}/*/_logs/.*") == ["a/_logs/.y.csv"]


def test_links_are_followed_and_a_file_counts_once(base):
    make_files(base, "real/day1.csv", "outside/day2.csv")
    (base / "logs").mkdir()
    (base / "logs/a_latest.csv").symlink_to("../real/day1.csv")
    (base / "logs/days").symlink_to("../outside")
    (base / "logs/circle").symlink_to("..")
    found = list_inputs([f"{base}/logs", f"{base}/real/*.csv", f"{base}/logs"], STORAGE)
    paths = [file.location.uri.split("/base/")[1] for file in found.files]
    assert paths == ["logs/circle/outside/day2.csv", "real/day1.csv"]
    [note] = found.notes("data.input")
    assert "is the same file as" in note
    assert "data.input counts the rows of a file once" in note


def test_a_file_that_is_named_twice_counts_once(base):
    make_files(base, "a.csv", "b.csv")
    os.link(base / "a.csv", base / "hard.csv")
    found = list_inputs([f"{base}/a.csv", f"{base}/b.csv", f"{base}/a.csv"], STORAGE)
    assert [file.location.name for file in found.files] == ["a.csv", "b.csv"]
    assert "a.csv is named twice;" in found.notes("data.input")[0]
    found = list_inputs([str(base)], STORAGE)
    assert [file.location.name for file in found.files] == ["a.csv", "b.csv"]


def test_a_link_that_leads_nowhere_is_an_error(base):
    make_files(base, "a.csv")
    (base / "b.csv").symlink_to("gone.csv")
    with pytest.raises(InputError, match=r"b\.csv: a link that leads nowhere"):
        list_inputs([str(base)], STORAGE)


@pytest.mark.parametrize(
    ("log", "name"),
    [
        ("_delta_log/00000000000000000000.json", "a Delta Lake table"),
        ("metadata/v1.metadata.json", "an Iceberg table"),
        (".hoodie/hoodie.properties", "a Hudi table"),
    ],
)
def test_a_table_of_a_warehouse_is_no_plain_directory(base, log, name):
    make_files(base, f"shop/{log}", "shop/part-0.parquet", "shop/data/part-1.parquet")
    with pytest.raises(InputError, match=rf"shop: this is {name}, .*plain parquet files"):
        list_files(f"{base}/shop", STORAGE)
    with pytest.raises(InputError, match=rf"base: its directory 'shop' is {name}"):
        list_files(str(base), STORAGE)
    assert listed(f"{base}/shop/*.parquet") == ["shop/part-0.parquet"]
    make_files(base, "plain/metadata/notes.csv")
    assert listed(f"{base}/plain") == ["plain/metadata/notes.csv"]


def test_input_of_empty_files_only_is_refused(base):
    make_files(base, "part-2.csv", "part-3.csv", content="")
    with pytest.raises(InputError, match=r"all 2 files are empty"):
        list_inputs([str(base)], STORAGE)


@pytest.mark.parametrize("change", ["replaced", "truncated", "vanished"])
def test_a_file_that_is_not_what_was_listed_is_an_error_that_names_it(base, change):
    make_files(base, "a.csv", "b.csv", content="12345")
    files = list_files(str(base), STORAGE)
    check_unchanged(files)
    if change == "replaced":
        make_files(base, "new", content="abcde")
        (base / "new").replace(base / "b.csv")
    elif change == "truncated":
        (base / "b.csv").write_text("12")
    else:
        (base / "b.csv").unlink()
    with pytest.raises(InputError, match=r"b\.csv: the file (changed|vanished) while it was"):
        check_unchanged(files)


def test_a_file_that_this_machine_may_never_have_had_is_told_with_the_machine(base):
    make_files(base, "a.csv")
    files = list_files(str(base), STORAGE)
    (base / "a.csv").unlink()
    told = rf"or {socket.gethostname()} never had it: a file must lie where every machine of a clus"
    with pytest.raises(InputError, match=told):
        check_unchanged(files)


def test_links_in_a_circle_and_names_too_long_are_told(base):
    (base / "a.csv").symlink_to("a.csv")
    for name in (str(base / "a.csv"), f"{base}/{'x' * 300}"):
        with pytest.raises(InputError, match=r"no such file: (Too many levels|File name too long)"):
            list_files(name, STORAGE)


def test_a_pipe_is_no_empty_file(base):
    os.mkfifo(base / "pipe")
    with pytest.raises(InputError, match=r"pipe: a pipe or device, expected a file; write its"):
        list_files(f"{base}/pipe", STORAGE)
    make_files(base, "a.csv")
    assert [file.location.name for file in list_inputs([str(base)], STORAGE).files] == ["a.csv"]


@pytest.mark.parametrize("path", ["C:\\logs\\a.csv", "file:///C:/logs/a.csv", "d:/a.csv"])
def test_a_path_of_windows_is_told_as_that(path):
    with pytest.raises(InputError, match=r"no such file; a drive of Windows .*/mnt/c"):
        list_files(path, STORAGE)


def test_a_file_whose_name_is_not_utf8_is_an_error_that_names_it(base):
    make_files(base, "a.csv", os.fsdecode(b"\xff.csv"))
    with pytest.raises(InputError, match=r"\\udcff\.csv': the name of this file is not UTF-8"):
        list_files(str(base), STORAGE)
