"""Settings as keyword arguments."""

import numpy as np
import pandas as pd
import pytest

from lightsans import ConfigError
from lightsans.in_process.settings import config_of


def test_a_section_a_dotted_name_and_a_last_name_say_the_same():
    expected = config_of({"model": {"k_interests": 7}, "data": {"columns": {"user": "who"}}})
    assert expected.model.k_interests == 7
    assert config_of({"k_interests": np.int64(7), "user": "who"}) == expected
    assert config_of({"k_interests": np.array(7), "user": "who"}) == expected
    assert config_of({"model.k_interests": 7, "data.columns.user": "who"}) == expected


def test_a_name_of_several_settings_is_the_one_that_decides_the_result():
    made = config_of({"batch_size": 64})
    assert (made.train.batch_size, made.score.batch_size) == (64, 1024)


def test_lists_are_lists_and_num_layers_is_n_layers():
    made = config_of({"ks": (5, 10), "model": {"num_layers": 3}})
    assert made.evaluate.ks == (5, 10)
    assert made.model.n_layers == 3
    assert config_of({"num_layers": 3}).model.n_layers == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k_interest": 3}, r"unknown setting k_interest in Recommender\(...\)"),
        ({"model": {"k_interest": 3}}, "did you mean model.k_interests?"),
        ({"k_interests": "many"}, "expected an integer"),
        ({"remove_seen": True}, "evaluate.remove_seen and score.remove_seen; say which: evaluate="),
        ({"use_gpu": True}, "train.use_gpu and score.use_gpu; say which: train={'use_gpu': True}"),
        ({"k_interests": 3, "model": {"k_interests": 4}}, "gives model.k_interests twice"),
        ({"model": 3}, "model is 3; expected a dict of"),
        ({"score": {"rules": {"diversity": 0.3}}}, "rules.diversity is 0.3; expected a dict of"),
        ({"score": {"users": "u.txt"}}, r"takes no score.users: recommend\(users=...\) is given"),
        ({"input": "x.csv"}, r"takes no data.input: fit\(\) is given the interactions"),
        ({"hidden_size": 15}, "model.hidden_size=15"),
        ({"deny_items": pd.Series([7])}, r"deny_items is a pandas\S*Series; expected text"),
        ({"exclude_users": {7, 9}}, "exclude_users is a builtins.set; expected text"),
        ({"data": {"exclude_users": [7, 9]}}, "data.exclude_users is .*; expected text or null"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        config_of(settings)
