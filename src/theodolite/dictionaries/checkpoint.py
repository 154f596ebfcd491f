"""Checkpoints of a training run: tensors first, then a commit that names their hashes; only then the last one goes."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from theodolite.core.atomic import contents, file_sha256, publish, read_json
from theodolite.core.errors import UserError

Tensors = dict[str, dict[str, Tensor]]


def claim(folder: Path, request: dict[str, Any]) -> None:
    """Mark the folder as this request's; one that belongs to another, or holds anything else, is refused."""
    path, text = folder / "request.json", json.dumps(request, indent=1, sort_keys=True)
    if not path.is_file():
        if others := contents(folder):
            raise UserError(
                f"{folder} is not empty and holds no training run (found: {_short(others)}): give --out a new folder"
            )
        publish(path, text.encode())
        return
    here = json.loads(text)
    there = {"dtype": here.get("dtype")} | _of_now(read_json(path))  # version 0.1 named no dtype: any may go on
    differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if differing:
        said = "; ".join(
            f"another {key}, {_short(there.get(key))} and not {_short(here.get(key))}" for key in differing
        )
        raise UserError(f"{folder} holds a training run with {said}: choose another folder")


def _short(value: Any) -> str:
    said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return said if len(said) <= 100 else said[:100] + "..."


def _of_now(request: dict[str, Any]) -> dict[str, Any]:
    """A request of version 0.1, which knew one TopK and its twin, in today's words."""
    if "saes" in request or "k" not in request:
        return request
    saes = [f"topk(k={request['k']}, lr={request['lr']}, width={request['width']})"]
    now = {"saes": saes, "seeds": [request["seed"]], "twins": ["encoder"] if request["twin"] else []}
    return {key: v for key, v in request.items() if key not in ("width", "k", "lr", "seed", "twin")} | now


def said(folder: Path) -> str:
    """Where a run that stops here can go on, in words."""
    found = sorted(folder.glob("checkpoint-*/commit.json"))
    return f"The last checkpoint is whole: {found[-1].parent}" if found else "No checkpoint was written yet"


def save(folder: Path, step: int, numbers: dict[str, Any], tensors: Tensors) -> None:
    """Write a checkpoint; it counts from the moment its `commit.json` is there."""
    home = folder / f"checkpoint-{step:09d}"
    hashes = {}
    for name, state in tensors.items():
        on_cpu = {key: t.detach().cpu().contiguous() for key, t in state.items()}
        publish(home / f"{name}.safetensors", partial(save_file, on_cpu))
        hashes[name] = file_sha256(home / f"{name}.safetensors")
    publish(home / "commit.json", json.dumps({"numbers": numbers, "sha256": hashes}).encode())
    for other in folder.glob("checkpoint-*"):
        if other != home:
            shutil.rmtree(other)


def load(folder: Path) -> tuple[dict[str, Any], Tensors] | None:
    """The newest committed checkpoint, or None."""
    committed = sorted(folder.glob("checkpoint-*/commit.json"))
    if not committed:
        return None
    home = committed[-1].parent
    commit = read_json(committed[-1])
    tensors = {}
    for name, expected in commit["sha256"].items():
        path = home / f"{name}.safetensors"
        if not path.is_file() or file_sha256(path) != expected:
            raise UserError(f"checkpoint {home} is damaged ({path.name}): delete the folder {folder} and train again")
        tensors[name] = load_file(path)
    return commit["numbers"], tensors


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for home in folder.glob("checkpoint-*"):
        shutil.rmtree(home)


def cut_log(path: Path, step: int) -> None:
    """Drop log lines after `step`, whose steps will be taken again, and a last line left unfinished by a dying run."""
    whole = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    lines = [line for line in whole if json.loads(line)["step"] <= step]
    publish(path, "".join(line + "\n" for line in lines).encode())
