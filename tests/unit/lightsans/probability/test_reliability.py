"""Promised probabilities against what happened, by hand."""

import numpy as np
import pytest

from lightsans.probability.reliability import Bin, measure_reliability


def test_bins_compare_what_was_promised_with_what_came():
    probabilities = np.array([0.2, 0.25, 0.05, 0.3, 1e-6])
    found = measure_reliability(probabilities, np.array([True, False, False, True, False]))
    assert (found.pairs, found.hits) == (5, 2)
    assert found.expected_hits == pytest.approx(0.800001)
    small, middle, large = found.bins
    assert small == Bin(above=0.0, up_to=1e-5, pairs=1, probability=1e-6, hit_share=0.0)
    assert (middle.above, middle.up_to, middle.pairs) == (0.03, 0.1, 1)
    assert (large.above, large.up_to, large.pairs) == (0.1, 0.3, 3)
    assert large.probability == pytest.approx(0.25)
    assert large.hit_share == pytest.approx(2 / 3)
    assert found.calibration_error == pytest.approx((1e-6 + 0.05 + (2 - 0.75)) / 5)


def test_nobody_asked_is_no_error():
    found = measure_reliability(np.zeros(0), np.zeros(0, bool))
    assert (found.pairs, found.calibration_error, found.bins) == (0, 0.0, ())
