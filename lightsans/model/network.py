"""LightSANs: from the items of a history to a vector for its user. Parameters and forward pass.

Shapes: B sequences   L positions   Q query positions (L, or 1 where only the newest is wanted)
    W width of a batch of histories   D hidden size   V = num_items + 1: items and padding
"""

import copy
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightsans.config import ModelConfig
from lightsans.config.kinds import ATTENTION
from lightsans.errors import ConfigError
from lightsans.model.blocks import NORMS, make_norm
from lightsans.model.cosine import CosineScale, directions
from lightsans.model.dropout import Dropout
from lightsans.model.gaps import (
    NO_GAP,
    NUM_CLASSES,
    check_order,
    check_times,
    clock_of,
    gaps_before,
    gaps_to_request,
)
from lightsans.model.item_features import ItemFeatures
from lightsans.model.kinds import Layout
from lightsans.model.layers import EncoderLayer, LightAttention
from lightsans.ranking.top_k import TopK, top_k

if TYPE_CHECKING:
    import os

    from lightsans.storage.location import Location
    from lightsans.storage.model_files import SavedModel

ITEM_BLOCK: Final = 2**15
"""Item vectors of another precision that are converted at once for scoring."""


class LightSANs(nn.Module):
    """A sequential recommender: the score of an item is its vector times the user's vector.

    Item ids are integers from 1; rows are padded with 0 on the right. ``config.attention`` chooses
    among three kinds of the same parameters (docs/architecture.md compares them). ``masked`` and
    ``causal`` never look at padding, and row 0 of their item table is and stays zero. For
    ``reference``, as in RecBole, padding is an item like any other.
    """

    def __init__(self, config: ModelConfig, num_items: int) -> None:
        super().__init__()
        if num_items < 1:
            raise ConfigError(f"num_items={num_items} must be at least 1: there is nothing to rank")
        self.config = config
        self.num_items = num_items
        self._masks_padding = ATTENTION[config.attention].masks_padding
        D = config.hidden_size
        self.item_embedding = nn.Embedding(num_items + 1, D, padding_idx=0)
        if config.has_position_vectors:
            self.position_embedding = nn.Embedding(config.max_seq_len, D)
        if config.reads_gaps:
            self.gap_embedding = nn.Embedding(NUM_CLASSES, D)
        if config.reads_now:
            self.request_embedding = nn.Embedding(NUM_CLASSES, D)
        self.item_norm = make_norm(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList([EncoderLayer(config) for _ in range(config.n_layers)])
        self.final_norm = make_norm(config) if config.norm_placement == "pre" else None
        self.cosine = CosineScale(config.temperature) if config.has_cosine_scores else None
        self.item_features: ItemFeatures | None = None
        """Part of the item vectors that their features say, in training on such items; the rest is
        ``item_embedding``. Finished models hold the sums, and None."""
        self.reset_parameters()

    @classmethod
    def from_pretrained(cls, directory: "str | os.PathLike[str] | Location") -> "LightSANs":
        """The trained model of a model directory (local or s3://), ready for inference."""
        from lightsans.storage.model_files import read_model  # needs pyarrow and safetensors

        return cls.from_saved(read_model(directory))

    @classmethod
    def from_saved(cls, saved: "SavedModel") -> "LightSANs":
        """The model behind the content of a file, in evaluation mode on the CPU.

        Raises:
            InputError: The weights are not those of the file's configuration.
        """
        try:
            model = cls(saved.config, saved.num_items)
            model.load_state_dict(saved.weights)
        except (ConfigError, RuntimeError) as error:
            raise saved.unusable(error) from error
        return model.eval()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new weights, as the released code does; only padding's row differs (see above)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(std=self.config.initializer_range)
            elif isinstance(module, (*NORMS, CosineScale)):
                module.reset_parameters()
            if isinstance(module, nn.Linear):
                module.bias.zero_()
            elif isinstance(module, LightAttention):
                module.reset_parameters()
        if self._masks_padding:
            self.item_embedding.weight[0].zero_()

    def forward(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        every_position: bool = False,
        item_vectors: Tensor | None = None,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Tensor:
        """User vectors (B, D), or with ``every_position`` one for each prefix, (B, L, D).

        Args:
            item_ids: (B, L), oldest first, at most ``max_seq_len`` wide. The width changes no
                vector: ``reference``, which reads padding, always pads to ``max_seq_len``.
            lengths: (B,), how many items each row has. An empty row's vector has no meaning.
            every_position: Causal attention only. Vectors at padding have no meaning.
            item_vectors: (R, D), padding's first, whose rows ``item_ids`` number; None for the
                model's own table.
            timestamps: (B, L) int64, microseconds of each item, for a model that reads times.
            now: (B,) int64, microseconds of the request, for ``model.gaps: request``; with
                ``every_position`` also (B, L), one for each prefix.
        """
        item_ids_BL, lengths_B = item_ids, lengths
        self._check(item_ids_BL, every_position)
        check_times(timestamps, now, item_ids_BL, self.config, every_position=every_position)
        width, L = item_ids_BL.shape[1], self.config.max_seq_len
        if not self._masks_padding and width < L:
            item_ids_BL = functional.pad(item_ids_BL, (0, L - width))
        newest_B = (lengths_B.long() - 1).clamp(min=0)
        positions_L = torch.arange(item_ids_BL.shape[1], device=item_ids_BL.device)
        clock_BL = positions_L.float().unsqueeze(0)
        if timestamps is not None and self.config.fades_by_time:
            clock_BL = clock_of(timestamps)
        layout = Layout(positions_L <= newest_B.unsqueeze(1), newest_B, clock_BL)

        table = self.item_vectors() if item_vectors is None else item_vectors
        items_BLD = functional.embedding(item_ids_BL, table, padding_idx=0)
        if timestamps is not None and self.config.reads_gaps:
            items_BLD = items_BLD + self.gap_embedding(gaps_before(timestamps))
        x_BLD = self.item_norm(items_BLD.to(self.item_norm.weight.dtype))
        if self._masks_padding:
            x_BLD = x_BLD.masked_fill((positions_L >= lengths_B.unsqueeze(1)).unsqueeze(-1), 0.0)
        x_BLD = self.dropout(x_BLD)
        has_vectors = self.config.has_position_vectors
        positions_MD = self.position_embedding.weight if has_vectors else None
        *inner_layers, last_layer = self.layers
        for layer in inner_layers:
            x_BLD = layer(x_BLD, positions_MD, layout, newest_only=False)
        newest_only = not every_position
        more = {}
        if timestamps is not None and now is not None:
            classes_BQ = gaps_to_request(now, timestamps, newest_B)
            classes_BQ = classes_BQ.masked_fill((lengths_B == 0).unsqueeze(1), NO_GAP)
            more["request_BQD"] = self.request_embedding(classes_BQ)
        x_BQD: Tensor = last_layer(x_BLD, positions_MD, layout, newest_only=newest_only, **more)
        x_BQD = x_BQD if self.final_norm is None else self.final_norm(x_BQD)
        x_BQD = x_BQD if self.cosine is None else self.cosine(x_BQD)
        return x_BQD if every_position else x_BQD.squeeze(1)

    def item_vectors(self) -> Tensor:
        """Item vectors as the model reads them, (V, D), with gradients; row 0 is padding."""
        own_VD = self.item_embedding.weight
        return own_VD if self.item_features is None else self.item_features.compose(own_VD)

    def compared(self, vectors_RD: Tensor) -> Tensor:
        """Item vectors as users' vectors are multiplied with them: with cosines, directions."""
        return vectors_RD if self.cosine is None else directions(vectors_RD)

    @torch.no_grad()
    def composed(self) -> "LightSANs":
        """This model, its item vectors added up once where features have a part in them."""
        if self.item_features is None:
            return self
        model = copy.copy(self)
        model._modules = {**self._modules, "item_features": None}
        model.item_embedding = nn.Embedding(
            self.num_items + 1, self.config.hidden_size, padding_idx=0, _weight=self.item_vectors()
        )
        return model

    @property
    def reads_times(self) -> bool:
        """Whether histories come with the times of their items; see `encode`."""
        return self.config.reads_times

    @property
    def reads_now(self) -> bool:
        """Whether the moment of the request has to be given; see `encode`."""
        return self.config.reads_now

    @property
    def feature_coding(self) -> str | None:
        """How item features became numbers, as JSON; None without any."""
        return None if self.item_features is None else self.item_features.coding

    def item_table(self) -> Tensor:
        """The item vectors that are scored, (V, D); row 0 is padding.

        Shares memory with the parameter, except with cosine scores: then they are its directions.
        While a model is trained with ``train.table_precision: bf16`` they are bfloat16; a model
        that was loaded has float32.
        """
        return self.compared(self.item_vectors().detach())

    @torch.no_grad()
    def encode(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Tensor:
        """User vectors (B, D) of whole histories, without dropout and without gradients.

        Args:
            item_ids: (B, W), of any width. The newest ``max_seq_len`` items of a row count.
            lengths: (B,), how many items each row has, 0 included: an empty history gets the same
                finite vector whoever it belongs to.
            timestamps: (B, W) int64, microseconds of each item: for a model that reads times
                (``model.gaps``, ``model.interest_decay: time``), and for no other.
            now: (B,) int64, microseconds of each request: for ``model.gaps: request``.

        Raises:
            ValueError: An id is not in 0..num_items, a length is not in 0..W, padding comes before
                an item, or times are missing, not read by this model, or not in order.
        """
        self._check_histories(item_ids, lengths)
        check_times(timestamps, now, item_ids, self.config)
        newest_BL = None
        if timestamps is not None:
            check_order(timestamps, lengths, now)
            newest_BL = self._newest_of(timestamps, lengths)
        item_ids_BL = self._newest_of(item_ids, lengths)
        lengths_B = lengths.clamp(max=self.config.max_seq_len)
        if not self.training:
            return self.forward(item_ids_BL, lengths_B, timestamps=newest_BL, now=now)
        self.eval()
        try:
            return self.forward(item_ids_BL, lengths_B, timestamps=newest_BL, now=now)
        finally:
            self.train()

    @torch.no_grad()
    def score_items(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> Tensor:
        """Scores of all items after each history, (B, num_items + 1); see `encode`.

        Column 0 is padding and must be left out of any ranking. It is 0, except for ``reference``,
        which scores padding like any item.
        """
        scores_BV = _products(self.encode(item_ids, lengths, timestamps, now), self.item_table())
        if self._masks_padding:
            scores_BV[:, 0] = 0.0
        return scores_BV

    @torch.no_grad()
    def recommend(
        self,
        item_ids: Tensor,
        lengths: Tensor,
        k: int,
        remove_seen: bool = True,
        timestamps: Tensor | None = None,
        now: Tensor | None = None,
    ) -> TopK:
        """The k items with the highest scores after each history, best first; see `encode`.

        Args:
            item_ids: (B, W), right-padded with 0.
            lengths: (B,), how many items each row has. For an empty history the list has no
                meaning; recommend popular items instead.
            k: Length of the lists. Where fewer items are left, the id 0 fills the rest.
            remove_seen: Leave out all items of the history, also those too old to be read.
            timestamps: See `encode`.
            now: See `encode`.

        Returns:
            ``item_ids`` (B, k) and ``scores`` (B, k).
        """
        vectors_BD = self.encode(item_ids, lengths, timestamps, now)
        if not remove_seen:
            return top_k(vectors_BD, self.item_table(), k)
        rows_S, columns_S = item_ids.nonzero(as_tuple=True)
        return top_k(vectors_BD, self.item_table(), k, rows_S, item_ids[rows_S, columns_S])

    def _newest_of(self, values_BW: Tensor, lengths_B: Tensor) -> Tensor:
        """Values of the newest ``max_seq_len`` items of each row, no wider than the longest row."""
        L = self.config.max_seq_len
        longest = int(lengths_B.max()) if lengths_B.numel() else 0
        if values_BW.shape[1] == 0:
            return values_BW.new_zeros(values_BW.shape[0], 1)
        if longest <= L:
            return values_BW[:, : max(longest, 1)]
        first_B1 = (lengths_B - L).clamp(min=0).unsqueeze(1).long()
        columns_BL = first_B1 + torch.arange(L, device=values_BW.device)
        return values_BW.gather(1, columns_BL.clamp(max=values_BW.shape[1] - 1))

    def _check(self, item_ids_BL: Tensor, every_position: bool) -> None:
        L = self.config.max_seq_len
        if every_position and not ATTENTION[self.config.attention].trains_prefixes:
            able = ", ".join(repr(kind.name) for kind in ATTENTION.values() if kind.trains_prefixes)
            raise ValueError(
                f"a model with attention={self.config.attention!r} has one vector per sequence; "
                f"only attention={able} has one for every position"
            )
        if not 1 <= item_ids_BL.shape[1] <= L:
            raise ValueError(
                f"item_ids is {item_ids_BL.shape[1]} wide, but the model reads 1 to "
                f"max_seq_len={L} items; encode() keeps the newest of longer histories"
            )

    def _check_histories(self, item_ids_BW: Tensor, lengths_B: Tensor) -> None:
        if item_ids_BW.ndim != 2 or lengths_B.shape != item_ids_BW.shape[:1]:
            raise ValueError(
                f"item_ids of shape {tuple(item_ids_BW.shape)} and lengths of shape "
                f"{tuple(lengths_B.shape)} do not match; expected (B, W) and (B,)"
            )
        W = item_ids_BW.shape[1]
        lowest, highest = _range(item_ids_BW)
        if lowest < 0 or highest > self.num_items:
            raise ValueError(
                f"item_ids has ids from {lowest} to {highest}, but the model knows 1 to "
                f"{self.num_items}, and 0 for padding; leave out items that it does not know"
            )
        shortest, longest = _range(lengths_B)
        if shortest < 0 or longest > W:
            raise ValueError(
                f"lengths has values from {shortest} to {longest}, but rows are {W} wide; give "
                "the number of items in each row"
            )
        is_item_BW = torch.arange(W, device=item_ids_BW.device) < lengths_B.unsqueeze(1)
        if bool(((item_ids_BW == 0) & is_item_BW).any()):
            raise ValueError(
                "item_ids has a 0 before the end of a row's items; put the items first, oldest to "
                "newest, and pad with 0 on the right"
            )


def _products(vectors_BD: Tensor, table_VD: Tensor) -> Tensor:
    """Scores in the precision of the vectors, whatever that of the table: (B, V)."""
    if table_VD.dtype == vectors_BD.dtype:
        return vectors_BD @ table_VD.t()
    scores_BV = vectors_BD.new_empty(len(vectors_BD), len(table_VD))
    blocks = zip(
        torch.split(table_VD, ITEM_BLOCK), torch.split(scores_BV, ITEM_BLOCK, dim=1), strict=True
    )
    for items_CD, scores_BC in blocks:
        torch.mm(vectors_BD, items_CD.to(vectors_BD.dtype).t(), out=scores_BC)
    return scores_BV


def _range(x: Tensor) -> tuple[int, int]:
    """Smallest and largest value; zeros when there is none."""
    return (int(x.min()), int(x.max())) if x.numel() else (0, 0)
