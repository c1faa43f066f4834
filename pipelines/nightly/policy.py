"""Decides whether a night trains, or keeps the model that is published: pure, on a few figures.

Kept, the published model scores the histories of today. It is trained anew when the configured
number of nights has passed, when it fits the configuration no longer, when too many items are new
to it, when it has become worse on held-out items, or when it does not pass the gate any more.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lightsans.columns.times import zone_of
from lightsans.config import ModelConfig, NightlyTrainConfig, RunConfig
from lightsans.config.marks import (
    Mark,
    differing,
    fields_with,
    recorded_value,
    to_dict,
)

NEVER_THE_SAME = frozenset({"as_of", "base", "num_parts", "temporal"})
"""Settings of a dataset that differ from night to night."""
NOT_OF_THE_RECIPE = frozenset({"warm_start", "refit_epochs"})
"""Settings of training that a night sets itself."""


def why_by_calendar(
    config: NightlyTrainConfig, night: datetime, trained: datetime, timezone: str
) -> str | None:
    """Reason to train by the date; None where the model is young enough.

    Args:
        config: The policy.
        night: Date of the night.
        trained: Date of the log that the model was trained on.
        timezone: Time zone of the nights, whose days may have 23 or 25 hours.
    """
    if config.every_nights == 1:
        return "nightly.train.every_nights is 1"
    zone = zone_of(timezone)
    now, then = (moment.astimezone(zone).replace(tzinfo=None) for moment in (night, trained))
    if (now - then).days < config.every_nights:
        return None
    return (
        f"the published model has learnt the log up to {trained.isoformat()}, and "
        f"nightly.train.every_nights is {config.every_nights}"
    )


def why_by_settings(
    config: RunConfig, model: Mapping[str, Any], data: Mapping[str, Any], refit: str
) -> str | None:
    """Reason to train because the configuration asks for another model; None where it does not.

    Args:
        config: The run.
        model: Sections ``model``, ``train`` and ``evaluate`` that the judged model was trained
            with.
        data: Section ``data`` of its dataset.
        refit: How the published model came of it: full, continue or none.
    """
    if config.nightly.refit != refit:
        return f"nightly.refit was {refit} and is {config.nightly.refit}"
    for section, theirs, mark, passed in (
        ("model", model["model"], Mark.CONTENT, frozenset[str]()),
        ("train", model["train"], Mark.CONTENT, NOT_OF_THE_RECIPE),
        ("data", data, Mark.CONTENT, NEVER_THE_SAME),
        # By it the epoch was chosen, and the metric taken that is compared with tonight's.
        ("evaluate", model.get("evaluate", {}), Mark.VALIDATES, frozenset[str]()),
    ):
        ours = getattr(config, section)
        plain = to_dict(ours)
        for name in fields_with(ours, mark):
            before = recorded_value(type(ours), theirs, name)
            if name not in passed and plain[name] != before:
                return f"{section}.{name} was {before} and is {plain[name]}"
    return None


def why_by_vocabulary(config: NightlyTrainConfig, known: int, new: int) -> str | None:
    """Reason to train because items are new; None where few are.

    Args:
        config: The policy.
        known: Items that the model knows.
        new: Items of tonight that it does not.
    """
    if config.if_vocabulary_grows is None or new <= config.if_vocabulary_grows * known:
        return None
    return (
        f"{new} items are new to the published model, which knows {known}: "
        f"{new / known:.1%}, more than nightly.train.if_vocabulary_grows="
        f"{config.if_vocabulary_grows:g}"
    )


def why_by_metric(
    config: NightlyTrainConfig, metric: str, then: float | None, now: float | None
) -> str | None:
    """Reason to train because the model has become worse; None where it has not.

    Args:
        config: The policy.
        metric: Name of the metric.
        then: Its value on test when the judged model was trained; None where it is not known.
        now: Its value on tonight's test items; None where nobody could be evaluated.
    """
    if config.if_metric_drops is None:
        return None
    if then is None or now is None:
        when = "its training" if then is None else "tonight"
        return f"test {metric} of the published model is not known of {when}"
    if then <= 0 or 1 - now / then <= config.if_metric_drops:
        return None
    return (
        f"test {metric} of the published model was {then:.4f} at its training and is {now:.4f} "
        f"tonight: {1 - now / then:.1%} less, more than nightly.train.if_metric_drops="
        f"{config.if_metric_drops:g}"
    )


def why_scratch(config: RunConfig, model: Mapping[str, Any]) -> str | None:
    """Reason why training cannot begin with a model's weights; None where it can.

    Args:
        config: The run.
        model: Section ``model`` that the weights were trained with.
    """
    others = differing(model, config.model, Mark.WEIGHTS)
    if not others:
        return None
    then = recorded_value(ModelConfig, model, others[0])
    return f"model.{others[0]} was {then} and is {getattr(config.model, others[0])}"
