"""Ids of results follow the marks of settings: each setting is changed, and ids are compared."""

import dataclasses
import hashlib
from typing import Any, Literal, get_args, get_origin

import pytest

from lightsans.config import EventConfig, RunConfig
from lightsans.config.marks import Mark, walk_marks
from lightsans.config.rules import Boost, Cap, ItemGroup, Pin, Quota, SegmentRule
from lightsans.config.run import setting_type
from lightsans.errors import ConfigError
from lightsans.recommendations.item_choice import read_item_choice
from lightsans.search.space import build_space
from lightsans.storage.manifests import content_id, write_manifest
from lightsans.storage.records import to_json
from pipelines.evaluate import stage as evaluate
from pipelines.preprocess.identity import dataset_id
from pipelines.score import audience, similar
from pipelines.score import stage as score
from pipelines.train.identity import model_id
from pipelines.tune.stage import search_id, trial_base
from tests.factories import local
from tests.manifests import dataset_manifest, model_manifest

MARKS = dict(walk_marks(RunConfig))
RESULT_OF_SECTION = {
    "data": "dataset",
    "model": "model",
    "train": "model",
    "evaluate": "evaluation",
    "score": "run",
    "similar": "similar",
    "audience": "audience",
    "tune": "search",
}
# Settings that only go together with others, or whose values are no free choice.
_EVENTS = {
    "data.columns.event": "what",
    "data.events": {"buy": EventConfig(input=True, target=True)},
}
TOGETHER = {
    "data.temporal": {
        "data.split": "temporal",
        "data.temporal.valid_from": "2001-01-01",
        "data.temporal.test_from": "2002-01-01",
    },
    "data.split": {
        "data.split": "temporal",
        "data.temporal.valid_fraction": 0.1,
        "data.temporal.test_fraction": 0.1,
    },
    "score.table.uri": {"score.table.uri": "delta:///lists"},
    "data.as_of": {"data.as_of": "2030-01-01"},
    "data.keep_since": {"data.keep_since": "1999-01-01"},
    "data.timezone": {"data.timezone": "Europe/Berlin"},
    "data.header": {"data.header": False, **{f"data.columns.{c}": n for n, c in enumerate(
        ("user", "item", "timestamp", "rating")
    )}},
    "data.encoding": {"data.encoding": "latin-1"},
    "data.num_parts": {"data.num_parts": 7},
    "train.ema_decay": {"train.ema_decay": 0.9},
    "model.label_smoothing": {"model.label_smoothing": 0.1},
    "model.position_dropout_prob": {"model.position_dropout_prob": 0.1},
    "evaluate.ks": {"evaluate.ks": (10, 50)},
    "nightly.beat_baselines": {"nightly.beat_baselines": ("popular",)},
    "nightly.floors": {"nightly.floors": {"ndcg@10": 0.1}},
    "nightly.notify_url": {"nightly.notify_url": "https://host/${NAME}"},
    "nightly.notify_token": {"nightly.notify_url": "https://host/", "nightly.notify_token": "A"},
    "data.columns.event": _EVENTS,
    "data.events": _EVENTS,
    "score.partition_by": {"score.partition_by": "source"},
    "score.warn_below": {"score.warn_below": {"coverage": 0.1}},
    "score.warn_above": {"score.warn_above": {"coverage": 0.1}},
    "storage.endpoint_url": {"storage.endpoint_url": "http://127.0.0.1:1"},
    "train.table_precision": {"train.table_precision": "bf16", "model.loss_type": "gBCE"},
}  # fmt: skip
MADE_OF_FILES = {"data.base", "root"}
"""Changing them needs other results on storage."""


@pytest.fixture
def config(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp,rating\na,x,1,5\n")
    return changed(
        RunConfig(),
        {
            "root": str(tmp_path / "root"),
            "data.input": (str(log),),
            "tune.space": {"model.n_layers": {"choice": [1, 2]}},
        },
    )


def changed(config, values):
    """The configuration with other values of settings, all replaced at once."""
    sections: dict[str, Any] = {}
    for name, value in values.items():
        section, _, rest = name.partition(".")
        if rest:
            sections.setdefault(section, {})[rest] = value
        else:
            sections[name] = value
    return dataclasses.replace(
        config,
        **{
            name: changed(getattr(config, name), value)
            if dataclasses.is_dataclass(getattr(config, name))
            else value
            for name, value in sections.items()
        },
    )


def candidates(kind, value):
    """Other values of a type, the likeliest first."""
    if get_origin(kind) is Literal:
        return [other for other in get_args(kind) if other != value]
    if kind is bool:
        return [not value]
    if kind in (int, float):
        return [*([value * 2, value / 2, 0.5] if kind is float and value else []), 4, 3, 2, 2**30]
    if kind is str:
        return [";", "other"]
    return [other for part in get_args(kind) for other in candidates(part, value)]


def with_another_value(config, name):
    if name.startswith("data.item_features."):  # the log has columns, too
        features = {"data.item_table": config.data.input[0], name: ("rating",)}
        if name.endswith("separators"):
            features |= {"data.item_features.categorical": ("rating",), name: {"rating": "|"}}
        return changed(config, features)
    for group, values in TOGETHER.items():
        if name == group or name.startswith(f"{group}."):
            return changed(config, values)
    value = config
    for part in name.split("."):
        value = getattr(value, part)
    for other in candidates(setting_type(name), value):
        if other is None or (other == value and type(other) is type(value)):
            continue
        try:
            return changed(config, {name: other})
        except ConfigError:
            continue
    raise AssertionError(f"no other value of {name} is known; add one to TOGETHER")


def ids(config):
    """The ids of all results that are made without looking into one made before."""
    space = build_space(config.tune.space, trial_base(config), "tune.space")
    choice, dataset = read_item_choice(config), dataset_manifest()
    return {
        "dataset": dataset_id(config),
        "model": model_id(config, "some-dataset"),
        "evaluation": content_id("evaluation", 1, evaluate._question(config, dataset, "m", False)),
        "run": content_id("run", 1, to_json(score._question(config, choice, dataset, "m", False))),
        "similar": content_id("similar", 1, similar._question(config, choice, "m")),
        "audience": content_id(
            "audience", 1, to_json(audience._question(config, choice, dataset, "m", False, ["i"]))
        ),
        "search": search_id(space, "some-dataset"),
    }


NO_EFFECT = [name for name, marks in MARKS.items() if {Mark.NO_EFFECT, Mark.AT_ONCE} & set(marks)]
BUDGET = [name for name, marks in MARKS.items() if Mark.BUDGET in marks]
CONTENT = [name for name, marks in MARKS.items() if Mark.CONTENT in marks]


@pytest.mark.parametrize("name", sorted({*NO_EFFECT, *BUDGET} - MADE_OF_FILES))
def test_a_setting_without_effect_changes_no_id(config, name):
    other = with_another_value(config, name)
    assert other != config
    assert ids(other) == ids(config)


@pytest.mark.parametrize("name", sorted(set(CONTENT) - MADE_OF_FILES - {"train.refit_epochs"}))
def test_a_setting_that_decides_content_changes_the_id_of_its_result(config, name):
    result = RESULT_OF_SECTION[name.partition(".")[0]]
    assert ids(with_another_value(config, name))[result] != ids(config)[result]


def test_a_refit_is_another_model(config):
    refit = changed(config, {"train.refit_epochs": 3})
    assert model_id(refit, "some-dataset") != model_id(config, "some-dataset")


@pytest.mark.parametrize("name", [n for n, marks in MARKS.items() if Mark.VALIDATES in marks])
def test_a_setting_that_chooses_the_epoch_changes_the_model(config, name):
    assert ids(with_another_value(config, name))["model"] != ids(config)["model"]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("data.exclude_users", "dataset"),
        ("data.item_table", "dataset"),
        ("score.users", "run"),
        ("score.allow_items", "run"),
        ("score.deny_items", "run"),
        ("score.item_table", "run"),
        ("evaluate.user_table", "evaluation"),
        ("evaluate.recommendations", "evaluation"),
        ("score.user_table", "run"),
    ],
)
def test_a_file_decides_by_its_content_not_by_its_path(config, tmp_path, name, result):
    """Which covers all settings that are resolved, but for inputs and the space of a search."""
    found = []
    for place, content in (("here", "a"), ("there", "a"), ("there", "b")):
        columns = {
            "data.item_table": "data.item_features.numeric",
            "score.item_table": "score.eligible_column",
            "evaluate.user_table": "evaluate.user_column",
            "score.user_table": "score.user_columns",
        }
        is_table = name in (*columns, "evaluate.recommendations")
        path = tmp_path / f"{place}-{content}.{'csv' if is_table else 'txt'}"
        path.write_text(
            f"item_id,user_id,keep\n{content},{content},true\n" if is_table else f"{content}\n"
        )
        values: dict[str, object] = {name: str(path)}
        if name in columns:
            column = columns[name]
            takes_several = column in ("score.user_columns", "data.item_features.numeric")
            values[column] = ("keep",) if takes_several else "keep"
        found.append(ids(changed(config, values))[result])
    assert len({ids(config)[result], found[0], found[2]}) == 3
    # These are told apart by address and version instead of being read.
    by_version = ("score.users", "evaluate.user_table", "evaluate.recommendations")
    if name not in (*by_version, "score.user_table", "data.item_table"):
        assert found[0] == found[1]


def test_other_inputs_or_another_space_are_other_results(config, tmp_path):
    log = tmp_path / "other.csv"
    log.write_text("user_id,item_id,timestamp,rating\na,x,1,5\n")
    assert ids(changed(config, {"data.input": (str(log),)}))["dataset"] != ids(config)["dataset"]
    space = {"tune.space": {"model.n_layers": {"choice": [1, 3]}}}
    assert ids(changed(config, space))["search"] != ids(config)["search"]


def test_partitions_to_come_make_no_other_dataset_where_they_are_event_time(config, tmp_path):
    def name(partition_time):
        values = {"data.input": (str(tmp_path),), "data.as_of": "2026-01-02"}
        return ids(changed(config, {**values, "data.partition_time": partition_time}))["dataset"]

    found = []
    for day in ("dt=2026-01-01", "dt=2026-01-02"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.csv").write_text("user_id,item_id,timestamp,rating\na,x,1,5\n")
        found.append((name("dt"), name(None)))
    assert found[0][0] == found[0][1] == found[1][0] != found[1][1]


RULES = {
    "score.rules.boosts": (Boost(column="brand", values={"a": 1.0}),),
    "score.rules.caps": (Cap(column="brand", at_most=1, first=2),),
    "score.rules.diversity.weight": 0.5,
    "score.rules.pins": (Pin(item="a", position=1),),
    "score.rules.quotas": (
        Quota(group=ItemGroup(column="brand", values=("a",)), at_least=1, first=2),
    ),
    "score.rules.segments": (),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_decides_the_run_and_so_does_the_column_or_file_that_it_names(
    config, tmp_path, name
):
    table, users = tmp_path / "items.csv", tmp_path / "users.txt"
    rule = RULES[name]
    if name.endswith("segments"):
        group = ItemGroup(items=str(users))
        rule = (SegmentRule(users=str(users), deny=group),)
    values = {name: rule}
    if name.endswith(("boosts", "caps", "quotas")):
        values["score.item_table"] = str(table)
    found = [ids(config)["run"]]
    for content in ("a", "b"):
        table.write_text(f"item_id,brand\nx,{content}\n")
        users.write_text(f"{content}\n")
        found.append(ids(changed(config, values))["run"])
    refers = name.endswith(("boosts", "caps", "quotas", "segments"))
    assert len(set(found)) == (3 if refers else 2)


def test_a_model_to_begin_with_decides_by_its_weights_and_not_by_its_place(config, tmp_path):
    found = [ids(config)["model"]]
    for place, weights in (("a", "one"), ("b", "one"), ("a", "two")):
        sha256 = hashlib.sha256(weights.encode()).hexdigest()
        write_manifest(local(tmp_path / place), model_manifest(weights_sha256=sha256))
        found.append(ids(changed(config, {"train.warm_start": str(tmp_path / place)}))["model"])
    new, first, moved, replaced = found
    assert first == moved
    assert len({new, first, replaced}) == 3


def test_the_settings_that_are_resolved_are_the_ones_tried_here():
    resolved = {name for name, marks in MARKS.items() if Mark.RESOLVED in marks}
    assert resolved == {
        "data.exclude_users",
        "data.input",
        "data.item_table",
        "data.partition_time",
        "evaluate.recommendations",
        "evaluate.user_column",
        "evaluate.user_table",
        "score.allow_items",
        "score.deny_items",
        "score.eligible_column",
        "score.item_columns",
        "score.item_table",
        *(name for name in MARKS if name.startswith("score.rules.")),
        "score.user_columns",
        "score.user_table",
        "score.users",
        "train.warm_start",
        "tune.space",
    }
