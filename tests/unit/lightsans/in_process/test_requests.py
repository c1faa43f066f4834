"""Requests to a `Recommender` are checked before anything is made of them."""

from typing import Any

import numpy as np
import pytest

from lightsans.errors import ConfigError
from lightsans.in_process.requests import require_length


@pytest.mark.parametrize("k", [5.0, np.float64(5), "5", None, True])
def test_the_length_of_a_list_is_a_whole_number(k: Any):
    with pytest.raises(ConfigError, match=r"recommend\(k=.*\): expected a whole number"):
        require_length(k, "recommend")


@pytest.mark.parametrize("k", [5, np.int64(5)])
def test_numbers_of_numpy_are_lengths(k: Any):
    require_length(k, "recommend")
