import numpy as np
import pytest

from lightsans.ranking.concentration import gini


def test_gini_of_equal_and_of_extreme_counts():
    assert gini(np.array([2, 2, 2, 2])) == pytest.approx(0)
    assert gini(np.array([0, 8, 0, 0])) == pytest.approx(3 / 4)
    assert gini(np.zeros(3, int)) == 0
