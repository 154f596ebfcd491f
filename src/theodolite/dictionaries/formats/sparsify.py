"""sparsify (EleutherAI): `cfg.json` and `sae.safetensors` in a folder named after the hook point.

W_dec holds a latent per row, as ours. A transcoder (`transcode`) leaves b_dec out of the encoder; `skip_connection`
adds W_skip x, with or without it.
"""

import json
import re
from pathlib import Path
from typing import Any

from theodolite.core.atomic import publish, read_json
from theodolite.core.errors import unknown
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import weights

WEIGHTS = "sae.safetensors"
_TENSORS = {"encoder.weight", "encoder.bias", "W_dec", "b_dec"}
_READ = {"activation", "k", "num_latents", "expansion_factor", "d_in", "skip_connection", "transcode"}
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)(?:\.(\w+))?")
_PARTS = {None: "resid_post", "mlp": "mlp_out", "attn": "attn_out", "self_attn": "attn_out", "attention": "attn_out"}


def read(folder: Path) -> Dictionary:
    """A folder of one hook point, whose name it bears; on which model stands in its run's `config.json` beside it."""
    config = read_json(folder / "cfg.json")
    if (activation := config.get("activation", "topk")) != "topk":  # the other, groupmax, is no TopK
        raise unknown("activation of a sparsify dictionary", str(activation), ("topk",))
    skip, transcode = (weights.flag(config, key, False, folder) for key in ("skip_connection", "transcode"))
    wanted = _TENSORS | ({"W_skip"} if skip else set())
    t = weights.checked(weights.load(folder / WEIGHTS), wanted, set(), folder)
    t |= {"W_enc": t["encoder.weight"].T, "b_enc": t["encoder.bias"]}
    width, d_in = t["encoder.weight"].shape
    weights.agree(config, {"d_in": d_in} | ({"num_latents": width} if config.get("num_latents") else {}), folder)
    run = folder.parent / "config.json"
    info: dict[str, Any] = {"source": "sparsify", "model": None}
    if run.is_file() and isinstance(model := read_json(run).get("model"), str):
        info["model"] = model
    info |= {"hook": folder.name, "site": site_of(folder.name)}
    if transcode:
        info["read_site"] = None  # the module's input, which is no site here
    info |= {"config": {key: value for key, value in config.items() if key not in _READ}}
    rule = TopKRule(weights.count(config, "k", folder))
    return weights.build(t, rule, folder, info, subtract_b_dec=not transcode)


def write(dictionary: Dictionary, folder: Path) -> None:
    """A folder that `SparseCoder.load_from_disk` opens; what reads b_dec otherwise than sparsify is moved over."""
    d = dictionary.to("cpu")
    if not isinstance(d.activation, TopKRule) or d.normalise != "none" or d.refit:
        raise weights.cannot("sparsify", f"anything but TopK on plain rows (rule {d.activation.name!r}, {d.normalise})")
    if d.d_in != d.d_out:
        raise weights.cannot("sparsify", f"{d.d_in} dimensions in and {d.d_out} out")
    # a skip connection that says nothing may be no transcoder here: sparsify's own then subtract b_dec
    transcode = d.is_transcoder and ("read_site" in d.info or not d.subtract_b_dec)
    d = weights.without_subtraction(d) if transcode else weights.with_subtraction(d)
    config = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": d.width}
    config |= {"k": d.activation.k, "multi_topk": False}  # type: ignore[attr-defined]
    kept = (d.info.get("config") or {}) if d.info.get("source") == "sparsify" else {}
    config |= kept | {"skip_connection": d.W_skip is not None, "transcode": transcode, "d_in": d.d_in}
    tensors = {"encoder.weight": d.W_enc, "encoder.bias": d.b_enc, "W_dec": d.W_dec, "b_dec": d.b_dec}
    weights.save(tensors | ({} if d.W_skip is None else {"W_skip": d.W_skip}), folder / WEIGHTS)
    publish(folder / "cfg.json", json.dumps(config).encode())


def site_of(module: str) -> str | None:
    """The site at a module's output, as transformers names modules.

    >>> site_of("gpt_neox.layers.3"), site_of("transformer.h.5.mlp"), site_of("embed_tokens")
    ('blocks.3.resid_post', 'blocks.5.mlp_out', None)
    """
    found = _MODULE.fullmatch(module)
    part = _PARTS.get(found[2]) if found else None
    return f"blocks.{found[1]}.{part}" if found and part else None
