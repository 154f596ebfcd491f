"""Conversion from any format to any other; the only place that opens pickled files, and weights-only.

`weights_only=True` builds tensors, numbers, strings and containers and refuses everything else, so a file cannot run
code of its own. It is still the one reader here whose input is a program for a small machine: take such files from
people you trust.
"""

import json
from pathlib import Path
from typing import Any

import torch

from theodolite.core.atomic import contents, publish, read_json
from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries import formats, opening
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import dictionary_learning, openai, releases
from theodolite.dictionaries.training.learner import frozen_part

PICKLED = {"dictionary_learning": dictionary_learning.WEIGHTS, "openai": openai.WEIGHTS}
NAMES = (*formats.FORMATS, *PICKLED)
ROWS = 256


def convert(source: str, out: str | Path, to: str = "theodolite") -> list[str]:
    """Write the dictionary of `source` into the new folder `out`; lines that say what was done.

    source: a folder, a `.pt` file, hub:OWNER/REPO/PATH or saelens:RELEASE/ID. What was written is read again, and both
    answer the same random rows: the last line names the difference.
    """
    if to not in NAMES:
        raise unknown("dictionary format", to, NAMES)
    out = Path(out)
    if out.is_file() or contents(out):
        raise UserError(f"{out} exists: nothing was overwritten, name a new folder")
    dictionary, opened = _opened(source)
    written = write(dictionary, out, to=to)
    lines = [f"warning: {opened} is pickled; it was opened weights-only, which builds no objects"] if opened else []
    lines.append(f"{source}: {_described(dictionary)}")
    if to != "theodolite" and dictionary.info.get("card"):
        lines.append(f"note: {to} has no place for the card and the record of training; they stay in {source}")
    if to != "theodolite" and frozen_part(dictionary.info):
        lines.append(f"warning: {source} is a control with a frozen part, which {to} cannot record")
    return [*lines, f"wrote {written} as {to}; {_difference(dictionary, read(written))}"]


def read(source: Path) -> Dictionary:
    """A dictionary from a folder in any format, pickled ones too, or from a `.pt` file."""
    file = pickled(source)
    if file is None:
        return formats.read(source)
    state = _unpickled(file)
    if openai.MARK in state:
        return openai.from_state(state, file)
    beside = file.parent / "config.json"
    return dictionary_learning.from_state(state, read_json(beside) if beside.is_file() else {}, file.parent)


def write(dictionary: Dictionary, out: Path, *, to: str) -> Path:
    """The dictionary in the format `to`, pickled ones too."""
    if to not in PICKLED:
        return formats.write(dictionary, out, to)
    state: dict[str, Any]
    config: dict[str, Any] = {}
    if to == "openai":
        state = openai.to_state(dictionary)
    else:
        state, config = dictionary_learning.to_state(dictionary)
    publish(out / PICKLED[to], lambda path: torch.save(state, path))
    if config:
        publish(out / "config.json", json.dumps(config).encode())
    return out


def pickled(source: Path) -> Path | None:
    """The pickled file that a source is, or holds where it holds no other dictionary."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"no dictionary at {source}: give a folder or a .pt file")
    if any((source / known.marker).is_file() for known in formats.FORMATS.values()):
        return None
    files = sorted(source.glob(formats.PICKLED))
    if len(files) > 1:
        raise UserError(f"{source} holds {len(files)} .pt files: name one of {', '.join(f.name for f in files)}")
    return files[0] if files else None


def _opened(source: str) -> tuple[Dictionary, Path | None]:
    """The dictionary of a source, and the pickled file it came from, if it did."""
    if source.startswith("saelens:"):
        release = releases.find(source.removeprefix("saelens:"))
        folder = opening.from_hub(release.path)
        return (release.read(folder), None) if release.native else (read(folder), pickled(folder))
    path = opening.from_hub(source.removeprefix("hub:")) if source.startswith("hub:") else Path(source)
    return read(path), pickled(path)


def _unpickled(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises six kinds here, by what is wrong with the bytes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{file} cannot be opened weights-only, it is damaged or holds more than weights: {reason}"
        ) from None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{file} holds a {type(state).__name__}, not weights by name")
    floats = {name: v.float() for name, v in state.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}
    return state | floats


def _described(d: Dictionary) -> str:
    site, model = d.info.get("site") or "a site it does not name", d.info.get("model") or "a model it does not name"
    sizes = f"{d.width} latents of {d.d_in} dimensions" + (f" to {d.d_out}" if d.d_out != d.d_in else "")
    return f"{d.activation.name}, {sizes}, {site} of {model} ({d.info.get('source', 'ours')})"


def _difference(before: Dictionary, after: Dictionary) -> str:
    """Difference of both reconstructions on random rows about b_dec, each as long as the decoder's rows, in words."""
    draws = torch.randn(ROWS, before.d_in, generator=torch.Generator().manual_seed(0))
    x_nd = draws * before.W_dec.norm(dim=1).mean() + (before.b_dec if before.subtract_b_dec else 0.0)
    wanted, got = before.reconstruct(x_nd), after.reconstruct(x_nd)
    far = float((got - wanted).norm() / (wanted - wanted.mean(0)).norm())
    return f"on {ROWS} random rows the reconstruction differs by {far:.1e} of its spread"
