"""OpenAI's sparse_autoencoder: one `.pt` file that holds the weights and the name of the activation.

Written from the published formula, since the package is not on PyPI. TopK means that rows are normalised first (mean 0,
standard deviation 1); nothing in the file says so, or where it was trained.
"""

from pathlib import Path
from typing import Any

import torch

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries.activations import Activation, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import weights

WEIGHTS = "autoencoder.pt"
MARK = "pre_bias"  # a tensor that no other library's files hold
_TENSORS = {"pre_bias", "latent_bias", "encoder.weight", "decoder.weight"}
_STATISTICS = {"stats_last_nonzero", "latents_activation_frequency", "latents_mean_square"}
_OTHER = ("activation", "activation_state_dict")


def from_state(state: dict[str, Any], source: Path) -> Dictionary:
    """The dictionary of an opened file."""
    named, inside = state.get("activation", "ReLU"), state.get("activation_state_dict") or {}
    tensors = {name: value for name, value in state.items() if name not in _OTHER}
    t = weights.checked(tensors, _TENSORS, _STATISTICS, source)
    if named not in ("ReLU", "TopK"):
        raise unknown("activation of an OpenAI dictionary", str(named), ("ReLU", "TopK"))
    if named == "TopK" and inside.get("postact_fn") != "ReLU":
        raise UserError(f"dictionary {source}: a TopK without ReLU ({inside.get('postact_fn')!r}) is not read")
    rule: Activation = TopKRule(weights.count(inside, "k", source)) if named == "TopK" else ReluRule()
    t |= {"W_enc": t["encoder.weight"].T, "W_dec": t["decoder.weight"].T}
    t |= {"b_enc": t["latent_bias"], "b_dec": t["pre_bias"]}
    info = {"source": "OpenAI", "model": None, "site": None}
    return weights.build(t, rule, source, info, normalise="layer_norm" if named == "TopK" else "none")


def to_state(dictionary: Dictionary) -> dict[str, Any]:
    """Content for the file; its statistics of firing start anew."""
    d, rule = dictionary.to("cpu"), dictionary.activation
    normalised = {TopKRule: "layer_norm", ReluRule: "none"}.get(type(rule))
    if normalised != d.normalise or d.is_transcoder or d.refit:
        raise weights.cannot("OpenAI's format", "anything but TopK on rows under layer_norm or ReLU on plain rows")
    d = weights.with_subtraction(d)
    named = {"activation": "ReLU", "activation_state_dict": {}}
    if isinstance(rule, TopKRule):
        named = {"activation": "TopK", "activation_state_dict": {"k": rule.k, "postact_fn": "ReLU"}}
    tensors = {
        "pre_bias": d.b_dec,
        "latent_bias": d.b_enc,
        "stats_last_nonzero": torch.zeros(d.width, dtype=torch.long),
        "latents_activation_frequency": torch.ones(d.width),
        "latents_mean_square": torch.zeros(d.width),
        "encoder.weight": d.W_enc.contiguous(),
        "decoder.weight": d.W_dec.T.contiguous(),
    }
    return tensors | named
