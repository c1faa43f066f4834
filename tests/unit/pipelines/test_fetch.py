import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lightsans.errors import InputError
from pipelines import fetch as fetch_module
from pipelines.fetch import convert_archive, run_fetch

INTER_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
U_DATA = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n"


def genres(*flagged):
    return "|".join("1" if index in flagged else "0" for index in range(19))


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def ml_100k_archive(u_data=U_DATA, u_item=None):
    """GroupLens' layout: tab-separated ratings, movies in latin-1 with a flag for every genre."""
    u_item = u_item or "\n".join(
        [
            f"1|Toy Story (1995)|01-Jan-1995||http://x/1|{genres(3, 4, 5)}",
            f"2|Misérables, Les (1995)|01-Jan-1995||http://x/2|{genres(8, 12)}",
            f"267|unknown||||{genres(0)}",
            f"3|Land Before Time III (1995) (V)|01-Jan-1995||http://x/3|{genres(3)}",
            f"4|Nikita (La Femme Nikita) (1990)|01-Jan-1990||http://x/4|{genres(16)}",
            "",
        ]
    )
    return zipped({"ml-100k/u.data": u_data, "ml-100k/u.item": u_item.encode("latin-1")})


@pytest.fixture
def expect(monkeypatch):
    """Make the small archive the one whose checksums are known."""

    def set_sums(name, archive):
        digest = hashlib.md5(archive).hexdigest()
        monkeypatch.setitem(fetch_module._ARCHIVE_MD5, name, digest)
        for file, data in convert_archive(name, archive).items():
            monkeypatch.setitem(fetch_module._SHA256, file, hashlib.sha256(data).hexdigest())

    return set_sums


@pytest.fixture
def serve(monkeypatch):
    """A web server in GroupLens' place, answering with the body it was given last."""

    class Handler(BaseHTTPRequestHandler):
        body = b""
        announced: int | None = None
        requests = 0

        def do_GET(self):
            type(self).requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(self.announced or len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(fetch_module, "_URL", f"http://127.0.0.1:{server.server_port}/{{name}}.zip")
    yield Handler
    server.shutdown()
    thread.join()
    server.server_close()


# ---- GroupLens' formats


def test_ml_100k_becomes_recboles_files_with_rows_in_their_order():
    files = convert_archive("ml-100k", ml_100k_archive())
    assert files["ml-100k.inter"].decode() == INTER_HEADER + U_DATA
    assert files["ml-100k.item"].decode("utf-8") == ITEM_HEADER + (
        "1\tToy Story\t1995\tAnimation Children's Comedy\n"
        "2\tMisérables, Les\t1995\tDrama Musical\n"
        "267\tunknown\t\tunknown\n"
        "3\tLand Before Time III\t1995\tAnimation\n"
        "4\tNikita (La Femme Nikita)\t1990\tThriller\n"
    )


def test_ml_1m_becomes_recboles_files():
    archive = zipped(
        {
            "ml-1m/ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n",
            "ml-1m/movies.dat": "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"),
        }
    )
    assert {name: data.decode() for name, data in convert_archive("ml-1m", archive).items()} == {
        "ml-1m.inter": INTER_HEADER + "1\t1193\t5\t978300760\n1\t661\t3\t978302109\n",
        "ml-1m.item": ITEM_HEADER + "73\tMisérables, Les\t1995\tDrama Musical\n",
    }


def test_a_line_with_too_few_fields_is_placed():
    with pytest.raises(InputError, match=r"u\.data, line 2: 3 fields instead of 4"):
        convert_archive("ml-100k", ml_100k_archive(u_data="1\t2\t3\t4\n1\t2\t3\n"))


def test_a_file_that_the_archive_lacks_is_named():
    with pytest.raises(InputError, match=r"ml-1m/ratings\.dat is missing"):
        convert_archive("ml-1m", zipped({"ml-1m/README": ""}))


# ---- fetching


def test_a_download_is_checked_converted_and_kept(tmp_path, serve, expect, capsys):
    serve.body = ml_100k_archive()
    expect("ml-100k", serve.body)
    target = tmp_path / "data"

    result = run_fetch("ml-100k", str(target))
    assert result.source.startswith("http://")
    assert (target / "ml-100k.inter").read_text() == INTER_HEADER + U_DATA
    assert result.paths == [str(target / "ml-100k.inter"), str(target / "ml-100k.item")]
    assert sorted(path.name for path in target.iterdir()) == [
        "ml-100k.inter",
        "ml-100k.item",
        "ml-100k.sha256",
    ]

    again = run_fetch("ml-100k", str(target))
    assert again.source == "kept"
    assert again.items == result.items
    assert serve.requests == 1
    assert "already and unchanged" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_changed_or_missing_file_is_fetched_again(tmp_path, serve, expect, damage):
    serve.body = ml_100k_archive()
    expect("ml-100k", serve.body)
    run_fetch("ml-100k", str(tmp_path))
    item_file = tmp_path / "ml-100k.item"
    if damage == "change":
        item_file.write_text("truncated")
    else:
        item_file.unlink()
    assert run_fetch("ml-100k", str(tmp_path)).source != "kept"
    assert "Toy Story" in item_file.read_text()


def test_an_archive_in_the_directory_replaces_the_download(tmp_path, serve, expect):
    archive = ml_100k_archive()
    expect("ml-100k", archive)
    (tmp_path / "ml-100k.zip").write_bytes(archive)
    run_fetch("ml-100k", str(tmp_path))
    assert serve.requests == 0


def test_another_archive_than_the_published_one_is_refused(tmp_path, serve):
    serve.body = ml_100k_archive()
    with pytest.raises(InputError, match=r"md5 .* instead of 0e33842e24a9c977be4e0107933c0723"):
        run_fetch("ml-100k", str(tmp_path), source="grouplens")
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_is_noticed(tmp_path, serve):
    serve.body, serve.announced = b"half", 8
    with pytest.raises(InputError, match="the download ended after 4 of 8 bytes"):
        run_fetch("ml-1m", str(tmp_path))


def test_lines_may_end_as_on_windows():
    archive = ml_100k_archive(u_data=U_DATA.replace("\n", "\r\n"))
    assert convert_archive("ml-100k", archive)["ml-100k.inter"].decode() == INTER_HEADER + U_DATA


@pytest.mark.programs
def test_without_a_network_the_error_says_what_else_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "_URL", "http://127.0.0.1:9/{name}.zip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(InputError) as caught:
        run_fetch("ml-100k", str(tmp_path))
    message = str(caught.value)
    assert "http://127.0.0.1:9/ml-100k.zip: the download failed" in message
    assert "recbole==1.2.1 from PyPI: ERROR: No matching distribution" in message
    assert f"put ml-100k.zip from GroupLens into {tmp_path}" in message
    assert "fetch generated" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.programs
def test_the_recbole_package_stands_in_for_grouplens(tmp_path, monkeypatch):
    """A package index of one wheel with the layout of the real one, read by the real pip."""
    files = {"ml-100k.inter": b"interactions", "ml-100k.item": b"items"}
    example = {f"recbole/dataset_example/ml-100k/{name}": data for name, data in files.items()}
    info = {
        "recbole-1.2.1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1",
        "recbole-1.2.1.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "recbole-1.2.1.dist-info/RECORD": b"",
    }
    index = tmp_path / "index"
    index.mkdir()
    (index / "recbole-1.2.1-py3-none-any.whl").write_bytes(zipped({**example, **info}))
    monkeypatch.setattr(fetch_module, "_URL", "http://127.0.0.1:9/{name}.zip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    target = tmp_path / "data"

    with pytest.raises(InputError, match=r"sha256 of ml-100k\.inter is .*; expected 4edb74e2"):
        run_fetch("ml-100k", str(target))
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setitem(fetch_module._SHA256, "ml-100k.inter", sums["ml-100k.inter"])
    monkeypatch.setattr(fetch_module, "_RECBOLE_ITEM_SHA256", sums["ml-100k.item"])
    assert run_fetch("ml-100k", str(target)).source == "recbole==1.2.1 from PyPI"
    assert (target / "ml-100k.inter").read_bytes() == b"interactions"


def test_generated_data_needs_no_source_and_is_kept(tmp_path):
    result = run_fetch("generated", str(tmp_path))
    assert result.paths == [str(tmp_path / "generated.inter")]
    with open(result.inter) as file:
        assert file.readline() == INTER_HEADER
        assert sum(1 for _ in file) == 100_000
    assert run_fetch("generated", str(tmp_path)).source == "kept"


def test_what_is_no_local_directory_is_refused(tmp_path):
    (tmp_path / "log.csv").write_text("rows")
    for below in ("log.csv", "log.csv/data"):
        with pytest.raises(InputError, match=r"--to .*: a file is there; name a directory"):
            run_fetch("generated", str(tmp_path / below))
    with pytest.raises(InputError, match="--to s3://bucket/data is no local directory"):
        run_fetch("generated", "s3://bucket/data")


def test_an_unknown_name_gets_the_list_of_names(tmp_path):
    with pytest.raises(InputError, match="no data set 'ml-20m'; there are ml-100k, ml-1m"):
        run_fetch("ml-20m", str(tmp_path))


def test_an_unknown_source_gets_the_list_of_sources(tmp_path):
    with pytest.raises(InputError, match="no source 'kaggle'; there are auto, grouplens, recbole"):
        run_fetch("ml-1m", str(tmp_path), source="kaggle")


def test_a_source_that_lacks_the_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="'recbole' does not have ml-1m; use grouplens"):
        run_fetch("ml-1m", str(tmp_path), source="recbole")


def test_the_recorded_checksums_are_those_of_the_files_we_measured_with(shared_data):
    for name, digest in fetch_module._SHA256.items():
        assert hashlib.sha256((shared_data / name).read_bytes()).hexdigest() == digest
    items = (shared_data / "ml-100k.item").read_bytes()
    assert hashlib.sha256(items).hexdigest() == fetch_module._RECBOLE_ITEM_SHA256
