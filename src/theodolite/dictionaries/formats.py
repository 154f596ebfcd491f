"""Other people's dictionaries, read into ours: a table says what each format holds, one function reads it.

What a converter must preserve is the output, not the shapes: tests compare encode and decode with the source's formula
on random rows.
"""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from theodolite.core.atomic import read_json
from theodolite.core.errors import UserError, unknown
from theodolite.core.site import Site
from theodolite.dictionaries import native
from theodolite.dictionaries.activations import Gated, JumpRelu, Relu, TopKRule
from theodolite.dictionaries.dictionary import Dictionary

Tensors = dict[str, Tensor]

# SAELens v6: tensors of each architecture. BatchTopK and Matryoshka dictionaries are saved as jumprelu.
_SHARED = {"W_enc", "W_dec", "b_dec"}
SAELENS = {
    "standard": _SHARED | {"b_enc"},
    "topk": _SHARED | {"b_enc"},
    "jumprelu": _SHARED | {"b_enc", "threshold"},
    "gated": _SHARED | {"b_gate", "b_mag", "r_mag"},
}
GEMMA_SCOPE = _SHARED | {"b_enc", "threshold"}
SCALED = "expected_average_only_in"  # a factor that `_folded` puts into the weights
_NORMALISE = {"none": "none", SCALED: "none", "layer_norm": "layer_norm", "constant_norm_rescale": "constant_norm"}
# Gemma Scope by the last word of its repositories (in the hub's cache: models--google--gemma-scope-2b-pt-res). `mlp` is
# the MLP's output after its norm; `att` reads the heads before W_O, which is no site here.
_GEMMA_SCOPE_REPO = re.compile(r"(?:.*--)?gemma-scope-.*-(\w+)")
_GEMMA_SCOPE_PARTS = {"res": "resid_post", "mlp": "mlp_out"}


def read(folder: str | Path) -> Dictionary:
    """A dictionary from a folder in any known format, told by the files in it."""
    folder = Path(folder)
    for marker, reader in READERS.items():
        if (folder / marker).is_file():
            return reader(folder)
    raise UserError(f"no dictionary in {folder}: it holds none of {', '.join(READERS)}")


def read_saelens(folder: Path) -> Dictionary:
    """SAELens v6 (`cfg.json`, `sae_weights.safetensors`); older configurations by their `activation_fn_str`."""
    config = read_json(folder / "cfg.json")
    kind = _saelens_kind(config)
    normalise = _saelens_normalise(config)
    t = _checked(_safetensors(folder / "sae_weights.safetensors"), SAELENS[kind], {"scaling_factor"}, folder)
    if config.get("reshape_activations", "none") != "none":
        raise UserError(
            f"dictionary {folder}: it reads attention heads ({config['reshape_activations']}), which is no site here"
        )
    t = _folded(t, config, folder)
    if kind == "gated":
        scale = t["r_mag"].exp()
        t["b_enc"] = t["b_gate"]
        rule: Any = Gated(scale, t["b_mag"] - scale * t["b_gate"])
    else:
        rule = {
            "standard": Relu,
            "topk": lambda: TopKRule(_saelens_k(config, folder)),
            "jumprelu": lambda: JumpRelu(t["threshold"].relu()),
        }[kind]()
    metadata = config.get("metadata") or config
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    info = {"model": metadata.get("model_name"), "site": _site(hook), "source": "SAELens"}
    return _dictionary(
        t, rule, folder, info, subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)), normalise=normalise
    )


def read_gemma_scope(folder: Path) -> Dictionary:
    """Gemma Scope for Gemma 2: `params.npz` without a configuration; repository, layer and L0 stand in the path."""
    try:
        with np.load(folder / "params.npz", allow_pickle=False) as arrays:
            tensors = {_upper(key): torch.from_numpy(arrays[key]).float() for key in arrays.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"dictionary {folder}: params.npz is damaged or holds objects: {error}") from None
    t = _checked(tensors, GEMMA_SCOPE, set(), folder)
    info: dict[str, Any] = {"source": "Gemma Scope", "site": None, "model": None}
    part_of_block = None
    for part in folder.parts:
        if repository := _GEMMA_SCOPE_REPO.fullmatch(part):
            part_of_block = _GEMMA_SCOPE_PARTS.get(repository[1])
            if repository[1] == "transcoders":
                raise UserError(f"dictionary {folder}: it is a transcoder, which writes another site than it reads")
        if part_of_block and part.startswith("layer_") and part[6:].isdigit():
            info["site"] = f"blocks.{part[6:]}.{part_of_block}"
        if part.startswith("average_l0_") and part[11:].isdigit():
            info["l0"] = float(part[11:])
    return _dictionary(t, JumpRelu(t["threshold"]), folder, info, subtract_b_dec=False)


def read_gemma_scope_2(folder: Path) -> Dictionary:
    """Gemma Scope 2: `params.safetensors` beside a `config.json`."""
    config = read_json(folder / "config.json")
    if config.get("type", "sae") != "sae" or config.get("affine_connection"):
        raise UserError(f"dictionary {folder}: it is a {config.get('type')}, which writes another site than it reads")
    tensors = {_upper(key): t for key, t in _safetensors(folder / "params.safetensors").items()}
    t = _checked(tensors, GEMMA_SCOPE, set(), folder)
    hook = str(config.get("hf_hook_point_in", "")).split(".")
    block = next((part for part in hook if part.isdigit()), None)
    info = {"source": "Gemma Scope 2", "model": config.get("model_name"), "site": None}
    if block is not None and hook[-2:] == [block, "output"]:
        info["site"] = f"blocks.{block}.resid_post"
    if config.get("l0"):
        info["l0"] = float(config["l0"])
    return _dictionary(t, JumpRelu(t["threshold"]), folder, info, subtract_b_dec=False)


READERS: dict[str, Callable[[Path], Dictionary]] = {
    "model.safetensors": native.load,
    "sae_weights.safetensors": read_saelens,
    "params.npz": read_gemma_scope,
    "params.safetensors": read_gemma_scope_2,
}


def _dictionary(t: Tensors, rule: Any, folder: Path, info: dict[str, Any], **how: Any) -> Dictionary:
    """Foreign matrices hold latents as columns of W_enc; their shapes must agree with each other."""
    d_in, width = t["W_enc"].shape
    expected = {"W_dec": (width, d_in), "b_enc": (width,), "b_dec": (d_in,)}
    wrong = {name: tuple(t[name].shape) for name, shape in expected.items() if tuple(t[name].shape) != shape}
    if wrong:
        raise UserError(f"dictionary {folder}: W_enc is ({d_in}, {width}), which does not fit {wrong}")
    return Dictionary(
        t["W_enc"].T.contiguous(), t["b_enc"], t["W_dec"].contiguous(), t["b_dec"], rule, info=info, **how
    )


def _saelens_kind(config: dict[str, Any]) -> str:
    kind = config.get("architecture", "standard")
    if config.get("activation_fn_str") == "topk" or config.get("activation_fn") == "topk":
        return "topk"
    if kind not in SAELENS:
        raise unknown("SAELens architecture", kind, SAELENS)
    return kind


def _saelens_k(config: dict[str, Any], folder: Path) -> int:
    """How many latents are active; an argument of the activation function in older configurations."""
    k = (config.get("activation_fn_kwargs") or {}).get("k", config.get("k"))
    if not isinstance(k, int | float) or k < 1:
        raise UserError(f"dictionary {folder}: it is a TopK, and cfg.json says k={k}, not how many latents are active")
    return int(k)


def _saelens_normalise(config: dict[str, Any]) -> str:
    """What is done to every row before it is encoded, under our name."""
    said = str(config.get("normalize_activations") or "none").lower()
    if said not in _NORMALISE:
        raise unknown("normalize_activations of a SAELens dictionary", said, _NORMALISE)
    return _NORMALISE[said]


def _folded(t: Tensors, config: dict[str, Any], folder: Path) -> Tensors:
    """Weights with every constant factor inside: decoder norms, finetuned scales per latent, the scale of inputs."""
    if config.get("rescale_acts_by_decoder_norm"):
        norm = t["W_dec"].norm(dim=1)
        t |= {"W_enc": t["W_enc"] * norm, "b_enc": t["b_enc"] * norm, "W_dec": t["W_dec"] / norm[:, None]}
    if config.get("finetuning_scaling_factor") and "scaling_factor" in t:
        t["W_dec"] = t["W_dec"] * t["scaling_factor"][:, None]
    if str(config.get("normalize_activations")).lower() == SCALED:
        scaler = folder / "activation_scaler.json"
        if not scaler.is_file():
            raise UserError(
                f"dictionary {folder}: its inputs were scaled by a factor that is not in the folder: "
                "activation_scaler.json is missing"
            )
        factor = _factor(scaler)
        t |= {"W_enc": t["W_enc"] * factor, "W_dec": t["W_dec"] / factor, "b_dec": t["b_dec"] / factor}
    return t


def _factor(scaler: Path) -> float:
    factor = read_json(scaler).get("scaling_factor")
    if not isinstance(factor, int | float) or not factor > 0:
        raise UserError(f"{scaler}: scaling_factor must be a positive number, not {factor!r}")
    return float(factor)


def _checked(tensors: Tensors, wanted: set[str], optional: set[str], folder: Path) -> Tensors:
    missing, extra = wanted - tensors.keys(), tensors.keys() - wanted - optional
    if missing or extra:
        raise UserError(f"dictionary {folder}: tensors missing {sorted(missing)}, unknown {sorted(extra)}")
    return tensors


def _safetensors(path: Path) -> Tensors:
    try:
        return {name: t.float() for name, t in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"dictionary {path.parent}: {path.name} is damaged or incomplete ({error}): fetch it again"
        ) from None


def _upper(key: str) -> str:
    return "W_" + key[2:] if key.startswith("w_") else key


def _site(hook: str | None) -> str | None:
    try:
        return str(Site.from_transformer_lens(hook)) if hook else None
    except UserError:
        return None
