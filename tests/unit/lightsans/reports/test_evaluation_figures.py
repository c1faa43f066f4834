import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightsans.columns.hashing import NUM_BUCKETS
from lightsans.ranking.bootstrap import Estimate
from lightsans.ranking.metrics import RankingTotals
from lightsans.ranking.segments import Segmentation, by_newcomers
from lightsans.reports.evaluation_figures import (
    EvaluationFigures,
    RankedUsers,
    add_measured,
    describe_evaluation,
    estimate_drop,
    kept_for_pairs,
    measure_ranks,
    measured_from_bytes,
    measured_to_bytes,
)
from lightsans.reports.evaluation_plots import draw_evaluation
from lightsans.storage.records import from_json, to_json

KS = (5, 10)
SPLITS = ("valid", "test")
USERS = 600
GENERATOR = np.random.default_rng(0)
BUCKETS = GENERATOR.integers(0, NUM_BUCKETS, USERS)
RANKS = {
    "model": GENERATOR.integers(0, 25, USERS),
    "popular": GENERATOR.integers(0, 100, USERS),
}
IS_NEW = GENERATOR.random(USERS) < 0.3
ODD = "a/b \u00e9\0"


def measure(chosen):
    """Sums over the users of a part, on both splits."""
    groups = Segmentation("town", (ODD, "never"), np.zeros(len(chosen), np.int64))
    measured = []
    for scorer, ranks in RANKS.items():
        for split in SPLITS:
            figures = np.ones((len(chosen), 2)) if split == "test" else None
            users = RankedUsers(scorer, split, BUCKETS[chosen], ranks[chosen], figures)
            measured.append(measure_ranks(users, KS, [by_newcomers(IS_NEW[chosen]), groups]))
        measured.append({f"items/{scorer}": np.array([0, 3, 0, 1])})
    return add_measured(measured)


@pytest.fixture(scope="module")
def measured():
    parts = [measure(np.flatnonzero(part == BUCKETS % 2)) for part in (0, 1)]
    return add_measured(measured_from_bytes(measured_to_bytes(part)) for part in parts)


@pytest.fixture(scope="module")
def found(measured):
    return describe_evaluation(measured, ["model", "popular"], SPLITS, KS)


def test_metrics_are_the_exact_ones_and_lie_in_their_intervals(found):
    exact = RankingTotals.from_ranks(RANKS["model"], KS).metrics()
    assert found.metrics["model"]["test"] == exact
    assert found.users == {"valid": USERS, "test": USERS}
    assert set(found.intervals["model"]["test"]) == set(exact)
    for name, (low, high) in found.intervals["model"]["test"].items():
        assert low < exact[name] < high, name
    low, high = found.intervals["model"]["test"]["hit@10"]
    spread = np.sqrt(exact["hit@10"] * (1 - exact["hit@10"]) / USERS)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_figures_survive_as_json(found):
    content = json.loads(json.dumps(to_json(found)))
    assert from_json(EvaluationFigures, content, "manifest.json") == found
    assert set(content["segments"]["newcomers"]["newcomer"]) == {"users", "model", "popular"}
    assert set(content["lists"]["model"]["novelty@10"]) == {"value", "low", "high"}


def test_a_lead_is_the_difference_of_the_metrics(found):
    lead = found.differences["popular"]["test"]["hit@10"]
    metrics = found.metrics
    difference = metrics["model"]["test"]["hit@10"] - metrics["popular"]["test"]["hit@10"]
    assert lead.value == pytest.approx(difference)
    assert 0 < lead.low < lead.value < lead.high


def test_segments_are_metrics_of_their_users_alone(found):
    newcomer = found.segments["newcomers"]["newcomer"]
    assert newcomer.users == IS_NEW.sum()
    hits = (RANKS["model"][IS_NEW] > 0) & (RANKS["model"][IS_NEW] <= 10)
    assert newcomer.scorers["model"]["hit@10"].value == pytest.approx(hits.mean())
    assert set(newcomer.scorers) == {"model", "popular"}
    assert list(found.segments["newcomers"]) == ["trained on", "newcomer"]
    assert list(found.segments["town"]) == [ODD]  # whatever its characters; no empty segments


def test_lists_have_their_figures(found):
    lists = found.lists["model"]
    assert lists.means["novelty@10"] == Estimate(1, 1, 1)
    assert lists.recommended_items == 2
    assert 0 < lists.gini < 1


def test_a_drop_is_paired_with_what_another_evaluation_kept(measured):
    kept = measured_from_bytes(measured_to_bytes(kept_for_pairs(measured)))
    assert estimate_drop(kept, kept, "ndcg@10", KS) == Estimate(0, 0, 0)
    worse = {"groups/model/test": measured["groups/popular/test"]}
    drop = estimate_drop(worse, kept, "ndcg@10", KS)
    assert 0 < drop.low < drop.value < drop.high < 1
    fewer = {"groups/model/test": measure(np.arange(10))["groups/model/test"]}
    with pytest.raises(ValueError, match="different users"):
        estimate_drop(fewer, kept, "ndcg@10", KS)


def test_a_column_with_a_slash_is_one_way_to_tell_users_apart():
    everybody = np.zeros(USERS, np.int64)
    towns = Segmentation("home/town", ("Bonn",), everybody)
    ranks = RankedUsers("model", "test", BUCKETS, RANKS["model"], np.ones((USERS, 2)))
    part = measure_ranks(ranks, KS, [towns]) | {"items/model": np.array([0, 1])}
    whole = measured_from_bytes(measured_to_bytes(part))
    described = describe_evaluation(whole, ["model"], ["test"], KS)
    assert described.segments["home/town"]["Bonn"].users == USERS


def test_the_picture_shows_scorers_leads_and_segments(found, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    original = Axes.errorbar

    def remember(self, values, *arguments, **named):
        drawn.append((list(values), named["xerr"]))
        return original(self, values, *arguments, **named)

    monkeypatch.setattr(Axes, "errorbar", remember)
    assert draw_evaluation(replace(found, segments={}), "model m").startswith(b"\x89PNG")
    values, (left, right) = drawn[1]  # the scorers on test
    low, high = found.intervals["model"]["test"]["ndcg@10"]
    assert values[0] == found.metrics["model"]["test"]["ndcg@10"]
    assert (values[0] - left[0], values[0] + right[0]) == pytest.approx((low, high))


def test_a_long_label_of_a_segment_does_not_reach_into_the_next_panel(found, monkeypatch):
    from matplotlib.axes import Axes

    named: list[str] = []
    monkeypatch.setattr(Axes, "set_yticks", lambda self, rows, names: named.extend(names))
    [figures] = found.segments["town"].values()
    labels = {"a very long name of a town": figures, "$a$": figures}
    draw_evaluation(replace(found, segments={"town": labels}), "model m")
    assert named[-2:] == [f"a very long nam… ({USERS})", rf"\$a\$ ({USERS})"]


def test_a_split_that_nobody_was_evaluated_on_has_no_figures_and_can_be_drawn():
    nobody = describe_evaluation(measure(np.zeros(0, np.int64)), ["model", "popular"], SPLITS, KS)
    assert nobody.users == {"valid": 0, "test": 0}
    nothing: Any = {"valid": {}, "test": {}}
    for figures in (nobody.metrics, nobody.intervals):
        assert figures == {"model": nothing, "popular": nothing}
    assert nobody.differences == {"popular": nothing}
    assert nobody.lists == {}
    assert draw_evaluation(nobody, "model m").startswith(b"\x89PNG")


def test_figures_show_themselves_as_a_line_for_each_split_and_scorer():
    figures = EvaluationFigures(
        metrics={
            "model": {"valid": {"hit@10": 0.5}, "test": {"hit@10": 0.25, "recall@10": 0.25}},
            "popular": {"test": {"hit@10": 0.125}},
        },
        users={"valid": 9, "test": 1000},
    )
    assert repr(figures).splitlines() == [
        "EvaluationFigures",
        "valid, 9 users, model: hit@10 0.5000",
        "test, 1,000 users, model: hit@10 0.2500",
        "test, 1,000 users, popular: hit@10 0.1250",
    ]
