"""SAELens: `cfg.json` and `sae_weights.safetensors`; version 6 is read and written, older configurations are read.

BatchTopK and Matryoshka dictionaries are saved as JumpReLU; what they were (k, nested widths) stands in the metadata.
A training checkpoint keeps the scale of its inputs beside the weights (`activation_scaler.json`, or
`activation_whitening.safetensors`); both are folded into the weights here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theodolite.core.atomic import publish, read_json
from theodolite.core.errors import UserError, unknown
from theodolite.core.site import Site
from theodolite.dictionaries import validation
from theodolite.dictionaries.activations import (
    AbsTopKRule,
    Activation,
    GatedRule,
    JumpReluRule,
    MatchingPursuitRule,
    ReluRule,
    TopKRule,
)
from theodolite.dictionaries.dictionary import Dictionary, Normalise
from theodolite.dictionaries.formats import weights
from theodolite.dictionaries.formats.weights import Tensors
from theodolite.dictionaries.origin import CENTRED, pretrained_options

WEIGHTS = "sae_weights.safetensors"
_BASIC = {"W_enc", "W_dec", "b_dec", "b_enc"}
TENSORS = {
    "standard": _BASIC,
    "topk": _BASIC,
    "abstopk": _BASIC,
    "jumprelu": _BASIC | {"threshold"},
    "gated": {"W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"},
    "matching_pursuit": {"W_dec", "b_dec"},
    "transcoder": _BASIC,
    "skip_transcoder": _BASIC | {"W_skip"},
    "jumprelu_transcoder": _BASIC | {"threshold"},
    "jumprelu_skip_transcoder": _BASIC | {"threshold", "W_skip"},
}
NORMALISE: dict[str, Normalise] = {"none": "none", "layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}
SCALED, WHITENED = "expected_average_only_in", "covariance_whitening"
TRAINED_AS = {"batch_topk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}  # our variants that it calls otherwise
# Keys that change what the dictionary computes, or that the weights say again. All others are kept in `info["config"]`.
_READ = {
    "architecture",
    "d_in",
    "d_out",
    "d_sae",
    "dtype",
    "device",
    "apply_b_dec_to_input",
    "normalize_activations",
    "reshape_activations",
    "metadata",
    "k",
    "rescale_acts_by_decoder_norm",
    "max_iterations",
    "residual_threshold",
    "stop_on_duplicate_support",
    "activation_fn",
    "activation_fn_str",
    "activation_fn_kwargs",
    "hook_point",
    "hook_name",
    "hook_name_out",
    "model_name",
    "finetuning_scaling_factor",
}


def read(folder: Path, overrides: dict[str, Any] | None = None, factor: float | None = None) -> Dictionary:
    """A SAELens folder; `overrides` and the input `factor` are what SAELens' list of releases says beside it."""
    config = read_json(folder / "cfg.json") | (overrides or {})
    _check_objects(config, folder)
    kind = _kind(config)
    t = weights.checked(weights.load(folder / WEIGHTS), TENSORS[kind], {"scaling_factor"}, folder)
    metadata = config.get("metadata") or config
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    if config.get("reshape_activations", "none") != "none" or str(hook).endswith("hook_z"):
        raise UserError(f"dictionary {folder}: it reads attention heads ({hook}), which is no site here")
    if kind == "matching_pursuit":
        t |= {"W_enc": t["W_dec"].T, "b_enc": torch.zeros(len(t["W_dec"]))}
    weights.agree(config, dict(zip(("d_in", "d_sae"), t["W_enc"].shape, strict=True)), folder)
    if metadata.get("hook_head_index") is not None:
        raise UserError(f"dictionary {folder}: it reads attention head {metadata['hook_head_index']} alone, no site")
    subtract = weights.flag(config, "apply_b_dec_to_input", True, folder) and "transcoder" not in kind
    info = _info(config, metadata, hook, "transcoder" in kind, folder)
    how: dict[str, Any] = {"subtract_b_dec": subtract, "normalise": _row_treatment(config, info, folder)}
    t = _folded(t, config, folder, factor, subtract)
    rule = _rule(kind, t, config, folder)
    if "transcoder" in kind and how["normalise"] != "none":
        raise UserError(f"dictionary {folder}: a transcoder whose rows are normalised is not read")
    return weights.build(t, rule, folder, info, **how)


def write(dictionary: Dictionary, folder: Path) -> None:
    """A version 6 folder that `SAE.load_from_disk` opens; matrices in float32."""
    d = dictionary.to("cpu")
    if d.refit:
        raise weights.cannot("SAELens", "magnitudes fitted anew")
    architecture, tensors, more = _described(d)
    names = {ours: theirs for theirs, ours in NORMALISE.items()} | {"centre": "none"}
    config = {
        "d_in": d.d_in,
        "d_sae": d.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": d.subtract_b_dec,
        "normalize_activations": names[d.normalise],
        "reshape_activations": "none",
        "metadata": _metadata(d),
        **more,
        "architecture": architecture,
    }
    weights.save(tensors, folder / WEIGHTS)
    publish(folder / "cfg.json", json.dumps(config).encode())


def _check_objects(config: dict[str, Any], folder: Path) -> None:
    """Refuse a value that is no object where its keys are read below."""
    inner = config.get("metadata")
    for where, keys in (
        (config, ("metadata", "activation_fn_kwargs", "model_from_pretrained_kwargs")),
        (inner if isinstance(inner, dict) else {}, ("model_from_pretrained_kwargs", "training_architecture_details")),
    ):
        for key in keys:
            if not isinstance(where.get(key) or {}, dict):
                raise validation.wrong(folder, key, where[key], "an object")


def _kind(config: dict[str, Any]) -> str:
    kind = config.get("architecture", "standard")
    function = config.get("activation_fn_str", config.get("activation_fn")) or "relu"
    if function not in ("relu", "topk"):
        raise unknown("activation function of a SAELens dictionary", str(function), ("relu", "topk"))
    if kind not in TENSORS:
        raise unknown("SAELens architecture", str(kind), TENSORS)
    return "topk" if function == "topk" else str(kind)


def _normalise(config: dict[str, Any]) -> str:
    """Normalisation of every row before it is encoded; a boolean in the oldest configurations."""
    mode = config.get("normalize_activations") or "none"
    mode = SCALED if mode is True else str(mode).lower()
    known = (*NORMALISE, SCALED, WHITENED)
    if mode not in known:
        raise unknown("normalize_activations of a SAELens dictionary", mode, known)
    return mode


def _row_treatment(config: dict[str, Any], info: dict[str, Any], folder: Path) -> Normalise:
    """Treatment of every row here: the dictionary's own normalisation, and the mean that centred weights lack.

    SAELens loads a model with `center_writing_weights` for some dictionaries (GPT-2's res-jb): every weight that
    writes to the stream then has mean 0 over d_model, and so has every row. `layer_norm` removes that mean anyway.
    """
    own = NORMALISE.get(_normalise(config), "none")
    if not weights.flag(pretrained_options(info), CENTRED, False, folder):
        return own
    if own == "constant_norm":
        raise UserError(
            f"dictionary {folder}: model_from_pretrained_kwargs say {CENTRED} and its rows have a constant norm "
            "(normalize_activations): both together are not read"
        )
    return "centre" if own == "none" else own


def _rule(kind: str, t: Tensors, config: dict[str, Any], folder: Path) -> Activation:
    if kind == "gated":
        scale = t["r_mag"].exp()
        t["b_enc"] = t["b_gate"]
        return GatedRule(scale, t["b_mag"] - scale * t["b_gate"])
    if kind in ("topk", "abstopk"):
        k = weights.count((config.get("activation_fn_kwargs") or {}) | config, "k", folder)
        return TopKRule(k) if kind == "topk" else AbsTopKRule(k)
    if kind == "matching_pursuit":
        if config.get("stop_on_duplicate_support", True) or config.get("residual_threshold", 1e-2) > 0:
            raise UserError(
                f"dictionary {folder}: its matching pursuit stops early (residual_threshold, "
                "stop_on_duplicate_support); only a fixed number of steps is read"
            )
        steps = config if config.get("max_iterations") is not None else {"max_iterations": t["W_dec"].shape[1]}
        return MatchingPursuitRule(weights.count(steps, "max_iterations", folder))
    return JumpReluRule(t["threshold"]) if kind.startswith("jumprelu") else ReluRule()


def _folded(t: Tensors, config: dict[str, Any], folder: Path, factor: float | None, subtract: bool) -> Tensors:
    """Weights with every constant factor inside: decoder norms, finetuned scales, what inputs went through."""
    if weights.flag(config, "rescale_acts_by_decoder_norm", False, folder):
        norm = t["W_dec"].norm(dim=1).clamp_min(1e-8)
        t |= {"W_enc": t["W_enc"] * norm, "b_enc": t["b_enc"] * norm, "W_dec": t["W_dec"] / norm[:, None]}
    if "scaling_factor" in t:
        if (
            not weights.flag(config, "finetuning_scaling_factor", False, folder)
            and not (t["scaling_factor"] == 1).all()
        ):
            raise UserError(f"dictionary {folder}: it holds a scaling_factor and says that none is used")
        t["W_dec"] = t["W_dec"] * t["scaling_factor"][:, None]
    normalise = _normalise(config)
    if normalise == WHITENED:
        return _unwhitened(t, folder, subtract)
    if normalise == SCALED:
        factor = _factor(folder) if factor is None else factor
        t |= {"W_enc": t["W_enc"] * factor, "W_dec": t["W_dec"] / factor, "b_dec": t["b_dec"] / factor}
    return t


def _unwhitened(t: Tensors, folder: Path, subtract: bool) -> Tensors:
    """Weights for raw rows x of a dictionary that was trained on (x - mean) M."""
    path = folder / "activation_whitening.safetensors"
    if not path.is_file() or "b_enc" not in t:
        raise UserError(
            f"dictionary {folder}: its inputs were whitened by a matrix that is not in the folder: {path.name}"
        )
    w = weights.checked(weights.load(path), {"mean", "matrix", "inverse_matrix"}, set(), folder)
    W_enc = w["matrix"] @ t["W_enc"]
    b_enc = t["b_enc"] if subtract else t["b_enc"] - w["mean"] @ W_enc
    b_dec = t["b_dec"] @ w["inverse_matrix"] + w["mean"]
    return t | {"W_enc": W_enc, "b_enc": b_enc, "W_dec": t["W_dec"] @ w["inverse_matrix"], "b_dec": b_dec}


def _factor(folder: Path) -> float:
    scaler = folder / "activation_scaler.json"
    if not scaler.is_file():
        raise UserError(
            f"dictionary {folder}: its inputs were scaled by a factor that is not in the folder: "
            "activation_scaler.json is missing"
        )
    factor = read_json(scaler).get("scaling_factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise UserError(f"{scaler}: scaling_factor must be a positive number, not {factor!r}")
    return float(factor)


def _info(
    config: dict[str, Any], metadata: dict[str, Any], hook: Any, transcoder: bool, folder: Path
) -> dict[str, Any]:
    info: dict[str, Any] = {"model": metadata.get("model_name"), "site": _site(hook), "source": "SAELens"}
    if hook:
        info["hook"] = hook
    if transcoder:
        info |= {"read_site": info["site"], "site": _site(metadata.get("hook_name_out"))}
    details = metadata.get("training_architecture_details") or {}
    if (trained_as := metadata.get("training_architecture")) != config.get("architecture") and trained_as:
        info["variant"] = trained_as
        info |= {"k": details["k"], "l0": weights.number(details, "k", folder)} if details.get("k") else {}
        info |= {"groups": details["matryoshka_widths"]} if details.get("matryoshka_widths") else {}
    kept = {key: value for key, value in config.items() if key not in _READ}
    if config.get("metadata"):
        kept["metadata"] = metadata
    return info | ({"config": kept} if kept else {})


def _site(hook: Any) -> str | None:
    try:
        return str(Site.from_transformer_lens(str(hook))) if hook else None
    except UserError:
        return None


def _described(d: Dictionary) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """SAELens' name for this kind of dictionary, its tensors, and the keys of its configuration that others lack."""
    rule, t = d.activation, {"W_enc": d.W_enc.T, "W_dec": d.W_dec, "b_dec": d.b_dec, "b_enc": d.b_enc}
    if d.is_transcoder:
        return _transcoder(d, t)
    if isinstance(rule, ReluRule):
        return "standard", t, {}
    if isinstance(rule, TopKRule | AbsTopKRule):
        kind = "topk" if isinstance(rule, TopKRule) else "abstopk"
        return kind, t, {"k": rule.k, "rescale_acts_by_decoder_norm": False}
    if isinstance(rule, JumpReluRule):
        return "jumprelu", t | {"threshold": rule.threshold}, {}
    if isinstance(rule, GatedRule) and (rule.scale > 0).all():
        gates = {"b_gate": d.b_enc, "r_mag": rule.scale.log(), "b_mag": rule.shift + rule.scale * d.b_enc}
        return "gated", {name: x for name, x in t.items() if name != "b_enc"} | gates, {}
    if isinstance(rule, MatchingPursuitRule) and torch.equal(d.W_enc, d.W_dec) and not d.b_enc.any():
        steps = {"residual_threshold": 0.0, "max_iterations": rule.k, "stop_on_duplicate_support": False}
        return "matching_pursuit", {"W_dec": d.W_dec, "b_dec": d.b_dec}, steps
    raise weights.cannot("SAELens", f"the rule {rule.name!r}")


def _transcoder(d: Dictionary, t: dict[str, Tensor]) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    if d.subtract_b_dec or d.normalise != "none" or not isinstance(d.activation, ReluRule | JumpReluRule):
        raise weights.cannot("SAELens", "a transcoder that is not ReLU or JumpReLU on plain rows")
    kind = "transcoder" if d.W_skip is None else "skip_transcoder"
    t |= {} if d.W_skip is None else {"W_skip": d.W_skip}
    if isinstance(d.activation, JumpReluRule):
        kind, t = f"jumprelu_{kind}", t | {"threshold": d.activation.threshold}
    return kind, t, {"d_out": d.d_out}


def _metadata(d: Dictionary) -> dict[str, Any]:
    """The metadata that came with it, or model and hook; without a version SAELens takes it for an old folder."""
    info = d.info
    kept = dict((info.get("config") or {}).get("metadata") or {})
    read, written = (info.get("read_site"), info.get("site")) if d.is_transcoder else (info.get("site"), None)
    for key, value in (
        ("sae_lens_version", "6.0.0"),
        ("model_name", info.get("model")),
        ("hook_name", _hook(read) or info.get("hook")),
        ("hook_name_out", _hook(written)),
        ("training_architecture", TRAINED_AS.get(str(info.get("variant")), info.get("variant"))),
        ("training_architecture_details", _details(info) if info.get("variant") else None),
    ):
        if value is not None:
            kept.setdefault(key, value)
    if d.normalise == "centre":
        kept["model_from_pretrained_kwargs"] = (kept.get("model_from_pretrained_kwargs") or {}) | {CENTRED: True}
    return kept


def _details(info: dict[str, Any]) -> dict[str, Any]:
    """Details of training: our own options, and the k and the widths that a JumpReLU no longer shows."""
    hidden = {"k": info.get("k"), "matryoshka_widths": info.get("groups")}
    return (info.get("params") or {}) | {key: value for key, value in hidden.items() if value}


def _hook(site: Any) -> str | None:
    try:
        return Site.parse(site).to_transformer_lens() if site else None
    except UserError:
        return None
