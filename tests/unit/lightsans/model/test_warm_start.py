import dataclasses
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from lightsans.config import ModelConfig
from lightsans.config.marks import Mark, field_marks
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs
from lightsans.model.warm_start import ITEM_TABLE, warm_weights
from tests.models import small_config

CONFIG = small_config(n_layers=1, k_interests=2)


def test_old_items_keep_their_vectors_and_new_ones_begin_anew():
    source = LightSANs(CONFIG, 3)
    mapping = np.array([0, 3, 0, 1, 0], np.int32)  # items 2 and 4 are new, the source's 2 is gone
    weights = warm_weights(source, CONFIG, 4, mapping, seed=1, name="m")
    table, old = weights[ITEM_TABLE], source.item_table()
    assert torch.equal(table[[1, 3]], old[[3, 1]])
    assert not table[0].any()
    for new in (2, 4):
        assert 0 < table[new].std() < 4 * CONFIG.initializer_range
    for name, value in source.state_dict().items():
        if name != ITEM_TABLE:
            assert torch.equal(weights[name], value), name
    again = warm_weights(source, CONFIG, 4, mapping, seed=1, name="m")
    assert torch.equal(again[ITEM_TABLE], table)


def test_an_equal_vocabulary_gives_an_equal_model():
    source = LightSANs(CONFIG, 3)
    weights = warm_weights(source, CONFIG, 3, None, seed=1, name="m")
    assert all(torch.equal(weights[name], value) for name, value in source.state_dict().items())


OTHER_PARTS = [
    ("interest_decay", "position"),
    ("interest_decay", "time"),
    ("positions", "relative"),
    ("positions", "fading"),
    ("position_scaling", "once"),
    ("position_scaling", "learned"),
    ("norm", "rms"),
    ("norm_placement", "pre"),
    ("gate", "residual"),
    ("gate", "pointwise"),
    ("scores", "cosine"),
    ("gaps", "input"),
    ("gaps", "request"),
]


@pytest.mark.parametrize(("name", "value"), OTHER_PARTS)
def test_models_of_other_parts_are_refused_with_the_settings(name, value):
    other = small_config(n_layers=1, k_interests=2, **{name: value})
    with pytest.raises(ConfigError, match=rf"model\.{name}=\w+, this configuration has {value}"):
        warm_weights(LightSANs(CONFIG, 3), other, 3, None, seed=1, name="models/a")
    with pytest.raises(ConfigError, match=rf"model\.{name}={value}, this configuration has"):
        warm_weights(LightSANs(other, 3), CONFIG, 3, None, seed=1, name="models/a")


def shapes(config):
    return {name: weight.shape for name, weight in LightSANs(config, 3).state_dict().items()}


@pytest.mark.parametrize("field", dataclasses.fields(ModelConfig), ids=lambda field: field.name)
def test_every_setting_that_changes_which_weights_there_are_is_marked_so(field):
    before = CONFIG if field.name != "temperature" else replace(CONFIG, scores="cosine")
    value, others = getattr(before, field.name), get_args(get_type_hints(ModelConfig)[field.name])
    for other in others or ([2 * value or 0.5] if not isinstance(value, str) else []):
        try:
            changes: Any = {field.name: other}
            now = replace(before, **changes)
        except ConfigError:  # the two do not go together
            continue
        if shapes(now) != shapes(before):
            assert Mark.WEIGHTS in field_marks(field), other


def test_models_of_another_shape_are_refused_with_the_settings():
    other = small_config(hidden_size=16, n_layers=1, k_interests=2)
    with pytest.raises(ConfigError, match=r"model\.hidden_size=8, this configuration has 16"):
        warm_weights(LightSANs(CONFIG, 3), other, 3, None, seed=1, name="models/a")
