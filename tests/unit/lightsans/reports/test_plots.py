"""Pictures: whole titles, one look, histograms without the teeth of two grids."""

import itertools

import matplotlib
import numpy as np
import pyarrow as pa
import pytest

from lightsans.dataset.vocabulary import Vocabulary
from lightsans.reports import plots
from lightsans.reports.run_figures import (
    RunTotals,
    describe,
    no_totals,
    score_bins,
    score_histograms,
)

ITEMS = Vocabulary(
    pa.array([str(number) for number in range(2000)]), np.arange(2_000_000, 0, -1000)
)


def totals_of(scores) -> RunTotals:
    numbers = np.asarray(scores, np.float32)
    users = np.asarray(len(numbers))
    counts = np.arange(ITEMS.num_items + 1) * 1000
    zero = np.asarray(0)
    return RunTotals(
        users, zero, zero, counts, score_bins(numbers), score_bins(numbers), users, users * 0.5
    )


@pytest.fixture
def figures(monkeypatch):
    """The figures behind the pictures that a test draws."""
    made, make = [], plots.make_figure

    def remember(*arguments, **settings):
        made.append(make(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(plots, "make_figure", remember)
    return made


def require_whole_texts(figure):
    """No text leaves the picture, and no title its panel."""
    with matplotlib.rc_context(plots.LOOK):
        figure.draw_without_rendering()
        whole = [axes.get_tightbbox() for axes in figure.axes]  # titles, labels, what ticks show
        for box in [*whole, *(text.get_window_extent() for text in figure.texts)]:
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.width
            assert box.y1 <= figure.bbox.height
        for left, right in itertools.pairwise(whole):
            assert left.x1 <= right.x0, "a panel reaches into the next one"


def test_no_text_of_a_run_is_cut_off(figures):
    totals = totals_of(np.linspace(-1000, 1000, 500))
    content = describe(totals, ITEMS, np.ones(ITEMS.num_items, bool), None)
    png = plots.draw_run("run-0123456789abcdef", content, totals)
    assert png.startswith(b"\x89PNG")
    require_whole_texts(figures[0])
    titles = [axes.get_title(loc="left") for axes in figures[0].axes]
    assert titles == [
        "Recommendations by popularity",
        "Scores of the model",
        "How often items are recommended",
    ]


def test_a_run_of_nobody_can_be_drawn(figures):
    totals = no_totals(ITEMS.num_items)
    content = describe(totals, ITEMS, np.ones(ITEMS.num_items, bool), None)
    plots.draw_run("run-0", content, totals)
    require_whole_texts(figures[0])


def test_no_text_of_a_search_is_cut_off(figures):
    plots.draw_history([(1, 0.1, "finished"), (2, 0.05, "stopped"), (3, 0.2, "running")], "ndcg@10")
    plots.draw_importance({"train.learning_rate": 0.75, "model.hidden_dropout_prob": 0.25}, "hit@1")
    for figure in figures:
        require_whole_texts(figure)


def test_even_scores_are_drawn_even():
    """Bins of a quarter, drawn on a finer grid, were empty and twice as high in turn."""
    even = score_bins(np.linspace(8, 12, 100_000, endpoint=False).astype(np.float32))
    edges, (density,) = score_histograms(even)
    assert len(density) >= 10
    np.testing.assert_allclose(density, 1 / 4, rtol=0.02)
    assert (np.diff(edges) * density).sum() == pytest.approx(1, abs=0.02)


def test_histograms_share_their_edges_and_show_the_range_of_both():
    best = score_bins(np.linspace(30, 40, 1000).astype(np.float32))
    everything = score_bins(np.linspace(-5, 40, 9000).astype(np.float32))
    edges, densities = score_histograms(best, everything)
    assert edges[0] < -4.5
    assert edges[-1] > 39.5
    assert [len(density) for density in densities] == [len(edges) - 1] * 2
    assert densities[0][edges[:-1] < 28].sum() == 0


@pytest.mark.parametrize("scores", [[], [0.0], [-0.0, 0.0], [5.0] * 10])
def test_few_scores_have_finite_histograms(scores):
    edges, (density,) = score_histograms(score_bins(np.array(scores, np.float32)))
    assert len(density) == len(edges) - 1
    assert np.isfinite(density).all()
