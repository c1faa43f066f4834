"""Calibration of a model's scores: a temperature fitted on valid, its reliability on test.

Both are taken on a sample of the users, those of the first parts, which are a random sample. What
users had seen before a target is no part of what may be recommended then, by the rule of
``score.remove_seen``; targets that may not be recommended are left out and counted, since the
probability of an item is one over what may be.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from lightsans.arrays import Int32, Int64
from lightsans.columns.segments import expand
from lightsans.config import RunConfig
from lightsans.config.kinds import LOSSES
from lightsans.config.score import SeenRule
from lightsans.dataset.held_out import HeldOut, Split, hold_out
from lightsans.dataset.loading import TimedUsers, load_evaluated, with_cutoffs
from lightsans.dataset.sequences import ItemTimes, UserSequences
from lightsans.dataset.vocabulary import vocabulary_mapping
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs
from lightsans.probability.reliability import Reliability, measure_reliability
from lightsans.probability.softmax import Scope, log_sums
from lightsans.probability.temperature import fit_temperature, mean_loss
from lightsans.ranking.recent import DAY
from lightsans.ranking.top_k import ItemIndex
from lightsans.recommendations.item_choice import ItemChoice
from lightsans.recommendations.list_maker import Encoded, ListMaker
from lightsans.stages.list_maker import load_list_maker
from lightsans.storage.location import Location
from lightsans.storage.manifest_kinds import DatasetManifest, ModelManifest
from lightsans.storage.manifests import require_manifest
from lightsans.storage.model_files import weights_hash
from lightsans.storage.parts import sequence_parts

PLACES = 100
"""Best items of a test user whose probabilities are compared with what came."""
_FEWEST, _MOST, _SCORES = 1_000, 10_000, 2 * 10**8
"""Users of a sample, and scores of one pass over it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitLoss:
    """Targets of a split under the softmax over what may be recommended."""

    users: int
    """Users of the sample whose target may be recommended."""
    share: float
    """They among all users of the sample."""
    loss: float
    """Mean log loss of their targets, in nats."""
    loss_before: float
    """The same at temperature 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Temperature of a model's scores, and how reliable the probabilities are."""

    model_id: str
    """Model with held-out items: the scored one, or the judged one where that is its refit."""
    weights_sha256: str
    temperature: float | None
    reason: str | None = None
    """Why there is no temperature; then probabilities are null."""
    valid: SplitLoss | None = None
    test: SplitLoss | None = None
    """None where nobody has a test target that may be recommended."""
    first: Reliability | None = None
    """Test: the best item of each user."""
    listed: Reliability | None = None
    """Test: the best `PLACES` items of each user."""


class _Sample(NamedTuple):
    """Users with a target that may be recommended."""

    vectors: torch.Tensor
    scope: Scope
    target_ids: torch.Tensor
    num_users: int
    """All that were looked at."""

    def loss_at(self, table_VD: torch.Tensor, temperature: float) -> float:
        """Mean log loss of the targets."""
        return mean_loss(self.vectors, table_VD, self.scope, self.target_ids, temperature)


def calibrate(config: RunConfig, model: Location, choice: ItemChoice) -> Calibration:
    """Fit the temperature of a model, and measure what its probabilities are worth.

    Args:
        config: The run; ``score`` says what may be recommended.
        model: Directory of the scored model.
        choice: Lists and rules of the items that may be recommended.

    Raises:
        ConfigError: Nothing is held out by which it could be done.
        NotFoundError: The dataset of the model, or the model that was judged, is gone.
    """
    model, dataset = held_out_pair(model)
    described = require_manifest(DatasetManifest, dataset, "make it again")
    made = partial(Calibration, model_id=model.name, weights_sha256=weights_hash(model))
    loss = LightSANs.from_pretrained(model).config.loss_type
    if loss != "auto" and not LOSSES[loss].is_softmax:
        reason = f"model.loss_type={loss} learns no softmax, so its scores are no probabilities"
        return made(temperature=None, reason=reason)
    list_maker = load_list_maker(config, dataset, model, True, choice)
    sampler = _Sampler(config, dataset, described, model, list_maker)
    valid, table_VD = sampler.take("valid"), list_maker.item_table
    if not len(valid.vectors):
        reason = "no user has a valid target that may be recommended"
        return made(temperature=None, reason=reason)
    fitted = fit_temperature(valid.vectors, table_VD, valid.scope, valid.target_ids)
    loss_on_valid = SplitLoss(
        users=len(valid.vectors),
        share=len(valid.vectors) / valid.num_users,
        loss=fitted.loss,
        loss_before=fitted.loss_before,
    )
    found = made(temperature=fitted.temperature, valid=loss_on_valid)
    return _tested(found, sampler.take("test"), table_VD)


def held_out_pair(model: Location) -> tuple[Location, Location]:
    """Directories of the model that has not learnt its held-out items, and of their dataset.

    Args:
        model: The scored model; of a refit it is the model that was judged.

    Raises:
        ConfigError: There is no such model, or nothing was held out.
        NotFoundError: The dataset, or the model that was judged, is gone.
    """
    manifest = require_manifest(ModelManifest, model, "run `submit.py train` first")
    dataset_id, root = manifest.dataset_id, model.parent.parent
    if manifest.judged is not None:
        model, dataset_id = root / "models" / manifest.judged.model_id, manifest.judged.dataset_id
        require_manifest(
            ModelManifest, model, "score.probability goes by the model that was judged"
        )
    elif manifest.refit or not dataset_id:
        raise ConfigError(
            f"score.probability needs held-out items: model {model.name} "
            + ("has learnt them" if manifest.refit else "was imported, its log is unknown")
            + "; take a model that was trained here, or set score.probability=false"
        )
    dataset = root / "datasets" / dataset_id
    described = require_manifest(
        DatasetManifest, dataset, "score.probability goes by its held-out items"
    )
    if not described.split.holds_out:
        raise ConfigError(
            f"score.probability needs held-out items, and dataset {dataset_id} holds nothing out "
            "(data.split=none); take a model of one that does, or set score.probability=false"
        )
    return model, dataset


def _tested(found: Calibration, test: _Sample, table_VD: torch.Tensor) -> Calibration:
    """The same with what it is worth on test."""
    if not len(test.vectors):
        return found
    assert found.temperature is not None
    first, listed = _reliabilities(test, table_VD, found.temperature)
    return replace(
        found,
        test=SplitLoss(
            users=len(test.vectors),
            share=len(test.vectors) / test.num_users,
            loss=test.loss_at(table_VD, found.temperature),
            loss_before=test.loss_at(table_VD, 1.0),
        ),
        first=first,
        listed=listed,
    )


@torch.inference_mode()
def _reliabilities(
    test: _Sample, table_VD: torch.Tensor, temperature: float
) -> tuple[Reliability, Reliability]:
    """Reliability of the best item of each user, and of the best `PLACES`."""
    scope, k = test.scope, min(PLACES, len(table_VD) - 1)
    index = ItemIndex(table_VD, scope.is_eligible.nonzero().squeeze(1))
    best = index.top_k(test.vectors, k, scope.seen_rows, scope.seen_item_ids)
    sums_B = log_sums(test.vectors, table_VD, scope, 1 / temperature)
    is_item_BK = (best.item_ids > 0) & scope.holds(best.item_ids)
    chances_BK = (best.scores.double() / temperature - sums_B[:, None]).clamp(max=0.0).exp()
    is_hit_BK = best.item_ids == test.target_ids[:, None]
    # Without what a segment denies, the first place is that of the best item left.
    is_first_BK = is_item_BK & (is_item_BK.cumsum(1) == 1)
    first, listed = (
        measure_reliability(chances_BK[chosen].numpy(), is_hit_BK[chosen].numpy())
        for chosen in (is_first_BK, is_item_BK)
    )
    return first, listed


class _Sampler:
    """Takes samples of the evaluated users of a dataset."""

    def __init__(
        self,
        config: RunConfig,
        dataset: Location,
        manifest: DatasetManifest,
        model: Location,
        list_maker: ListMaker,
    ) -> None:
        self._rule, self._list_maker = config.score.remove_seen, list_maker
        self._manifest = manifest
        self._parts = sequence_parts(dataset, manifest)
        self._mapping = vocabulary_mapping(dataset, model, True)
        num_items = list_maker.items.num_items
        self._most = min(_MOST, max(_FEWEST, _SCORES // num_items))

    def take(self, split: Split) -> _Sample:
        """Users of the first parts, with targets of a split."""
        pieces: list[tuple[Encoded, Int64]] = []
        left = self._most
        for part in self._parts:
            if left <= 0:
                break
            users = load_evaluated(part)
            held_out = hold_out(with_cutoffs(users.sequences, self._manifest), split)
            held_out = held_out.take(np.arange(min(left, len(held_out.lengths))))
            left -= len(held_out.lengths)
            pieces.append(self._encode(users, held_out))
        vectors = torch.cat([encoded.vectors for encoded, _ in pieces])
        targets = np.concatenate([targets[each.users] for each, targets in pieces])
        scope = _joined([self._list_maker.scope(encoded) for encoded, _ in pieces])
        target_ids = torch.from_numpy(targets)
        may_B = (target_ids > 0) & scope.holds(target_ids[:, None]).squeeze(1)
        rows = may_B.nonzero().squeeze(1)
        taken = _of_rows(scope, rows)
        return _Sample(vectors[rows], taken, target_ids[rows], max(1, self._most - left))

    def _encode(self, users: TimedUsers, held_out: HeldOut) -> tuple[Encoded, Int64]:
        """Histories before the targets, and the targets, in the model's ids."""
        owner, rank = expand(held_out.lengths)
        at = held_out.starts[owner] + rank
        histories = _sequences(held_out.item_ids[at], owner, len(held_out.lengths))
        if held_out.input_times is not None:
            histories = replace(histories, times=ItemTimes(held_out.input_times[at]))
        kept = self._is_taken_away(users, held_out, owner, at)
        seen = _sequences(held_out.item_ids[at[kept]], owner[kept], len(held_out.lengths))
        segments = np.zeros(len(held_out.lengths), np.int64)
        if self._list_maker.rules is not None:
            segments = self._list_maker.rules.bits(users.user_ids)[held_out.users]
        known = self._list_maker.know(histories, seen)
        list_maker = self._list_maker.at(held_out.now)
        encoded = replace(list_maker.encode(known, segments), seen=known.also_seen)
        targets = held_out.target_ids
        if self._mapping is not None:
            targets = self._mapping[targets].astype(np.int64)
        return encoded, targets

    def _is_taken_away(
        self, users: TimedUsers, held_out: HeldOut, owner: Int64, at: Int64
    ) -> Int64:
        """Entries of the histories that the rule on seen items was about when the target came.

        A rule about some events counts all that are seen: sequences do not say which is which.
        """
        is_seen = np.ones(len(at), bool)
        if held_out.is_seen is not None:
            is_seen = held_out.is_seen[at]
        if isinstance(self._rule, SeenRule) and self._rule.days is not None:
            ends = held_out.starts + held_out.lengths
            last = len(users.timestamps) - 1
            moments = held_out.times
            if moments is None:  # the target stands behind its history
                moments = users.timestamps[np.minimum(ends, last)]
            is_seen &= users.timestamps[at] >= moments[owner] - round(self._rule.days * DAY)
        return np.flatnonzero(is_seen)


def _sequences(item_ids: Int32, owner: Int64, num_users: int) -> UserSequences:
    counts = np.bincount(owner, minlength=num_users)
    return UserSequences(item_ids, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _joined(scopes: list[Scope]) -> Scope:
    """The users of all scopes, one after the other."""
    counts = [0 if each.segments is None else len(each.segments) for each in scopes]
    begins = np.cumsum([0, *counts])
    rows = [each.seen_rows + int(n) for each, n in zip(scopes, begins, strict=False)]
    segments = [each.segments for each in scopes if each.segments is not None]
    return Scope(
        scopes[0].is_eligible,
        torch.cat(rows),
        torch.cat([each.seen_item_ids for each in scopes]),
        scopes[0].denied,
        torch.cat(segments),
    )


def _of_rows(scope: Scope, rows_R: torch.Tensor) -> Scope:
    """The same of some users, ascending, who are numbered from 0."""
    assert scope.segments is not None
    rank_B = torch.full((len(scope.segments),), -1)
    rank_B[rows_R] = torch.arange(len(rows_R))
    rows_S = rank_B[scope.seen_rows]
    kept_S = rows_S >= 0
    return Scope(
        scope.is_eligible,
        rows_S[kept_S],
        scope.seen_item_ids[kept_S],
        scope.denied,
        scope.segments[rows_R],
    )
