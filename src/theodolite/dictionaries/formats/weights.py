"""Parts that all formats share: tensors read and checked, dictionaries built, b_dec moved between biases."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from theodolite.core.atomic import publish
from theodolite.core.errors import UserError
from theodolite.dictionaries import validation
from theodolite.dictionaries.activations import Activation
from theodolite.dictionaries.dictionary import Dictionary

Tensors = dict[str, Tensor]
MATRICES = ("W_enc", "W_dec", "W_skip", "encoder.weight", "decoder.weight", "matrix", "inverse_matrix")


def load(path: Path) -> Tensors:
    """The tensors of a safetensors file in float32, whatever precision they are stored in."""
    try:
        return {name: t.float() for name, t in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"dictionary {path.parent}: {path.name} is damaged or incomplete ({error}): fetch it again"
        ) from None


def save(tensors: Tensors, path: Path) -> None:
    """Write a safetensors file atomically, in float32."""
    plain = {name: t.detach().float().cpu() for name, t in tensors.items()}
    ready = {
        name: t.clone(memory_format=torch.contiguous_format) for name, t in plain.items()
    }  # tied ones share memory
    publish(path, lambda temporary: save_file(ready, temporary))


def checked(tensors: Tensors, wanted: set[str], optional: set[str], source: Path) -> Tensors:
    """The tensors, if none is missing and none unknown: one that is not understood may change the output."""
    missing, extra = wanted - tensors.keys(), tensors.keys() - wanted - optional
    if missing or extra:
        raise UserError(f"dictionary {source}: tensors missing {sorted(missing)}, unknown {sorted(extra)}")
    validation.check_matrices(tensors, MATRICES, source)
    return tensors


def build(t: Tensors, rule: Activation, source: Path, info: dict[str, Any], **how: Any) -> Dictionary:
    """A dictionary from W_enc (d_in, f), W_dec (f, d_out), b_enc, b_dec and perhaps W_skip (d_out, d_in).

    That is the orientation in which most formats hold them. Shapes must agree with each other, and every number must
    be one; a threshold may be infinite, which switches its latent off.
    """
    (d_in, width), d_out = t["W_enc"].shape, t["W_dec"].shape[-1]
    if "read_site" not in info:  # no transcoder: it writes what it reads
        d_out = d_in
    expected = {"W_dec": (width, d_out), "b_enc": (width,), "b_dec": (d_out,)}
    expected |= {"W_skip": (d_out, d_in)} if "W_skip" in t else {}
    of_rule = rule.tensors()
    found = t | of_rule
    expected |= dict.fromkeys(of_rule, (width,))
    wrong = {name: tuple(found[name].shape) for name, shape in expected.items() if tuple(found[name].shape) != shape}
    if wrong:
        raise UserError(f"dictionary {source}: W_enc is ({d_in}, {width}), which does not fit {wrong}")
    own = {name: found[name] for name in ("W_enc", *expected) if name not in of_rule}
    validation.check_numbers(own, rule, width, source)
    W_enc, W_dec = t["W_enc"].T.contiguous(), t["W_dec"].contiguous()
    return Dictionary(W_enc, t["b_enc"], W_dec, t["b_dec"], rule, info=info, W_skip=t.get("W_skip"), **how)


def count(config: Mapping[str, Any], key: str, source: Path) -> int:
    """A positive whole number of a configuration."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise validation.wrong(source, key, value, "a positive whole number")
    return int(value)


def flag(config: Mapping[str, Any], key: str, default: bool, source: Path) -> bool:
    """A yes or no of a configuration; the text "false" would count as a yes, so only booleans are one."""
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise validation.wrong(source, key, value, "true or false")
    return default if value is None else value


def number(config: Mapping[str, Any], key: str, source: Path) -> float:
    """A positive finite number of a configuration."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise validation.wrong(source, key, value, "a positive number")
    return float(value)


def agree(config: Mapping[str, Any], sizes: Mapping[str, int], source: Path) -> None:
    """Refuse a configuration that gives the weights another size than they have."""
    wrong = {
        key: config[key]
        for key, size in sizes.items()
        if key in config and (config[key] != size or isinstance(config[key], bool))
    }
    if wrong:
        raise UserError(f"dictionary {source}: its configuration says {wrong}, its weights have {dict(sizes)}")


def without_subtraction(dictionary: Dictionary) -> Dictionary:
    """Return the same function with b_dec left out of the encoder, where W_enc b_dec leaves b_enc instead."""
    return _moved(dictionary, False, -1.0)


def with_subtraction(dictionary: Dictionary) -> Dictionary:
    """Return the same function with b_dec subtracted from the input, for formats that always do."""
    return _moved(dictionary, True, 1.0)


def _moved(d: Dictionary, subtract: bool, sign: float) -> Dictionary:
    if d.subtract_b_dec == subtract:
        return d
    if d.W_enc.shape[1] != d.W_dec.shape[1]:
        raise UserError("a transcoder into another width cannot subtract its output's bias from its input")
    shift = (d.W_enc.double() @ d.b_dec.double()).float()
    return replace(d, b_enc=d.b_enc + sign * shift, subtract_b_dec=subtract)


def cannot(kind: str, what: str) -> UserError:
    """The error for a dictionary that a format has no words for."""
    return UserError(f"{kind} has no form for {what}: choose another format (`--to theodolite` holds all)")


def scalar(value: Tensor) -> float:
    """The one number of a tensor that holds one."""
    return float(value.reshape(-1)[0]) if value.numel() == 1 else torch.nan
