"""Spaces that a search may try: names, kinds, RecBole's files, and which combinations are valid."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from lightsans.config import ModelConfig, RunConfig
from lightsans.errors import ConfigError
from lightsans.search.space import build_space, find_name, parse_space

HYPER_TEST = """\
learning_rate choice [0.01,0.005,0.001,0.0005,0.0001]
num_layers choice [1,2,3]

# RecBole ignores what is too short; a comment says more
k_interests choice [10,15,20]
"""


PAGE = (Path(__file__).parents[4] / "docs/tune.md").read_text(encoding="utf-8")


def test_the_examples_of_the_documentation_are_spaces():
    [recbole] = re.findall(r"^```text\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    [yaml] = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(parse_space(recbole, "hyper.test")) == 3
    assert len(parse_space(yaml, "space.yaml")) == 3


def test_recboles_file_is_read_as_it_is():
    assert parse_space(HYPER_TEST, "hyper.test") == {
        "train.learning_rate": {"choice": [0.01, 0.005, 0.001, 0.0005, 0.0001]},
        "model.n_layers": {"choice": [1, 2, 3]},
        "model.k_interests": {"choice": [10, 15, 20]},
    }


def test_recboles_ranges_have_recboles_meaning():
    """hyperopt: loguniform(a, b) is exp(uniform(a, b)); quniform rounds to multiples of q."""
    space = parse_space(
        "learning_rate loguniform -8,-4\n"
        "hidden_dropout_prob uniform 0.1, 0.5\n"
        "train_batch_size quniform 32,128,32\n"
        "hidden_act choice ['gelu', 'relu']\n",
        "hyper.test",
    )
    low, high = space["train.learning_rate"]["loguniform"]
    assert (math.log(low), math.log(high)) == pytest.approx((-8, -4))
    assert space["model.hidden_dropout_prob"] == {"uniform": [0.1, 0.5]}
    assert space["train.batch_size"] == {"quniform": [32, 128, 32]}
    assert space["model.hidden_act"] == {"choice": ["gelu", "relu"]}


def test_yaml_has_the_bounds_themselves():
    text = "train.learning_rate: {loguniform: [1e-4, 1e-2]}\nk_interests: [5, 10]\n"
    assert parse_space(text, "space.yaml") == {
        "train.learning_rate": {"loguniform": [1e-4, 1e-2]},
        "model.k_interests": {"choice": [5, 10]},
    }


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("k_interest choice [5]", "hyper.test", r"unknown setting k_interest; did you mean k_int"),
        (
            "learning_rate chioce [1]",
            "hyper.test",
            r"hyper.test, line 1: .*expected a setting, one",
        ),
        ("learning_rate uniform 0.1", "hyper.test", r"uniform needs low, high, found \[0.1\]"),
        ("k_interests choice 5", "hyper.test", r"line 1: choice needs a list of values, found '5'"),
        ("k_interests choice __import__('os')", "hyper.test", r"line 1: choice needs a list"),
        ("k_interests uniform 1,5", "hyper.test", r"k_interests is a whole number; use choice"),
        ("k_interests choice [5, 'x']", "hyper.test", r"k_interests is 'x' .*expected an integer"),
        ("k_interests choice [5, 5]", "hyper.test", r"a value is given twice"),
        ("learning_rate uniform 0.1,0.01", "hyper.test", r"low is not below high"),
        ("learning_rate uniform 0.1,1e999", "hyper.test", r"give finite numbers"),
        ("learning_rate: {loguniform: [.nan, 1.0]}", "space.yaml", r"give finite numbers"),
        ("learning_rate: {quniform: [0, 1, .inf]}", "space.yaml", r"give finite numbers"),
        ("learning_rate loguniform 1000,2000", "hyper.test", r"are natural logarithms here"),
        ("learning_rate loguniform 0.001,0.01", "hyper.test", r"write -6.908,-4.605"),
        ("num_layers choice [1]\nn_layers choice [2]", "hyper.test", r"gives model.n_layers twice"),
        ("data.min_rating choice [1]", "hyper.test", r"min_rating cannot be searched; settings"),
        ("epochs choice [5]", "hyper.test", r"epochs cannot be searched; settings of model can"),
        ("k_interests: {choose: [5]}", "space.yaml", r"expected one of choice, uniform"),
        ("- 5", "space.yaml", r"space.yaml holds no settings"),
        ("", "hyper.test", r"hyper.test is empty; give a file with --space"),
    ],
)
def test_a_mistake_names_the_place_and_the_way_out(text, name, message):
    with pytest.raises(ConfigError, match=message):
        parse_space(text, name)


def test_a_list_is_no_space():
    with pytest.raises(ConfigError, match=r"tune.space is \[1\]; expected settings with their"):
        build_space([1], RunConfig(), "tune.space")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("num_layers", "model.n_layers"),
        ("model.num_layers", "model.n_layers"),
        ("n_layers", "model.n_layers"),
        ("learning_rate", "train.learning_rate"),
        ("train_batch_size", "train.batch_size"),
        ("MAX_ITEM_LIST_LENGTH", "model.max_seq_len"),
        ("train.window_stride", "train.window_stride"),
    ],
)
def test_recboles_names_bare_and_dotted_ones_are_understood(written, name):
    assert find_name(written, "hyper.test") == name


def test_heads_that_do_not_divide_the_width_are_never_part_of_a_search():
    space = build_space({"hidden_size": [16, 24], "n_heads": [2, 3, 5]}, RunConfig(), "tune.space")
    drawn = [space.key(values) for values in space.combinations() or ()]
    assert drawn == [(16, 2), (24, 2), (24, 3)]
    assert space.size == 6


def test_a_space_without_a_valid_combination_says_why():
    space = build_space({"n_heads": [3, 5]}, RunConfig(), "tune.space")
    with pytest.raises(ConfigError, match=r"hidden_size=64 is not divisible by model.n_heads=3"):
        space.combinations()


def test_values_become_a_configuration_and_nothing_else_changes():
    space = build_space({"k_interests": [7], "learning_rate": [1]}, RunConfig(), "tune.space")
    [values] = space.combinations() or []
    run = space.configure(values)
    assert run.model == ModelConfig(k_interests=7)
    assert run.train.learning_rate == 1.0
    assert isinstance(run.train.learning_rate, float)
    assert run.data == RunConfig().data


def test_draws_stay_in_their_ranges_and_steps():
    space = build_space(
        {
            "learning_rate": {"loguniform": [1e-4, 1e-2]},
            "hidden_dropout_prob": {"quniform": [0.1, 0.5, 0.1]},
            "inner_size": {"quniform": [64, 256, 64]},
            "attn_dropout_prob": {"uniform": [0.2, 0.3]},
        },
        RunConfig(),
        "tune.space",
    )
    rng = np.random.default_rng(0)
    drawn = [[d.draw(rng) for d in space.dimensions] for _ in range(500)]
    rates, dropouts, widths, others = zip(*drawn, strict=True)
    assert 1e-4 <= min(rates) <= 2e-4 < 5e-3 <= max(rates) <= 1e-2
    assert np.mean(np.array(rates) < 1e-3) == pytest.approx(0.5, abs=0.1)  # half of the decades
    assert set(dropouts) == {0.1, 0.2, 0.3, 0.4, 0.5}
    assert set(widths) == {64, 128, 192, 256}
    assert all(isinstance(width, int) for width in widths)
    assert 0.2 <= min(others) <= max(others) <= 0.3
    assert [d.options for d in space.dimensions] == [
        None, (0.1, 0.2, 0.3, 0.4, 0.5), (64, 128, 192, 256), None
    ]  # fmt: skip


def test_a_range_of_fine_steps_is_counted_without_listing_it():
    space = build_space({"learning_rate": {"quniform": [0, 1, 1e-12]}}, RunConfig(), "a space")
    assert space.size == 10**12 + 1
    assert space.combinations() is None
