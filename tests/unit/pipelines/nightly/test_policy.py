"""Whether a night trains, decided on figures; every reason names figure and setting."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from lightsans.config import (
    ModelConfig,
    NightlyConfig,
    NightlyTrainConfig,
    RunConfig,
    TemporalConfig,
    to_dict,
)
from lightsans.config.file import load_config
from lightsans.config.marks import Mark, fields_with
from lightsans.errors import ConfigError
from pipelines.nightly.policy import (
    why_by_calendar,
    why_by_metric,
    why_by_settings,
    why_by_vocabulary,
    why_scratch,
)

WEEKLY = NightlyTrainConfig(every_nights=7)
FIRST = datetime(2025, 11, 1, tzinfo=UTC)


def test_every_night_trains_unless_told_otherwise():
    assert (
        why_by_calendar(NightlyTrainConfig(), FIRST, FIRST, "UTC")
        == "nightly.train.every_nights is 1"
    )


def test_a_model_is_kept_until_its_nights_are_over():
    assert why_by_calendar(WEEKLY, datetime(2025, 11, 7, 23, tzinfo=UTC), FIRST, "UTC") is None
    assert why_by_calendar(WEEKLY, datetime(2025, 11, 8, tzinfo=UTC), FIRST, "UTC") == (
        "the published model has learnt the log up to 2025-11-01T00:00:00+00:00, and "
        "nightly.train.every_nights is 7"
    )


@pytest.mark.parametrize("first", [datetime(2026, 3, 25), datetime(2026, 10, 21)])
def test_a_week_in_which_clocks_change_is_a_week(first):
    zone = ZoneInfo("Europe/Berlin")
    trained, *nights = ((first + timedelta(d)).replace(tzinfo=zone) for d in (0, 6, 7))
    reasons = [why_by_calendar(WEEKLY, night, trained, "Europe/Berlin") for night in nights]
    assert [reason is None for reason in reasons] == [True, False]


def test_a_model_may_be_kept_for_ever():
    for_ever = NightlyTrainConfig(every_nights=2**31 - 1)
    assert why_by_calendar(for_ever, datetime(2099, 1, 1, tzinfo=UTC), FIRST, "UTC") is None


def test_a_setting_within_a_setting_that_joined_later_has_its_default_in_what_is_older():
    config = RunConfig()
    sections, data = to_dict(config), to_dict(config.data)
    assert isinstance(data["columns"], dict)
    del data["columns"]["event"]
    assert why_by_settings(config, sections, data, "full") is None


def test_new_items_beyond_the_share_ask_for_training():
    assert why_by_vocabulary(WEEKLY, 1000, 50) is None
    assert why_by_vocabulary(WEEKLY, 1000, 51) == (
        "51 items are new to the published model, which knows 1000: 5.1%, more than "
        "nightly.train.if_vocabulary_grows=0.05"
    )
    assert why_by_vocabulary(replace(WEEKLY, if_vocabulary_grows=None), 10, 1000) is None


def test_a_metric_that_fell_asks_for_training():
    assert why_by_metric(WEEKLY, "ndcg@10", 0.1, 0.0971) is None
    assert why_by_metric(WEEKLY, "ndcg@10", 0.1, 0.2) is None
    assert why_by_metric(WEEKLY, "ndcg@10", 0.1, 0.09) == (
        "test ndcg@10 of the published model was 0.1000 at its training and is 0.0900 tonight: "
        "10.0% less, more than nightly.train.if_metric_drops=0.03"
    )
    assert why_by_metric(replace(WEEKLY, if_metric_drops=None), "ndcg@10", 0.1, 0.0) is None


def test_a_metric_that_nobody_knows_asks_for_training():
    assert "is not known of its training" in str(why_by_metric(WEEKLY, "hit@10", None, 0.1))
    assert "is not known of tonight" in str(why_by_metric(WEEKLY, "hit@10", 0.1, None))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("model.hidden_size=32", "model.hidden_size was 64 and is 32"),
        ("train.learning_rate=0.5", "train.learning_rate was 0.002 and is 0.5"),
        ("data.min_rating=3", "data.min_rating was None and is 3.0"),
        ("nightly.refit=none", "nightly.refit was full and is none"),
        ("evaluate.remove_seen=true", "evaluate.remove_seen was False and is True"),
    ],
)
def test_another_recipe_asks_for_training(setting, reason):
    before, now = RunConfig(), load_config(None, [setting]).config
    sections = to_dict(before)
    assert why_by_settings(before, sections, to_dict(before.data), "full") is None
    assert why_by_settings(now, sections, to_dict(before.data), "full") == reason


def test_what_differs_from_night_to_night_asks_for_nothing():
    before = RunConfig()
    cuts = TemporalConfig(valid_from="2025-01-01", test_from="2025-02-01")
    data = replace(before.data, split="temporal", temporal=cuts, as_of="2025-03-01", base="b")
    later = replace(cuts, test_from="2025-02-02")
    now = replace(before, data=replace(data, temporal=later, as_of="2025-03-02", base="c"))
    now = replace(now, train=replace(now.train, warm_start="model", num_workers=7))
    theirs = to_dict(data)
    del theirs["escape"]  # the setting joined later
    assert why_by_settings(now, to_dict(before), theirs, "full") is None


def test_a_warm_start_needs_weights_of_the_same_shape():
    config = RunConfig()
    model = to_dict(config.model)
    assert why_scratch(config, model) is None
    assert why_scratch(config, {**model, "n_layers": 9}) == (
        f"model.n_layers was 9 and is {config.model.n_layers}"
    )


@pytest.mark.parametrize("name", fields_with(ModelConfig, Mark.WEIGHTS))
def test_whatever_a_warm_start_would_refuse_starts_from_scratch(name):
    config = RunConfig()
    recorded = to_dict(config.model)
    del recorded[name]  # a model of before the setting joined: it has the default
    assert why_scratch(config, recorded) is None
    assert why_scratch(config, {**recorded, name: "another"}) == (
        f"model.{name} was another and is {getattr(config.model, name)}"
    )


def test_from_is_another_name_of_where_training_starts():
    policy = "nightly.train={every_nights: 7, from: warm, if_metric_drops: .1}"
    found = load_config(None, [policy]).config.nightly
    assert found == NightlyConfig(
        train=NightlyTrainConfig(every_nights=7, start="warm", if_metric_drops=0.1)
    )
    assert load_config(None, ["nightly.train.from=warm"]).config.nightly.train.start == "warm"
    with pytest.raises(ConfigError, match=r"nightly\.train\.every_nights=0"):
        NightlyTrainConfig(every_nights=0)
