"""A model for serving without this package: a program for user vectors, and the items' vectors.

Shapes: B users   L = max_seq_len   D hidden size   N items
"""

import io
from typing import Final

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from lightsans.dataset.vocabulary import Vocabulary
from lightsans.model.network import LightSANs

ENCODER: Final = "user_encoder.pt2"
ITEMS: Final = "items.parquet"
VECTORS: Final = "item_vectors.npy"


class _UserEncoder(nn.Module):
    def __init__(self, model: LightSANs) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Tensor:
        vectors_BD: Tensor = self.model(item_ids, lengths, timestamps=timestamps, now=now)
        return vectors_BD


def encoder_inputs(model: LightSANs) -> tuple[str, ...]:
    """Names of the inputs of `export_encoder`'s program, in order."""
    times = ("timestamps",) if model.reads_times else ()
    return ("item_ids", "lengths", *times, *(("now",) if model.reads_now else ()))


def export_encoder(model: LightSANs) -> torch.export.ExportedProgram:
    """A program from (B, L) item ids and (B,) lengths, both int64, to (B, D) user vectors.

    B may be any number from 1; L is ``max_seq_len``, right-padded with 0. The program checks
    nothing: ids must lie in 0..num_items, and a longer history must be cut to its newest L items.
    A model that reads times is given (B, L) timestamps besides, and the moment of each request,
    (B,), if it reads that: int64 microseconds; see `encoder_inputs`.
    """
    L = model.config.max_seq_len
    # With a batch of 1 the program would be for batches of 1.
    examples = {
        "item_ids": torch.ones(2, L, dtype=torch.int64),
        "lengths": torch.tensor([L, 1]),
        "timestamps": torch.zeros(2, L, dtype=torch.int64),
        "now": torch.zeros(2, dtype=torch.int64),
    }
    names = encoder_inputs(model)
    batch = torch.export.Dim("batch", min=1)
    encoder = _UserEncoder(model).eval()
    example = tuple(examples[name] for name in names)
    return torch.export.export(encoder, example, dynamic_shapes=({0: batch},) * len(names))


def encoder_to_bytes(model: LightSANs) -> bytes:
    """The content of a ``.pt2`` file: `export_encoder` for ``torch.export.load``."""
    buffer = io.BytesIO()
    torch.export.save(export_encoder(model), buffer)
    return buffer.getvalue()


def item_vectors(model: LightSANs) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(N, D) float32: row i is the vector of item i + 1. Padding is left out."""
    vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    vectors = model.item_table()[1:].cpu().numpy().astype(np.float32)
    return vectors


def item_table(model: LightSANs, vocabulary: Vocabulary) -> pa.Table:
    """Columns item_id, raw_item_id, recommendable and vector, a list of D float32, by item_id."""
    assert vocabulary.num_items == model.num_items
    vectors = item_vectors(model)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    ids = pa.array(np.arange(1, len(vectors) + 1, dtype=np.int32))
    return pa.table(
        {
            "item_id": ids,
            "raw_item_id": vocabulary.raw_item_ids,
            "recommendable": pa.array(vocabulary.is_living),
            "vector": lists,
        }
    )
