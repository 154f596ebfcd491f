"""Gemma Scope: `params.npz` (Gemma 2) and `params.safetensors` with `config.json` (Gemma Scope 2, Gemma 3).

All are JumpReLU and leave b_dec out of the encoder. The first have no configuration: repository, layer and L0 stand in
the path. Transcoders read the MLP's normalised input, which is no site here.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from theodolite.core.atomic import publish, read_json
from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import JumpReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import weights

SOURCE_2 = "Gemma Scope 2"
WEIGHTS, WEIGHTS_2 = "params.npz", "params.safetensors"
_TENSORS = {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}
_SKIP = "affine_skip_connection"  # (d_in, d_out)
# By the last word of the repository (in the hub's cache: models--google--gemma-scope-2b-pt-res). `mlp` is the MLP's
# output after its norm; `att` reads the heads before W_O, which is no site here.
_REPOSITORY = re.compile(r"(?:.*--)?gemma-scope-(\d+b)-(pt|it)-(\w+)")
_PARTS = {"res": "resid_post", "mlp": "mlp_out"}
_READ = {"architecture", "model_name", "l0", "hf_hook_point_in", "affine_connection", "type"}


def read(folder: Path) -> Dictionary:
    """Gemma Scope for Gemma 2, opened without unpickling."""
    try:
        with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
            tensors = {_upper(key): torch.from_numpy(arrays[key]).float() for key in arrays.files}
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"dictionary {folder}: params.npz is damaged or holds objects: {error}") from None
    t = weights.checked(tensors, _TENSORS, set(), folder)
    info: dict[str, Any] = {"source": "Gemma Scope", "site": None, "model": None}
    part_of_block = None
    for part in folder.parts:
        if repository := _REPOSITORY.fullmatch(part):
            size, tuned, kind = repository.groups()
            info["model"] = f"google/gemma-2-{size}" + ("-it" if tuned == "it" else "")
            part_of_block = _PARTS.get(kind)
            info |= {} if part_of_block else {"hook": part}
            info |= {"read_site": None} if kind == "transcoders" else {}
        if part == "embedding":
            raise UserError(f"dictionary {folder}: it reads embeddings on a scale that the file does not hold")
        if part_of_block and part.startswith("layer_") and part[6:].isdigit():
            info["site"] = f"blocks.{part[6:]}.{part_of_block}"
        if part.startswith("average_l0_") and part[11:].isdigit():
            info["l0"] = float(part[11:])
    return weights.build(t, JumpReluRule(t["threshold"]), folder, info, subtract_b_dec=False)


def read_2(folder: Path) -> Dictionary:
    """Gemma Scope 2, transcoders among them; one that writes many layers (CLT) is refused by its shapes."""
    config = read_json(folder / "config.json")
    if (named := config.get("architecture", "jump_relu")) != "jump_relu":
        raise UserError(f"dictionary {folder}: architecture {named!r} is not Gemma Scope's 'jump_relu'")
    tensors = {_upper(key): t for key, t in weights.load(folder / WEIGHTS_2).items()}
    skip = weights.flag(config, "affine_connection", False, folder)
    t = weights.checked(tensors, _TENSORS | ({_SKIP} if skip else set()), set(), folder)
    info: dict[str, Any] = {"source": SOURCE_2, "model": config.get("model_name"), "site": None}
    hook = str(config.get("hf_hook_point_in", "")).split(".")
    block = next((part for part in hook if part.isdigit()), None)
    if config.get("type", "sae") != "sae" or skip:
        info["read_site"] = None
    elif block is not None and hook[-2:] == [block, "output"]:
        info["site"] = f"blocks.{block}.resid_post"
    info |= {"l0": weights.number(config, "l0", folder)} if config.get("l0") is not None else {}
    info["config"] = {key: value for key, value in config.items() if key not in _READ}
    info["hook"] = config.get("hf_hook_point_in")
    t |= {"W_skip": t[_SKIP].T.contiguous()} if skip else {}
    return weights.build(t, JumpReluRule(t["threshold"]), folder, info, subtract_b_dec=False)


def write(dictionary: Dictionary, folder: Path) -> None:
    """`params.npz`; where it was trained is what the path around it says."""
    d = _plain(dictionary)
    if d.W_skip is not None:
        raise weights.cannot("Gemma Scope", "a skip connection")
    arrays = {"W_enc": d.W_enc.T, "W_dec": d.W_dec, "b_enc": d.b_enc, "b_dec": d.b_dec, **d.activation.tensors()}
    file = io.BytesIO()
    np.savez(file, **{name: t.contiguous().numpy() for name, t in arrays.items()})  # type: ignore[arg-type]
    publish(folder / WEIGHTS, file.getvalue())


def write_2(dictionary: Dictionary, folder: Path) -> None:
    """`params.safetensors` and `config.json`."""
    d = _plain(dictionary)
    tensors = {"w_enc": d.W_enc.T, "w_dec": d.W_dec, "b_enc": d.b_enc, "b_dec": d.b_dec, **d.activation.tensors()}
    tensors |= {} if d.W_skip is None else {_SKIP: d.W_skip.T}
    config = {"architecture": "jump_relu", "model_name": d.info.get("model"), "width": d.width}
    config |= {"type": "transcoder" if d.is_transcoder else "sae", "affine_connection": d.W_skip is not None}
    site = d.info.get("site") or ""
    config |= {"hf_hook_point_in": f"model.layers.{site.split('.')[1]}.output"} if site.endswith("resid_post") else {}
    config |= {"l0": d.info["l0"]} if d.info.get("l0") else {}
    if d.info.get("source") == SOURCE_2:
        config |= d.info["config"] | {"hf_hook_point_in": d.info["hook"]}
    weights.save(tensors, folder / WEIGHTS_2)
    publish(folder / "config.json", json.dumps(config).encode())


def _plain(dictionary: Dictionary) -> Dictionary:
    d = dictionary.to("cpu")
    if not isinstance(d.activation, JumpReluRule) or d.normalise != "none" or d.refit:
        raise weights.cannot("Gemma Scope", f"anything but JumpReLU on plain rows (rule {d.activation.name!r})")
    return weights.without_subtraction(d)


def _upper(key: str) -> str:
    return "W_" + key[2:] if key.startswith("w_") else key
