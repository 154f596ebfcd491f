"""dictionary_learning: `ae.pt` with `config.json`, told apart by the class that the configuration names.

TopK and BatchTopK hold the same tensors and compute different latents. JumpReLU does not subtract b_dec from its input,
all others but AutoEncoderNew do. Its own loader rescales the rows of AutoEncoder to norm 1 when it opens the file; here
latents are what the saved weights give.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries.activations import Activation, GatedRule, JumpReluRule, ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import weights
from theodolite.dictionaries.formats.sparsify import site_of
from theodolite.dictionaries.formats.weights import Tensors

SOURCE, WEIGHTS = "dictionary_learning", "ae.pt"
_LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight"}
_PLAIN = {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}
TENSORS = {
    "AutoEncoder": _LINEAR | {"bias"},
    "AutoEncoderNew": _LINEAR | {"decoder.bias"},
    "GatedAutoEncoder": {"encoder.weight", "decoder.weight", "decoder_bias", "r_mag", "gate_bias", "mag_bias"},
    "AutoEncoderTopK": _LINEAR | {"b_dec", "k"},
    "BatchTopKSAE": _LINEAR | {"b_dec", "k", "threshold"},
    "JumpReluAutoEncoder": _PLAIN,
    "MatryoshkaBatchTopKSAE": _PLAIN | {"k", "group_sizes"},
}
_OPTIONAL = {"AutoEncoderTopK": {"threshold"}}  # a running threshold that its latents do not use
_BIAS = ("bias", "decoder.bias", "decoder_bias", "b_dec")


def from_state(state: Tensors, config: dict[str, Any], folder: Path) -> Dictionary:
    """The dictionary of an opened `ae.pt` and its configuration."""
    trainer = config.get("trainer") or {}
    kind = _kind(state, trainer, folder)
    t = weights.checked(dict(state), TENSORS[kind], _OPTIONAL.get(kind, set()), folder)
    if "encoder.weight" in t:
        t |= {"W_enc": t["encoder.weight"].T, "W_dec": t["decoder.weight"].T}
    t["b_dec"] = next(t[name] for name in _BIAS if name in t)
    t["b_enc"] = t["gate_bias"] if kind == "GatedAutoEncoder" else t.get("encoder.bias", t.get("b_enc"))  # type: ignore[assignment]
    weights.agree(trainer, {"activation_dim": t["W_enc"].shape[0], "dict_size": t["W_enc"].shape[1]}, folder)
    module = str(trainer.get("submodule_name") or "")
    info: dict[str, Any] = {"source": SOURCE, "model": trainer.get("lm_name"), "site": site_of(module)}
    info |= {"hook": module} if module else {}
    if kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        k = int(weights.scalar(t["k"]))
        info |= {"variant": "batchtopk" if kind == "BatchTopKSAE" else "matryoshka_batchtopk", "k": k, "l0": float(k)}
    if "group_sizes" in t:
        info["groups"] = [int(n) for n in t["group_sizes"].cumsum(0)]
    info |= {"config": config} if config else {}
    subtract = kind not in ("JumpReluAutoEncoder", "AutoEncoderNew")
    return weights.build(t, _rule(kind, t, folder), folder, info, subtract_b_dec=subtract)


def to_state(dictionary: Dictionary) -> tuple[Tensors, dict[str, Any]]:
    """Content for `ae.pt` and `config.json`; a constant threshold is written as JumpReLU's, one per latent."""
    d, rule = dictionary.to("cpu"), dictionary.activation
    if d.normalise != "none" or d.is_transcoder or d.refit:
        raise weights.cannot("dictionary_learning", "normalised rows, transcoders or magnitudes fitted anew")
    make: Callable[[Dictionary], dict[str, Tensor]]
    if _batched(d):
        kind, make = ("MatryoshkaBatchTopKSAE", _matryoshka) if d.info.get("groups") else ("BatchTopKSAE", _top_k)
    elif type(rule) in _WRITERS:
        kind, make = _WRITERS[type(rule)]
    else:
        raise weights.cannot("dictionary_learning", f"the rule {rule.name!r}")
    return {name: t.detach().contiguous() for name, t in make(d).items()}, _config(d, kind)


def _kind(state: Tensors, trainer: dict[str, Any], folder: Path) -> str:
    if named := trainer.get("dict_class"):
        if named not in TENSORS:
            raise unknown("dict_class of a dictionary_learning dictionary", str(named), TENSORS)
        return str(named)
    fitting = [k for k, names in TENSORS.items() if names <= state.keys() <= names | _OPTIONAL.get(k, set())]
    if len(fitting) != 1:
        raise UserError(
            f"dictionary {folder}: config.json must say which class it is (trainer.dict_class), its tensors fit "
            f"{' and '.join(fitting) or 'none: ' + ', '.join(sorted(state))}"
        )
    return fitting[0]


def _rule(kind: str, t: Tensors, folder: Path) -> Activation:
    if kind == "GatedAutoEncoder":
        scale = t["r_mag"].exp()
        return GatedRule(scale, t["mag_bias"] - scale * t["gate_bias"])
    if kind == "AutoEncoderTopK":
        return TopKRule(weights.count({"k": weights.scalar(t["k"])}, "k", folder))
    if "threshold" in t:
        return JumpReluRule(
            t["threshold"].expand(t["W_enc"].shape[1]).clone() if t["threshold"].ndim == 0 else t["threshold"]
        )
    return ReluRule()


def _linear(d: Dictionary) -> Tensors:
    return {"encoder.weight": d.W_enc, "encoder.bias": d.b_enc, "decoder.weight": d.W_dec.T}


def _standard(d: Dictionary) -> Tensors:
    if d.subtract_b_dec:
        return {"bias": d.b_dec, **_linear(d)}
    return _linear(d) | {"decoder.bias": d.b_dec}


def _batched(d: Dictionary) -> bool:
    """Return whether it was trained as BatchTopK: one threshold for all latents, and a known k that it stands for."""
    rule = d.activation
    one = isinstance(rule, JumpReluRule) and bool((rule.threshold == rule.threshold[0]).all())
    return one and bool(d.info.get("k"))


def _top_k(d: Dictionary) -> Tensors:
    d, rule = weights.with_subtraction(d), d.activation
    k = rule.k if isinstance(rule, TopKRule) else d.info["k"]
    threshold = rule.threshold[0] if isinstance(rule, JumpReluRule) else torch.tensor(-1.0)
    return {"b_dec": d.b_dec, "k": torch.tensor(k, dtype=torch.int32), "threshold": threshold, **_linear(d)}


def _matryoshka(d: Dictionary) -> Tensors:
    d = weights.with_subtraction(d)
    groups = torch.tensor(d.info["groups"]).diff(prepend=torch.zeros(1, dtype=torch.long))
    state = {name: tensor for name, tensor in _top_k(d).items() if name in ("b_dec", "k", "threshold")}
    return state | {"W_enc": d.W_enc.T, "b_enc": d.b_enc, "W_dec": d.W_dec, "group_sizes": groups}


def _jump_relu(d: Dictionary) -> Tensors:
    d = weights.without_subtraction(d)
    return {"W_enc": d.W_enc.T, "b_enc": d.b_enc, "W_dec": d.W_dec, "b_dec": d.b_dec, **d.activation.tensors()}


def _gated(d: Dictionary) -> Tensors:
    d = weights.with_subtraction(d)
    scale, shift = d.activation.tensors()["scale"], d.activation.tensors()["shift"]
    if not (scale > 0).all():
        raise weights.cannot("dictionary_learning", "a gated dictionary whose scales are not positive")
    gates = {"r_mag": scale.log(), "gate_bias": d.b_enc, "mag_bias": shift + scale * d.b_enc}
    return {"decoder_bias": d.b_dec, "encoder.weight": d.W_enc, "decoder.weight": d.W_dec.T, **gates}


_WRITERS: dict[type[Activation], tuple[str, Callable[[Dictionary], dict[str, Tensor]]]] = {
    ReluRule: ("AutoEncoder", _standard),
    TopKRule: ("AutoEncoderTopK", _top_k),
    JumpReluRule: ("JumpReluAutoEncoder", _jump_relu),
    GatedRule: ("GatedAutoEncoder", _gated),
}


def _config(d: Dictionary, kind: str) -> dict[str, Any]:
    if kind == "AutoEncoder" and not d.subtract_b_dec:
        kind = "AutoEncoderNew"
    trainer: dict[str, Any] = {"dict_class": kind, "activation_dim": d.d_in, "dict_size": d.width}
    k = d.activation.k if isinstance(d.activation, TopKRule) else d.info.get("k")
    trainer |= {"k": k} if k else {}
    if d.info.get("source") == SOURCE:
        came_with = d.info.get("config") or {}
        return came_with | {"trainer": came_with.get("trainer", {}) | trainer}
    about = {"lm_name": d.info.get("model"), "site": d.info.get("site")}
    return {"trainer": trainer | {key: value for key, value in about.items() if value}}
