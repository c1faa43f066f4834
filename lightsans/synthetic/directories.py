"""A synthetic dataset and model on storage: for benchmarks and fault tests of scoring alone.

They have the form of what `preprocess` and `train` leave, at any size and within minutes; nothing
can be learnt from the one, and the other has learnt nothing.
"""

import numpy as np
import pyarrow as pa
import torch

from lightsans.columns.hashing import NUM_BUCKETS, bucket_range, pieces_of, user_buckets
from lightsans.columns.times import to_iso
from lightsans.config import DataConfig, ModelConfig, to_dict
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.model.network import LightSANs
from lightsans.storage import model_files as files
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, DatasetPart, ModelManifest, RowSummary
from lightsans.storage.manifests import write_manifest
from lightsans.storage.parts import ITEMS, fingerprint_part, part_name
from lightsans.storage.schemas import TIMESTAMP_UNIT, sequences_schema


def write_synthetic_dataset(
    dataset: Location,
    num_users: int,
    num_items: int,
    *,
    history: int,
    num_parts: int,
    newcomers: float = 0.01,
    seed: int = 0,
) -> DatasetManifest:
    """Write a dataset; its manifest.

    Args:
        dataset: The directory.
        num_users: Called u0, u1, ...
        num_items: Called i1, i2, ..., the popular ones first.
        history: Interactions of each user.
        num_parts: Files of sequences.
        newcomers: Share of users without any interaction.
        seed: Equal arguments give equal rows.
    """
    user_ids = pa.array([f"u{number}" for number in range(num_users)])
    buckets = user_buckets(user_ids)
    part_of_user = pieces_of(buckets, num_parts)
    parts = []
    for part in range(num_parts):
        chosen = np.flatnonzero(part_of_user == part)
        if not len(chosen):
            continue
        generator = np.random.default_rng([seed, part])
        ids, own = user_ids.take(pa.array(chosen)), buckets[chosen]
        table = pa.table({"id": ids, "bucket": own})
        table = table.sort_by([("bucket", "ascending"), ("id", "ascending")])
        rows = _sequences(table, num_items, history, newcomers, generator)
        name = part_name(part)
        (dataset / "sequences" / name).write_table(rows, row_group_size=16_384)
        interactions = len(rows["item_ids"].combine_chunks().flatten())
        parts.append(
            DatasetPart(
                name=name,
                rows=interactions,
                users=rows.num_rows,
                trainable=rows.num_rows,
                interactions=interactions,
                fingerprint=f"{fingerprint_part(rows):016x}",
                buckets=bucket_range(part, num_parts),
            )
        )
    items = _vocabulary(num_items)
    items.save(dataset / ITEMS)
    total = sum(part.interactions for part in parts)
    return write_manifest(
        dataset,
        DatasetManifest(
            id=dataset.name,
            format_version=0,
            users=num_users,
            trainable_users=num_users,
            items=num_items,
            interactions=total,
            fingerprint=f"{seed:016x}",
            vocabulary_fingerprint=items.fingerprint,
            rows=RowSummary(
                read=total, rejected={}, excluded=0, valid=total, exact_duplicates=0, left={}
            ),
            k_core_rounds=0,
            user_id_type="string",
            item_id_type="string",
            timestamp_unit=TIMESTAMP_UNIT,
            time_range=(to_iso(0), to_iso(max(0, history - 1))),
            num_buckets=NUM_BUCKETS,
            num_parts=num_parts,
            parts=tuple(parts),
            data=to_dict(DataConfig()),
            base=None,
            input=(),
        ),
    )


def write_synthetic_model(
    model: Location, config: ModelConfig, num_items: int, dataset_id: str
) -> None:
    """Write a model with random weights, of the first items of a made-up dataset."""
    made = LightSANs(config, num_items)
    # Item vectors as long as trained ones: at the usual start all scores are nearly equal.
    made.item_embedding.weight.data.mul_(1 / config.initializer_range / config.hidden_size**0.5)
    vocabulary = _vocabulary(num_items)
    (model / files.WEIGHTS).write_bytes(files.weights_to_bytes(made))
    vocabulary.save(model / ITEMS)
    write_manifest(
        model,
        ModelManifest(
            id=model.name,
            format_version=0,
            dataset_id=dataset_id,
            dataset_fingerprint="",
            vocabulary_fingerprint=vocabulary.fingerprint,
            items=num_items,
            parameters=sum(parameter.numel() for parameter in made.parameters()),
            epochs=0,
            best_epoch=0,
            train_s=0.0,
            torch=torch.__version__,
        ),
    )


def _vocabulary(num_items: int) -> Vocabulary:
    ids = pa.array([f"i{number}" for number in range(1, num_items + 1)])
    return Vocabulary(ids, np.arange(num_items, 0, -1, dtype=np.int64))


def _sequences(
    users: pa.Table,
    num_items: int,
    history: int,
    newcomers: float,
    generator: np.random.Generator,
) -> pa.Table:
    count = users.num_rows
    lengths = np.where(generator.random(count) < newcomers, 0, history)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    total = int(lengths.sum())
    # The cube makes some items popular: a tenth of them gets nearly half of all.
    item_ids = 1 + (num_items * generator.random(total) ** 3).astype(np.int32)
    columns = {
        "user_id": users["id"],
        "item_ids": pa.ListArray.from_arrays(offsets, pa.array(item_ids, pa.int32())),
        "timestamps": pa.ListArray.from_arrays(offsets, pa.array(np.arange(total))),
        "trainable": pa.array(np.ones(count, bool)),
        "also_seen": pa.array([[]] * count, pa.list_(pa.int32())),
        "bucket": users["bucket"],
        "fingerprint": pa.array(generator.integers(0, 2**63, count), pa.uint64()),
    }
    schema = sequences_schema(pa.string())
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)
