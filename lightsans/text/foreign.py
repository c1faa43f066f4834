"""Kinds of files that are no text, recognised by their first bytes."""

import re

_KINDS = {
    b"ORC": "in the ORC format; convert it to parquet",
    b"Obj\x01": "in the Avro format; convert it to parquet",
    b"ARROW1": "an Arrow file (feather); convert it to parquet",
    b"PAR1": "parquet that was compressed as a whole; decompress it",
    b"SQLite format 3": "a SQLite database; export the table as csv or parquet",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as csv",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "an archive within an archive; unpack it",
    b"version https://git-lfs": "a pointer of Git LFS, not the data; run `git lfs pull`",
    b"<!doctype html": "a web page; was the download an error page?",
    b"<html": "a web page; was the download an error page?",
    b"<?xml": "XML; convert it to csv or JSON lines",
    b"\x93NUMPY": "a NumPy array; convert it to parquet",
    b"\x89HDF": "in the HDF5 format; convert it to parquet",
    b"X\n\0\0": "saved by R (.rds); write it with write.csv",
    b"RDX": "saved by R (.RData); write the table with write.csv",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\xff\x06\x00\x00sNaPpY": "compressed by snappy; compress it with gzip or zstd",
    b"\x5d\0\0": "compressed by LZMA as it was before xz; compress it with xz, gzip or zstd",
    b"\x1f\x8b": "compressed twice; decompress it once",
    b"BZh9": "compressed twice; decompress it once",
    b"\x28\xb5\x2f\xfd": "compressed twice; decompress it once",
    b"{\\rtf": "a document of a word processor; save it as plain text",
}
_TAR_AT, _TAR = 257, b"ustar"
_PICKLE = re.compile(rb"\x80[\x02-\x05][\x95}\](cX(]")


def foreign_kind(beginning: bytes) -> str:
    """The kind of a file that is no text with the way out; empty for text."""
    if beginning[_TAR_AT:].startswith(_TAR):
        return "a tar archive; unpack it"
    if _PICKLE.match(beginning):
        return "a pickle of Python; write the table as parquet"
    start = beginning.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    for magic, kind in _KINDS.items():
        if beginning.startswith(magic) or (magic.startswith(b"<") and start.startswith(magic)):
            return kind
    return ""
