"""Features of items beside the sequences of a dataset: ``item_features.parquet``."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightsans.columns.arrow import is_list, one_chunk
from lightsans.config import RunConfig
from lightsans.dataset.feature_coding import DESCRIBED, VECTOR, FeatureCoding
from lightsans.dataset.vocabulary import Vocabulary, load_vocabulary
from lightsans.errors import InputError
from lightsans.lists.feature_table import FeatureTable, open_feature_table, read_feature_table
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import (
    DatasetManifest,
    InputFile,
    ItemFeaturesSummary,
    ModelManifest,
)
from lightsans.storage.manifests import read_manifest
from lightsans.storage.model_files import read_feature_coding, sha256
from lightsans.storage.parts import ITEM_FEATURES


@dataclass(frozen=True, slots=True)
class JoinedFeatures:
    """Items of a dataset with those of its item table, and their features."""

    vocabulary: Vocabulary
    table: pa.Table
    """A row for each item, in order."""
    warning: str
    """A sentence; empty where there is nothing to say."""

    def save(self, dataset: Location) -> None:
        """Write the features into a dataset."""
        (dataset / ITEM_FEATURES).write_table(self.table)


def read_item_table(config: RunConfig) -> FeatureTable | None:
    """The item table that ``data.item_table`` names; None without one.

    Raises:
        InputError: It is missing or unreadable, or has values that are none of their kind.
    """
    table = open_feature_table(config)
    return None if table is None else read_feature_table(config, table)


def read_features(dataset: Location) -> pa.Table:
    """The features of a dataset's items.

    Raises:
        InputError: The file is gone.
    """
    file = dataset / ITEM_FEATURES
    try:
        return file.read_table().combine_chunks()
    except FileNotFoundError:
        raise InputError(f"{file}: the file is gone; make this dataset again") from None


def kept_features(dataset: Location) -> FeatureTable | None:
    """The features that a dataset has, without the table that they are from; None without any."""
    vocabulary = load_vocabulary(dataset)
    if vocabulary.is_listed is None:
        return None
    is_listed = pa.array(vocabulary.is_listed)
    table = read_features(dataset).filter(is_listed)
    columns = {name: one_chunk(table[name]) for name in table.column_names if name != DESCRIBED}
    for name, column in columns.items():
        if is_list(column.type):  # whose values parquet names in another way
            columns[name] = column.cast(pa.list_(column.type.value_type))
    ids = vocabulary.raw_item_ids.filter(is_listed).cast(pa.string())
    return FeatureTable(dataset / ITEM_FEATURES, ids, columns)


def join_features(table: FeatureTable, known: Vocabulary, allow_unmatched: bool) -> JoinedFeatures:
    """See `FeatureTable.join`."""
    return JoinedFeatures(*table.join(known, allow_unmatched))


def describe_features(
    dataset: Location, vocabulary: Vocabulary, files: tuple[InputFile, ...]
) -> ItemFeaturesSummary | None:
    """Summary of a dataset's features for its manifest; None where it has none."""
    if vocabulary.is_listed is None:
        return None
    return ItemFeaturesSummary(
        sha256=sha256((dataset / ITEM_FEATURES).read_bytes()),
        listed=int(vocabulary.is_listed.sum()),
        new=int((vocabulary.is_listed & (vocabulary.popularity == 0)).sum()),
        files=files,
    )


def why_other_features(model: Location, dataset: Location) -> str | None:
    """Reason why what a model has learned of item features is not about those of a dataset.

    None where it is, and where one of the two has none.
    """
    learned, made = read_manifest(ModelManifest, model), read_manifest(DatasetManifest, dataset)
    if learned is None or learned.item_features_sha256 is None:
        return None
    if made is None or made.item_features is None:
        return None
    coding = read_feature_coding(model)
    if coding is None:
        return None
    with (dataset / ITEM_FEATURES).open() as file:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        return FeatureCoding.from_json(coding).why_other(names, _vector_lengths(table))


def _vector_lengths(table: pq.ParquetFile) -> dict[str, int]:
    """Numbers of the first vector of each column of vectors; none of a column without any."""
    found: dict[str, int] = {}
    for name in table.schema_arrow.names:
        if not name.startswith(VECTOR):
            continue
        for batch in table.iter_batches(batch_size=1024, columns=[name]):
            lengths = pc.list_value_length(batch.column(0)).drop_null()
            if len(lengths):
                found[name] = lengths[0].as_py()
                break
    return found
