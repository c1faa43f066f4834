"""Probabilities and what may be bought again beside lists, against item by item arithmetic."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightsans.lists.id_lists import id_list_of
from lightsans.recommendations.list_maker import ListMaker
from lightsans.recommendations.segment import ListRules, segment_of
from lightsans.rules.item_rules import PinRule, no_rules
from lightsans.stages.computed_columns import ComputedColumns, recommend_with
from lightsans.storage.schemas import recommendations_schema
from tests.factories import local, vocabulary_of
from tests.models import small_model

SCHEMA = recommendations_schema(pa.string(), pa.string())
RAW = [None, *(f"i{number}" for number in range(1, 13))]
HISTORIES, ALSO_SEEN = [[1, 2, 3, 2], [5, 4], []], [[9], [], [1]]
NONE = ComputedColumns(because=0, probability=False, buy_again=0, has_events=False)


def rows_of(histories=HISTORIES, also_seen=ALSO_SEEN):
    kind = pa.list_(pa.int32())
    users = [f"u{number}" for number in range(len(histories))]
    columns = [pa.array(lists, kind) for lists in (histories, also_seen)]
    return pa.table(dict(zip(("user_id", "item_ids", "also_seen"), [users, *columns], strict=True)))


def make(asked, rows=None, **settings):
    torch.manual_seed(3)
    items = vocabulary_of(*RAW[1:])
    named = {"k": 4, "remove_seen": True, **settings}
    maker = ListMaker(small_model(12, n_layers=1), items, items, None, **named)
    made = recommend_with(maker, rows_of() if rows is None else rows, SCHEMA, asked)
    return maker, made.to_pylist()


def score(maker, history, item):
    with torch.inference_mode():
        return float(
            maker.score_items(torch.tensor([history]), torch.tensor([len(history)]))[0, item]
        )


def rules_of(**fields):
    """Rules about items; the only segment is that of u0."""
    model = replace(no_rules(12), **fields)
    listed = id_list_of("score.rules", local("users.txt"), pa.array(["u0"]))
    return ListRules(model, model, (segment_of(listed, pa.string()),))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_probability_is_one_over_what_may_be_recommended_to_the_user(temperature):
    """Item 7 is not eligible; what was met is no part of it, and boosts do not count."""
    asked = replace(NONE, probability=True, temperature=temperature)
    boosted = rules_of(boosts=torch.arange(13).float())
    maker, made = make(asked, eligible_ids=np.setdiff1d(np.arange(1, 13), [7]), rules=boosted)
    for row, history, also in zip(made[:2], HISTORIES, ALSO_SEEN, strict=False):
        may = [i for i in range(1, 13) if i not in {7, *history, *also}]
        weights = {i: np.exp(score(maker._model, history, i) / temperature) for i in may}
        for item, found in zip(row["item_ids"], row["probability"], strict=True):
            expected = weights[RAW.index(item)] / sum(weights.values())
            assert found == pytest.approx(expected, rel=1e-5)
    assert made[2]["source"] == "popular"
    assert made[2]["probability"] == [None] * 4


def test_what_a_segment_is_denied_is_no_part_of_its_probabilities():
    denied = (torch.arange(13) > 6).long()
    asked = replace(NONE, probability=True, temperature=1.0)
    _, [row] = make(asked, rows_of().slice(0, 1), k=12, rules=rules_of(denied=denied))
    assert set(row["item_ids"]) == {"i4", "i5", "i6"}
    assert sum(row["probability"]) == pytest.approx(1, abs=1e-6)


def test_probabilities_do_not_depend_on_who_is_scored_with_whom():
    asked = replace(NONE, probability=True, temperature=0.8)
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 13, rng.integers(1, 6)).tolist() for _ in range(60)]
    rows = rows_of(histories, [[]] * 60)
    _, whole = make(asked, rows)
    parts = [row for first in range(0, 60, 7) for row in make(asked, rows.slice(first, 7))[1]]
    for row, same in zip(whole, parts, strict=True):
        assert row["item_ids"] == same["item_ids"]
        assert row["probability"] == pytest.approx(same["probability"], rel=1e-5)


def test_no_temperature_gives_no_probability():
    _, made = make(replace(NONE, probability=True))
    assert [row["probability"] for row in made] == [[None] * 4] * 3


def test_the_best_seen_items_stand_behind_the_list_with_their_source():
    maker, made = make(replace(NONE, buy_again=2, probability=True, temperature=1.0))
    _, plain = make(NONE)
    for row, before, history in zip(made, plain, HISTORIES, strict=True):
        assert row["item_ids"][:4] == before["item_ids"]
        ranked = sorted(set(history), key=lambda i: -score(maker._model, history, i))[:2]
        assert row["item_ids"][4:] == [RAW[i] for i in ranked]
        for item, found in zip(ranked, row["scores"][4:], strict=True):
            assert found == pytest.approx(score(maker._model, history, item), rel=1e-5)
        assert row["item_source"] == [row["source"]] * 4 + ["buy_again"] * len(ranked)
        assert row["probability"][4:] == [None] * len(ranked)


def test_rules_say_what_may_be_bought_again():
    """Denied, ineligible and low items are not; pins are named, boosts count in the order."""
    asked = replace(NONE, buy_again=3)
    rules = rules_of(boosts=(torch.arange(13) == 2) * 50.0, pins=(PinRule(6, 1),))
    _, made = make(asked, rules=rules, eligible_ids=np.arange(2, 13))
    assert made[0]["item_ids"][4:] == ["i2", "i3"]
    assert made[0]["scores"][4] > 40
    assert [row["item_source"][0] for row in made] == ["pinned"] * 3
    _, made = make(asked, min_score=1e9)
    assert made[0]["item_ids"] == []
    denied = rules_of(denied=(torch.arange(13) == 2).long())
    _, [row] = make(asked, rows_of().slice(0, 1), rules=denied)
    assert sorted(row["item_ids"][4:]) == ["i1", "i3"]


def test_a_pin_that_the_model_does_not_know_is_named_in_popular_lists():
    known, rules = vocabulary_of(*RAW[1:]), rules_of()
    dataset, mapping = vocabulary_of(*RAW[1:], "i13"), np.array([*range(13), 0], np.int32)
    popular = replace(no_rules(13), pins=(PinRule(13, 1),))
    maker = ListMaker(
        small_model(12, n_layers=1), known, dataset, mapping, k=4, remove_seen=True,
        rules=replace(rules, popular=popular),
    )  # fmt: skip
    made = recommend_with(maker, rows_of(), SCHEMA, replace(NONE, buy_again=1)).to_pylist()
    assert (made[2]["source"], made[2]["item_ids"][0]) == ("popular", "i13")
    assert made[2]["item_source"] == ["pinned", "popular", "popular", "popular"]


def test_in_a_log_with_events_what_is_seen_is_bought_and_views_are_not():
    asked = replace(NONE, buy_again=3, has_events=True)
    _, made = make(asked, histories_are_seen=False)
    assert [row["item_ids"][4:] for row in made] == [["i9"], [], []]
    _, made = make(replace(asked, has_events=False), histories_are_seen=False)
    assert [row["item_ids"][4:] for row in made] == [[], [], []]  # i9 was removed by a filter


def test_nobody_has_columns_without_rows():
    asked = ComputedColumns(because=1, probability=True, buy_again=1, has_events=False)
    _, made = make(asked, rows_of([], []))
    assert made == []
