"""Weights to and from RecBole's LightSANs, which is our ``reference`` attention under other names.

Source: RecBole 1.2.1, recbole/model/sequential_recommender/lightsans.py and model/layers.py.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, get_args, get_type_hints

from torch import Tensor

from lightsans.config import ModelConfig
from lightsans.config.kinds import ATTENTION, LOSSES
from lightsans.errors import ConfigError
from lightsans.model.network import LightSANs

_TOP: Final = {
    "item_embedding": "item_embedding",
    "position_embedding": "position_embedding",
    "LayerNorm": "item_norm",
}
_IN_LAYER: Final = {
    "multi_head_attention.query": "attention.query",
    "multi_head_attention.key": "attention.key",
    "multi_head_attention.value": "attention.value",
    "multi_head_attention.attpooling_key.theta": "attention.key_theta",
    "multi_head_attention.attpooling_value.theta": "attention.value_theta",
    "multi_head_attention.pos_q_linear": "attention.position_query",
    "multi_head_attention.pos_k_linear": "attention.position_key",
    "multi_head_attention.pos_ln": "attention.position_norm",
    "multi_head_attention.dense": "attention.output",
    "multi_head_attention.LayerNorm": "attention_norm",
    "feed_forward.dense_1": "inner",
    "feed_forward.dense_2": "outer",
    "feed_forward.LayerNorm": "feed_forward_norm",
}
_SETTINGS: Final = (
    "n_heads",
    "hidden_dropout_prob",
    "attn_dropout_prob",
    "hidden_act",
    "layer_norm_eps",
    "initializer_range",
    "loss_type",
)
"""Settings that the weights do not show; RecBole's defaults are ours."""


def from_recbole(state_dict: Mapping[str, Tensor], **recbole_settings: Any) -> LightSANs:
    """A RecBole model as a `LightSANs` with ``attention="reference"``, in evaluation mode.

    Args:
        state_dict: RecBole's weights; copied.
        **recbole_settings: Its configuration. Sizes come from the weights and are checked against
            these; what weights cannot show is taken from here (``n_heads``, ``hidden_act``,
            dropout, ``loss_type``, ``layer_norm_eps``) or has RecBole's default. Settings that do
            not concern the model are ignored.

    Raises:
        ConfigError: The weights are not RecBole's LightSANs, or contradict the settings.
    """
    sizes = _sizes(state_dict)
    _check_settings(sizes, recbole_settings)
    chosen: dict[str, Any] = {k: v for k, v in recbole_settings.items() if k in _SETTINGS}
    _check_types(chosen)
    chosen |= {name: size for name, size in sizes.items() if name != "n_items"}
    chosen["max_seq_len"] = chosen.pop("MAX_ITEM_LIST_LENGTH")
    model = LightSANs(ModelConfig(attention="reference", **chosen), sizes["n_items"] - 1)
    names = _names(model)
    missing, unknown = names.keys() - state_dict.keys(), state_dict.keys() - names.keys()
    if missing or unknown:
        raise ConfigError(
            f"not the weights of RecBole's LightSANs: missing {sorted(missing)}, unknown "
            f"{sorted(unknown)}; give the 'state_dict' of its checkpoint"
        )
    own = model.state_dict()
    for theirs, ours in names.items():
        found, expected = tuple(state_dict[theirs].shape), tuple(own[ours].shape)
        if found != expected:
            raise ConfigError(
                f"RecBole's {theirs} has shape {found}, expected {expected} by the other weights; "
                "give the 'state_dict' of one run, as RecBole saved it"
            )
    model.load_state_dict({ours: state_dict[theirs] for theirs, ours in names.items()})
    return model.eval()


def to_recbole(model: LightSANs) -> dict[str, Tensor]:
    """The weights under RecBole's names: what its ``load_state_dict`` takes.

    Raises:
        ConfigError: The model is of another kind: RecBole would compute other scores with it.
    """
    if not ATTENTION[model.config.attention].is_recbole:
        raise ConfigError(
            f"a model with attention={model.config.attention!r} gives other scores in RecBole; "
            "train one with attention: reference to export it"
        )
    weights = model.state_dict()
    names = _names(model)
    return {theirs: weights[ours].clone() for theirs, ours in names.items()}


def recbole_settings(model: LightSANs) -> dict[str, Any]:
    """RecBole's settings that fit `to_recbole`'s weights, dropout and loss included."""
    config = model.config
    sizes = {"MAX_ITEM_LIST_LENGTH": config.max_seq_len, "n_items": model.num_items + 1}
    names = ("n_layers", "k_interests", "hidden_size", "inner_size", *_SETTINGS)
    settings = {name: getattr(config, name) for name in names}
    if config.loss_type == "auto" or not LOSSES[config.loss_type].in_recbole:
        settings["loss_type"] = "CE"
    return {"model": "LightSANs", **sizes, **settings}


def _names(model: LightSANs) -> dict[str, str]:
    """RecBole's name -> ours, for every parameter."""
    prefixes = dict(_TOP)
    for i in range(model.config.n_layers):
        for theirs, ours in _IN_LAYER.items():
            prefixes[f"trm_encoder.layer.{i}.{theirs}"] = f"layers.{i}.{ours}"
    ours_to_theirs = {ours: theirs for theirs, ours in prefixes.items()}
    names = {}
    for name in model.state_dict():
        prefix, _, leaf = name.rpartition(".")
        theirs = ours_to_theirs.get(name) or f"{ours_to_theirs[prefix]}.{leaf}"
        names[theirs] = name
    return names


def _sizes(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes that follow from the shapes of the weights, under RecBole's names."""
    layer = "trm_encoder.layer"
    n_items, hidden_size = _matrix_shape(state_dict, "item_embedding.weight")
    theta = f"{layer}.0.multi_head_attention.attpooling_key.theta"
    inner = f"{layer}.0.feed_forward.dense_1.weight"
    layers = (re.match(rf"{re.escape(layer)}\.(\d+)\.", name) for name in state_dict)
    return {
        "n_items": n_items,
        "hidden_size": hidden_size,
        "MAX_ITEM_LIST_LENGTH": _matrix_shape(state_dict, "position_embedding.weight")[0],
        "k_interests": _matrix_shape(state_dict, theta)[1],
        "inner_size": _matrix_shape(state_dict, inner)[0],
        "n_layers": len({found[1] for found in layers if found}),
    }


def _matrix_shape(state_dict: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in state_dict:
        raise ConfigError(
            f"not the weights of RecBole's LightSANs: {name!r} is missing, found "
            f"{sorted(state_dict)[:3]}...; give the 'state_dict' of its checkpoint"
        )
    shape = tuple(state_dict[name].shape)
    if len(shape) != 2:
        raise ConfigError(
            f"not the weights of RecBole's LightSANs: {name} has shape {shape}, expected two "
            "dimensions; give the 'state_dict' of its checkpoint"
        )
    return shape[0], shape[1]


def _check_types(settings: Mapping[str, Any]) -> None:
    """Check names and types as the configuration's reader does, which needs more packages."""
    types = get_type_hints(ModelConfig)
    for name, value in settings.items():
        choices = get_args(types[name])
        if choices:
            is_right, expected = value in choices, f"one of {', '.join(choices)}"
        elif types[name] is int:
            is_right, expected = type(value) is int, "a whole number"
        else:
            is_right, expected = type(value) in (int, float), "a number"
        if not is_right:
            raise ConfigError(
                f"RecBole's {name}={value!r} is not supported; expected {expected}. Give the "
                "settings with which the model was trained"
            )


def _check_settings(sizes: dict[str, int], settings: Mapping[str, Any]) -> None:
    for name, size in sizes.items():
        if name in settings and settings[name] != size:
            raise ConfigError(
                f"RecBole's {name}={settings[name]} contradicts the weights, which have {size}; "
                "give the settings of the same run, or leave this one out"
            )
