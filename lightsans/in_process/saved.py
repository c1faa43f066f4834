"""The record of a saved `Recommender`, ``recommender.json``: what it is made of, written last."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightsans.config import RunConfig
from lightsans.config.file import from_dict
from lightsans.errors import ConfigError, InputError, NotFoundError
from lightsans.in_process.frames import Library
from lightsans.storage.location import Location
from lightsans.storage.records import from_json

RECORD = "recommender.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedRecommender:
    """Content of ``recommender.json``."""

    format_version: int
    dataset_id: str
    model_id: str
    library: Library
    config: Mapping[str, Any]


def read_saved(directory: Location) -> tuple[SavedRecommender, RunConfig]:
    """The record of a directory, and its configuration.

    Raises:
        NotFoundError: There is none.
        InputError: It is damaged, or of another version.
    """
    file = directory / RECORD
    try:
        content = file.read_json()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(
            f"{file}: not found; expected a directory that Recommender.save wrote"
        ) from None
    record = from_json(SavedRecommender, content, str(file))
    if record.format_version != FORMAT_VERSION:
        raise InputError(
            f"{file}: format_version is {record.format_version}, and this version of LightSANs "
            f"reads {FORMAT_VERSION}; load it with the version that saved it, or fit and save it "
            "again"
        )
    try:
        return record, from_dict(record.config)
    except ConfigError as error:
        raise InputError(
            f"{file}: {error}. The file was changed, or written by another version of LightSANs: "
            "load it with that one, or fit and save it again"
        ) from None
