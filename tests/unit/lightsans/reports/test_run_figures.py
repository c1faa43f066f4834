from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lightsans.config import ScoreConfig
from lightsans.dataset.vocabulary import Vocabulary
from lightsans.errors import ConfigError
from lightsans.reports.run_figures import (
    FIGURES,
    ReportedFigures,
    RunReport,
    bin_edges,
    describe,
    find_warnings,
    measure,
    no_totals,
    require_known_figures,
    score_bins,
)
from lightsans.storage.records import from_json, to_json
from lightsans.storage.schemas import recommendations_schema

SCHEMA = recommendations_schema(pa.string(), pa.string())
ITEMS = Vocabulary(pa.array(["a", "b", "c", "d"]), np.array([8, 4, 2, 1]))
ALL = np.ones(4, bool)


def table(*rows) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([list(column) for column in columns], names=SCHEMA.names).cast(SCHEMA)


RUN = table(
    ("ann", ["a", "b"], [2.0, 1.0], "model"),
    ("bob", ["b", "x"], [4.0, 3.0], "model"),  # x is not in the dataset
    ("cid", [], [], "model"),
    ("dot", ["a"], [8.0], "popular"),
)
BEFORE = table(
    ("dot", ["b"], [8.0], "popular"),
    ("eve", ["a"], [1.0], "model"),
    ("ann", ["b", "c", "a", "d"], [4.0, 3.0, 2.0, 1.0], "model"),
)


def test_figures_of_a_small_run():
    report = describe(measure(RUN, BEFORE, ITEMS), ITEMS, ALL, None)
    figures = report.figures
    assert figures["users"] == 4
    assert figures["fallback_share"] == 1 / 4
    assert figures["mean_list_length"] == 5 / 4
    assert figures["coverage"] == 2 / 4
    assert figures["never_recommended_share"] == 2 / 4
    assert figures["top_1_percent_share"] == 2 / 5, "one item of four: a, in two of five places"
    assert figures["overlap"] == pytest.approx((2 / 4 + 0) / 2), "ann two of four, dot none"
    assert report.compared_users == 2
    assert report.empty_lists == 1
    assert report.scores["best"]["0.99"] == pytest.approx(4, rel=0.04)
    assert report.scores["all"]["0.01"] == pytest.approx(1, rel=0.04)


def test_totals_of_pieces_add_up_to_those_of_the_whole():
    pieces = (measure(RUN.slice(first, 1), BEFORE, ITEMS) for first in range(4))
    summed = sum(pieces, no_totals(4))
    whole = measure(RUN, BEFORE, ITEMS)
    assert describe(summed, ITEMS, ALL, None) == describe(whole, ITEMS, ALL, None)


def test_only_eligible_items_can_be_missed():
    eligible = np.array([True, True, True, False])
    report = describe(measure(RUN, BEFORE, ITEMS), ITEMS, eligible, None)
    assert report.figures["never_recommended_share"] == 1 / 3


def test_changes_are_relative_to_the_run_before():
    before = {"users": 8.0, "coverage": 0.0, "mean_list_length": None}
    figures = describe(measure(RUN, BEFORE, ITEMS), ITEMS, ALL, before).figures
    assert figures["users_change"] == -0.5
    assert figures["coverage_change"] is None
    assert figures["mean_list_length_change"] is None


def test_a_run_of_nobody_has_no_shares():
    figures = describe(no_totals(4), ITEMS, ALL, None).figures
    assert figures["fallback_share"] is None
    assert figures["median_best_score"] is None
    assert figures["coverage"] == 0


def test_a_report_is_one_object_whose_figures_are_read_whatever_else_it_has():
    described = describe(measure(RUN, BEFORE, ITEMS), ITEMS, ALL, None)
    content = to_json(RunReport(run_id="r", previous_run=None, described=described))
    assert list(content)[:4] == ["run_id", "previous_run", "figures", "popular_users"]
    assert content["previous_run"] is None
    assert content["warnings"] == []
    earlier = {"figures": content["figures"], "colour": "green"}
    assert from_json(ReportedFigures, earlier, "report.json").figures == described.figures


def test_warnings_name_the_figure_its_value_and_the_bound():
    figures = {"coverage": 0.04, "fallback_share": 0.3, "overlap": None, "users": 10.0}
    found = find_warnings(
        figures, {"coverage": 0.05, "overlap": 0.5}, {"fallback_share": 0.2, "users": 10}
    )
    assert found == [
        "fallback_share is 0.3, more than score.warn_above (0.2)",
        "coverage is 0.04, less than score.warn_below (0.05)",
    ]


@pytest.mark.parametrize("setting", ["warn_below", "warn_above"])
def test_bounds_name_figures_of_a_run(setting):
    known: Any = {setting: dict.fromkeys(FIGURES, 0.1)}
    unknown: Any = {setting: {"covrage": 0.1}}
    require_known_figures(ScoreConfig(**known))
    with pytest.raises(ConfigError, match=rf"score\.{setting} names covrage; expected users, "):
        require_known_figures(ScoreConfig(**unknown))


def test_every_figure_that_can_be_bounded_is_in_the_report():
    before = describe(measure(RUN, BEFORE, ITEMS), ITEMS, ALL, None).figures
    report = describe(measure(RUN, BEFORE, ITEMS), ITEMS, ALL, before)
    assert set(report.figures) == set(FIGURES)


def test_every_score_is_in_a_bin_that_holds_it():
    scores = np.array([-1e30, -5, -0.01, -0.0, 0, 1e-40, 0.5, 1, 3.7, 3e38], np.float32)
    edges = bin_edges()
    assert (np.diff(edges) >= 0).all()
    for score in scores:
        (index,) = np.flatnonzero(score_bins(np.array([score])))
        assert edges[index] <= score <= edges[index + 1]
        assert edges[index + 1] - edges[index] <= max(0.0321 * abs(score), 1e-37)
