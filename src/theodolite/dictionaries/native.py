"""Our own format: a folder with `model.safetensors` and, written last, `config.json` that names its sha256.

A twin's encoder is not stored: its seed is, with the hash of the directions it gives. Matrices are bfloat16, biases
float32.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from theodolite.core.atomic import file_sha256, publish, read_json
from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.encoder import digest, seeded_rows

FORMAT = "theodolite-dictionary/1"


def as_stored(dictionary: Dictionary) -> Dictionary:
    """The dictionary as it will be read back: what a card must describe. A twin's encoder stays in float32."""
    seeded = bool(dictionary.info.get("frozen_encoder"))
    W_enc = dictionary.W_enc if seeded else dictionary.W_enc.bfloat16().float()
    return Dictionary(
        W_enc,
        dictionary.b_enc,
        dictionary.W_dec.bfloat16().float(),
        dictionary.b_dec,
        dictionary.activation,
        info=dictionary.info,
    )


def save(dictionary: Dictionary, folder: str | Path) -> Path:
    """Write a TopK dictionary with its `info`; the folder is complete once `config.json` is there."""
    if not isinstance(dictionary.activation, TopKRule):
        raise UserError(f"our own format holds TopK dictionaries, not {dictionary.activation.name}")
    if not dictionary.subtract_b_dec or dictionary.normalise != "none":
        raise UserError("our own format holds dictionaries whose encoder subtracts b_dec and normalises no row")
    d, folder = dictionary.to("cpu"), Path(folder)
    tensors = {"b_enc": d.b_enc.float(), "W_dec": d.W_dec.bfloat16(), "b_dec": d.b_dec.float()}
    seeded = bool(d.info.get("frozen_encoder"))
    if not seeded:
        tensors["W_enc"] = d.W_enc.bfloat16()
    weights = folder / "model.safetensors"
    publish(weights, lambda path: save_file({k: t.contiguous() for k, t in tensors.items()}, path))
    config = {
        "format": FORMAT,
        "kind": "topk",
        "d_in": d.d_in,
        "width": d.width,
        "k": dictionary.activation.k,
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
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_sha256(weights) != config["weights_sha256"]:
        raise UserError(
            f"dictionary {folder}: model.safetensors is missing or damaged (its sha256 is not the one in config.json)"
        )
    try:
        tensors = {name: t.float() for name, t in load_file(weights).items()}
    except SafetensorError as error:
        raise UserError(f"dictionary {folder}: model.safetensors is not readable: {error}") from None
    if config["encoder"] != "stored":
        tensors["W_enc"] = seeded_rows(config["width"], config["d_in"], config["encoder"]["seed"])
        if digest(tensors["W_enc"]) != config["encoder"]["sha256"]:
            raise UserError(
                f"dictionary {folder}: its seed does not give the encoder it was trained with (sha256 differs)"
            )
    W_enc, b_enc, W_dec, b_dec = (tensors[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    return Dictionary(W_enc, b_enc, W_dec, b_dec, TopKRule(config["k"]), info=config["info"])


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json of a native folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"no dictionary in {folder}: config.json is missing, so it was never finished")
    config = read_json(path)
    if config.get("format") != FORMAT:
        raise UserError(f"dictionary {folder}: format {config.get('format')!r} is not {FORMAT!r}")
    return config
