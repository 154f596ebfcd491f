"""Checks that a stored dictionary can be computed with: types and sizes in its configuration, shapes, finite numbers.

Every format passes here, ours too: a configuration may have been edited, and weights of a diverged training are NaN.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.core.site import Site
from theodolite.dictionaries.activations import Activation, FistaRule, JumpReluRule
from theodolite.dictionaries.dictionary import Normalise

WIDEST = 2**27  # latents, or dimensions: a hundred times what has been published
_FLAGS, _SIZES = ("subtract_b_dec", "refit"), ("d_in", "d_out", "width")
_MAY_BE = {"model": str, "model_hash": str, "site": str, "hook": str, "label": str, "variant": str, "card": dict}


def check_config(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a native configuration whose values have another type or size than they can have."""
    for key in _SIZES:
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= WIDEST:
            raise wrong(folder, key, value, f"a whole number from 1 to {WIDEST}")
    for key in _FLAGS:
        if not isinstance(config[key], bool):
            raise wrong(folder, key, config[key], "true or false")
    for key, kind in (("rule", dict), ("info", dict), ("kind", str), ("weights_sha256", str)):
        if not isinstance(config[key], kind):
            raise wrong(folder, key, config[key], "an object" if kind is dict else "text")
    if config["normalise"] not in get_args(Normalise):
        raise unknown(f"normalise of dictionary {folder}", str(config["normalise"]), get_args(Normalise))
    encoder = config["encoder"]
    seeded = isinstance(encoder, dict) and encoder.keys() == {"seed", "sha256"} and _whole(encoder["seed"], 0)
    if encoder != "stored" and not (seeded and isinstance(encoder["sha256"], str)):
        raise wrong(folder, "encoder", encoder, '"stored" or its seed and sha256')
    _check_info(config["info"], folder)
    for key, value in config["rule"].items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise wrong(folder, f"rule.{key}", value, "a finite number")


def _check_info(info: Mapping[str, Any], folder: Path) -> None:
    """Check the info of a dictionary, as far as something here is decided by it."""
    for key, kind in _MAY_BE.items():
        if info.get(key) is not None and not isinstance(info[key], kind):
            raise wrong(folder, f"info.{key}", info[key], "an object" if kind is dict else "text")
    for key in ("site", "read_site"):
        if info.get(key) is not None:
            for part in re.split(r"->|\+", info[key]):  # a transcoder's or crosscoder's sites stand joined
                Site.parse(part)
    for key, least in (("seed", 0), ("k", 1)):
        if info.get(key) is not None and not _whole(info[key], least):
            raise wrong(folder, f"info.{key}", info[key], f"a whole number from {least} on")
    l0 = info.get("l0")
    if l0 is not None and (isinstance(l0, bool) or not isinstance(l0, int | float) or not 0 < l0 < math.inf):
        raise wrong(folder, "info.l0", l0, "a positive number")
    training = info.get("training")
    if training is not None and not (isinstance(training, dict) and isinstance(training.get("corpus", ""), str)):
        raise wrong(folder, "info.training", training, "an object that names its corpus in text")


def check_shapes(tensors: Mapping[str, Tensor], rule: Activation, sizes: tuple[int, int, int], folder: Path) -> None:
    """Refuse tensors of a native dictionary that are not of these sizes (d_in, d_out, width)."""
    d_in, d_out, width = sizes
    wanted = {"W_enc": (width, d_in), "b_enc": (width,), "W_dec": (width, d_out), "b_dec": (d_out,)}
    wanted |= {"W_skip": (d_out, d_in)} if "W_skip" in tensors else {}
    wanted |= dict.fromkeys(rule.tensors(), (width,))
    found = {name: tuple(t.shape) for name, t in {**tensors, **rule.tensors()}.items()}
    if missing := sorted(wanted.keys() - found.keys()):
        raise UserError(f"dictionary {folder}: tensors missing {missing}")
    if extra := sorted(found.keys() - wanted.keys()):
        raise UserError(f"dictionary {folder}: tensors unknown {extra}")
    if differ := [f"{name} {found[name]} instead of {shape}" for name, shape in wanted.items() if found[name] != shape]:
        raise UserError(f"dictionary {folder}: its configuration says other sizes: {', '.join(differ)}")


def check_numbers(tensors: Mapping[str, Tensor], rule: Activation, width: int, source: Path) -> None:
    """Refuse NaN and infinity (a threshold may be infinite: its latent is off), and a k above the number of latents."""
    bad = [name for name, t in tensors.items() if not t.isfinite().all()]
    may_be_off = isinstance(rule, JumpReluRule)
    bad += [n for n, t in rule.tensors().items() if not (~t.isnan() if may_be_off else t.isfinite()).all()]
    if bad:
        raise UserError(
            f"dictionary {source}: {', '.join(bad)} holds NaN or infinity, as after a training that diverged or a "
            "damaged download: fetch or train it again"
        )
    k = getattr(rule, "k", None)
    if k is not None and not _whole(k, 1):
        raise wrong(source, "k", k, "a whole number from 1 on")
    if k is not None and k > width:
        raise UserError(f"dictionary {source}: k={k} latents cannot be active, it has {width}")
    if isinstance(rule, FistaRule) and not (_whole(rule.steps, 1) and rule.lam >= 0):
        raise UserError(f"dictionary {source}: lam={rule.lam} and steps={rule.steps} must be >= 0 and from 1 on")


def check_matrices(tensors: Mapping[str, Tensor], names: tuple[str, ...], source: Path) -> None:
    """Refuse a matrix that has not two dimensions, or none in one of them, before anything is read off its shape."""
    for name in names:
        if name in tensors and (tensors[name].ndim != 2 or 0 in tensors[name].shape):
            raise UserError(f"dictionary {source}: {name} has shape {tuple(tensors[name].shape)}, not that of a matrix")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def wrong(folder: Path, key: str, value: object, what: str) -> UserError:
    """The error for a value of a configuration that is not what it must be."""
    return UserError(f"dictionary {folder}: its configuration says {key}={value!r}, not {what}")
