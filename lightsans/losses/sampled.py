"""Losses that compare each target with some items instead of all: their cost does not grow with N.

The negatives are shared by all targets of a step (`lightsans.losses.negatives`), so that scoring
them is one product of matrices. A negative that happens to be the target is left out for that
target.

Shapes: T targets   K negatives   D hidden size
"""

import torch
from torch import Tensor
from torch.nn import functional

from lightsans.losses.targets import Targets

BPR_GAMMA = 1e-10
"""Added inside the logarithm, as in RecBole's BPRLoss."""


def bpr(targets: Targets) -> Tensor:
    """The loss ``BPR``."""
    assert targets.negative_ids is not None
    target_vectors_TD = targets.vectors_of(targets.ids)
    return bpr_sum(targets.vectors, target_vectors_TD, targets.vectors_of(targets.negative_ids))


def sampled_softmax(targets: Targets) -> Tensor:
    """The loss ``sampled_softmax``."""
    assert targets.log_expected is not None
    return sampled_softmax_sum(*_compared(targets), targets.log_expected)


def gbce(targets: Targets) -> Tensor:
    """The loss ``gBCE``."""
    assert targets.negative_ids is not None
    beta = gbce_beta(len(targets.negative_ids), targets.num_items, targets.config.gbce_t)
    return gbce_sum(*_compared(targets), beta)


def sampled_softmax_sum(
    vectors_TD: Tensor,
    target_vectors_TD: Tensor,
    negative_vectors_KD: Tensor,
    is_target_TK: Tensor,
    log_expected_K: Tensor,
) -> Tensor:
    """An estimate of the cross-entropy over all items, summed over targets.

    ``-log(e^target / (e^target + sum_j e^(score_j) / (K q_j)))``: dividing each negative by how
    often it was to be expected makes the sum an unbiased estimate of the sum over all other items,
    whatever they were drawn by. The target, which is always there, is not corrected. With many
    negatives this becomes the cross-entropy itself.

    Args:
        vectors_TD: Vectors that the targets are predicted from.
        target_vectors_TD: Vectors of the targets.
        negative_vectors_KD: Vectors of the negatives.
        is_target_TK: Where a negative is the target itself.
        log_expected_K: log(K q) of each negative.

    Source: Bengio and Sénécal, "Adaptive Importance Sampling to Accelerate Training of a Neural
    Probabilistic Language Model", 2008; for why the target stays uncorrected, Khrylchenko et al.,
    "Correcting the LogQ Correction", RecSys 2025.
    """
    target_T1 = (vectors_TD * target_vectors_TD).sum(dim=-1, keepdim=True)
    scores_TK = (vectors_TD @ negative_vectors_KD.t()).float() - log_expected_K
    scores_TK = scores_TK.masked_fill(is_target_TK, float("-inf"))
    all_scores = torch.cat([target_T1, scores_TK], dim=1)
    return (all_scores.logsumexp(dim=1, keepdim=True) - target_T1).sum()


def gbce_sum(
    vectors_TD: Tensor,
    target_vectors_TD: Tensor,
    negative_vectors_KD: Tensor,
    is_target_TK: Tensor,
    beta: float,
) -> Tensor:
    """Generalised binary cross-entropy, summed over targets, averaged over a target's K + 1 items.

    ``-(beta log sigmoid(target) + sum_j log(1 - sigmoid(score_j))) / (K + 1)``. With beta = 1 this
    is binary cross-entropy, which overestimates probabilities when few negatives are drawn.

    Args:
        vectors_TD: Vectors that the targets are predicted from.
        target_vectors_TD: Vectors of the targets.
        negative_vectors_KD: Vectors of the negatives.
        is_target_TK: Where a negative is the target itself.
        beta: See `gbce_beta`.

    Source: Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation
    Trained with Negative Sampling", RecSys 2023, equation 9.
    """
    target_T = (vectors_TD * target_vectors_TD).sum(dim=-1)
    scores_TK = (vectors_TD @ negative_vectors_KD.t()).float()
    negative_TK = functional.softplus(scores_TK).masked_fill(is_target_TK, 0.0)
    total = beta * functional.softplus(-target_T).sum() + negative_TK.sum()
    return total / (negative_vectors_KD.shape[0] + 1)


def gbce_beta(num_negatives: int, num_items: int, t: float) -> float:
    """The power of the target's probability: 1 for t = 0 (plain BCE), the sampling rate for t = 1.

    Source: as `gbce_sum`, equation 10: ``alpha (t (1 - 1 / alpha) + 1 / alpha)``.
    """
    alpha = min(1.0, num_negatives / max(num_items - 1, 1))
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def bpr_sum(vectors_TD: Tensor, target_vectors_TD: Tensor, negative_vectors_TD: Tensor) -> Tensor:
    """Bayesian personalised ranking: sum of -log(gamma + sigmoid(target's - negative's score)).

    Source: RecBole 1.2.1, recbole/model/loss.py, class BPRLoss.
    """
    margin_T = (vectors_TD * (target_vectors_TD - negative_vectors_TD)).sum(dim=-1)
    return -(BPR_GAMMA + margin_T.sigmoid()).log().sum()


def _compared(targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors, vectors of the targets and of the shared negatives, and where they are the same."""
    negative_K = targets.negative_ids
    assert negative_K is not None
    return (
        targets.vectors,
        targets.vectors_of(targets.ids),
        targets.vectors_of(negative_K),
        targets.ids.unsqueeze(1) == negative_K,
    )
