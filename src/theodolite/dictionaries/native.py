"""Our own format: a folder with `model.safetensors` and, written last, `config.json` that names its sha256.

It holds every dictionary there is: each rule of `activations.py` with its numbers and tensors, row treatment,
transcoders, fitted magnitudes. A control's encoder is not stored: its seed is, and the hash of its directions.
Matrices are bfloat16, biases and the rule's tensors float32: a threshold in bfloat16 would move by up to .4 %.
"""

import inspect
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from theodolite.core.atomic import file_sha256, publish, read_json
from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries import activations, validation
from theodolite.dictionaries.activations import Activation
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.seeded import digest, seeded_rows

FORMAT, FIRST = "theodolite-dictionary/2", "theodolite-dictionary/1"  # the first held TopK only
WEIGHTS = "model.safetensors"
MATRICES = ("W_enc", "W_dec", "W_skip")
KEYS = {
    "format",
    "kind",
    "d_in",
    "d_out",
    "width",
    "rule",
    "subtract_b_dec",
    "normalise",
    "refit",
    "encoder",
    "weights_sha256",
    "info",
}
RULE = "rule."  # before the names of the rule's tensors
RULES: dict[str, type[Activation]] = {
    rule.name: rule
    for _, rule in inspect.getmembers(activations, inspect.isclass)
    if issubclass(rule, Activation) and rule is not Activation
}


def as_stored(dictionary: Dictionary) -> Dictionary:
    """The dictionary as it will be read back: what a card must describe. A control's encoder stays in float32."""
    kept = {"W_enc"} if dictionary.info.get("frozen_encoder") else set()
    rounded: dict[str, Any] = {
        n: t.bfloat16().float() for n, t in dictionary.weights().items() if n in MATRICES and n not in kept
    }
    return replace(dictionary, **rounded)


def save(dictionary: Dictionary, folder: str | Path) -> Path:
    """Write a dictionary with its `info`; the folder is complete once `config.json` is there."""
    d, folder = dictionary.to("cpu"), Path(folder)
    seeded = bool(d.info.get("frozen_encoder"))
    tensors = {n: t.bfloat16() if n in MATRICES else t.float() for n, t in d.weights().items()}
    tensors |= {RULE + name: t.float() for name, t in d.activation.tensors().items()}
    if seeded:
        del tensors["W_enc"]
    weights = folder / WEIGHTS
    separate = {n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}  # tied ones share memory
    publish(weights, lambda path: save_file(separate, path))
    config = {
        "format": FORMAT,
        "kind": d.activation.name,
        "d_in": d.d_in,
        "d_out": d.d_out,
        "width": d.width,
        "rule": d.activation.numbers(),
        "subtract_b_dec": d.subtract_b_dec,
        "normalise": d.normalise,
        "refit": d.refit,
        "encoder": {"seed": d.info["seed"], "sha256": digest(d.W_enc)} if seeded else "stored",
        "weights_sha256": file_sha256(weights),
        "info": d.info,
    }
    publish(folder / "config.json", json.dumps(config, indent=1, allow_nan=False).encode())
    return folder


def load(folder: str | Path) -> Dictionary:
    """Read a folder written by `save`, in float32; what does not match its own hashes is refused."""
    folder = Path(folder)
    config = read_config(folder)
    tensors = _weights(folder, config["weights_sha256"])
    sizes = (config["d_in"], config["d_out"], config["width"])
    if config["encoder"] != "stored":
        if tuple(tensors.get("W_dec", torch.empty(0)).shape) != (config["width"], config["d_out"]):
            raise UserError(f"dictionary {folder}: its configuration says width={config['width']}, W_dec another")
        tensors["W_enc"] = seeded_rows(config["width"], config["d_in"], config["encoder"]["seed"])
        if digest(tensors["W_enc"]) != config["encoder"]["sha256"]:
            raise UserError(
                f"dictionary {folder}: its seed does not give the encoder it was trained with (sha256 differs)"
            )
    of_rule = {name.removeprefix(RULE): t for name, t in tensors.items() if name.startswith(RULE)}
    rule = _rule(config["kind"], config["rule"] | of_rule, folder)
    how: dict[str, Any] = {name: t for name, t in tensors.items() if not name.startswith(RULE)}
    validation.check_shapes(how, rule, sizes, folder)
    validation.check_numbers(how, rule, config["width"], folder)
    how |= {key: config[key] for key in ("subtract_b_dec", "normalise", "refit", "info")}
    return Dictionary(activation=rule, **how)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a native folder, in the words of the present format."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"no dictionary in {folder}: config.json is missing, so it was never finished")
    config = read_json(path)
    if config.get("format") not in (FORMAT, FIRST):
        raise UserError(f"dictionary {folder}: format {config.get('format')!r} is not {FORMAT!r}")
    if config["format"] == FIRST:
        plain = {"rule": {"k": config.pop("k", None)}, "subtract_b_dec": True, "normalise": "none", "refit": False}
        config |= plain | {"d_out": config.get("d_in")}
    if wrong := KEYS ^ config.keys():
        lacks, holds = sorted(KEYS & wrong), sorted(wrong - KEYS)
        raise UserError(f"dictionary {folder}: config.json lacks {lacks} and holds unknown {holds}")
    validation.check_config(config, folder)
    return config


def verify(folder: Path) -> None:
    """Refuse a folder whose weights are not the ones that its config.json was written for."""
    _whole(folder, read_config(folder)["weights_sha256"])


def _whole(folder: Path, sha256: str) -> Path:
    path = folder / WEIGHTS
    if not path.is_file() or file_sha256(path) != sha256:
        raise UserError(
            f"dictionary {folder}: model.safetensors is missing or damaged (its sha256 is not the one in config.json): "
            "delete this folder and make it again"
        )
    return path


def _weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = _whole(folder, sha256)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise UserError(f"dictionary {folder}: model.safetensors is not readable: {error}") from None
    if other := sorted(name for name, t in stored.items() if not t.is_floating_point()):
        raise UserError(f"dictionary {folder}: {', '.join(other)} holds no floating-point numbers")
    return {name: t.float() for name, t in stored.items()}


def _rule(kind: str, values: dict[str, Any], folder: Path) -> Activation:
    if kind not in RULES:
        raise unknown(f"rule of dictionary {folder}", kind, RULES)
    wanted = {field.name for field in fields(RULES[kind])}
    if wanted != values.keys():
        raise UserError(f"dictionary {folder}: rule {kind!r} has {sorted(wanted)}, the folder {sorted(values)}")
    return RULES[kind](**values)
