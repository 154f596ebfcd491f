"""Checkpoints of a training run: tensors first, then a commit that names their hashes; only then the last one goes."""

import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from theodolite.core.atomic import contents, file_sha256, publish, read_json, unfinished
from theodolite.core.errors import UserError
from theodolite.core.plain import checksum

Tensors = dict[str, dict[str, Tensor]]
COMMIT = "commit.json"
CARRY = "carry"  # among the dictionaries' names: the rows that did not fill a batch
_NAME = re.compile(r"checkpoint-\d{9}")


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
        differences = "; ".join(
            f"another {key}, {_short(there.get(key))} and not {_short(here.get(key))}" for key in differing
        )
        raise UserError(f"{folder} holds a training run with {differences}: choose another folder")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 100 else text[:100] + "..."


def _of_now(request: dict[str, Any]) -> dict[str, Any]:
    """A request of an earlier version in today's words: controls were called twins, and one TopK was all there was."""
    if "twins" in request:
        return {"controls" if key == "twins" else key: value for key, value in request.items()}
    if "saes" in request or "k" not in request:
        return request
    saes = [f"topk(k={request['k']}, lr={request['lr']}, width={request['width']})"]
    now = {"saes": saes, "seeds": [request["seed"]], "controls": ["encoder"] if request["twin"] else []}
    return {key: v for key, v in request.items() if key not in ("width", "k", "lr", "seed", "twin")} | now


def progress_text(folder: Path) -> str:
    """Say from which checkpoint a run that stops here can go on."""
    found = _committed(folder)
    return f"The last checkpoint is whole: {found[-1]}" if found else "No checkpoint was written yet"


def save(folder: Path, step: int, numbers: dict[str, Any], tensors: Tensors) -> None:
    """Write a checkpoint; it counts from the moment its `commit.json` is there."""
    home = folder / f"checkpoint-{step:09d}"
    hashes = {}
    for name, state in tensors.items():
        on_cpu = {key: t.detach().cpu().contiguous() for key, t in state.items()}
        publish(home / f"{name}.safetensors", partial(save_file, on_cpu))
        hashes[name] = file_sha256(home / f"{name}.safetensors")
    commit = json.loads(json.dumps({"numbers": numbers, "sha256": hashes}))  # as it is read back
    publish(home / COMMIT, json.dumps(commit | {"checksum": checksum(commit)}).encode())
    for other in _homes(folder):
        if other != home:
            _remove(other, tensors)


def load(folder: Path) -> tuple[dict[str, Any], Tensors] | None:
    """The newest committed checkpoint, or None."""
    committed = _committed(folder)
    if not committed:
        return None
    home = committed[-1]
    commit = read_json(home / COMMIT)
    written = commit.pop("checksum", None)  # version 0.1 wrote none
    if written not in (None, checksum(commit)) or not _is_ours(commit):
        raise _damaged(home, COMMIT, folder)
    tensors = {}
    for name, expected in commit["sha256"].items():
        path = home / f"{name}.safetensors"
        if not path.is_file() or file_sha256(path) != expected:
            raise _damaged(home, path.name, folder)
        tensors[name] = load_file(path)
    return commit["numbers"], tensors


def clear(folder: Path, names: Iterable[str]) -> None:
    """Remove the checkpoints of a finished run of dictionaries of these names."""
    for home in _homes(folder):
        _remove(home, [*names, CARRY])


def _damaged(home: Path, name: str, folder: Path) -> UserError:
    return UserError(f"checkpoint {home} is damaged ({name}): delete the folder {folder} and train again")


def _homes(folder: Path) -> list[Path]:
    """Folders that are named as a checkpoint here is; those of other programs (`checkpoint-500`) are not, nor links."""
    found = (path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name))
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _committed(folder: Path) -> list[Path]:
    return [home for home in _homes(folder) if (home / COMMIT).is_file()]


def _is_ours(commit: dict[str, Any]) -> bool:
    return all(isinstance(commit.get(key), dict) for key in ("numbers", "sha256"))


def _remove(home: Path, names: Iterable[str]) -> None:
    """Remove the files that a checkpoint of these names holds, and the folder if nothing else is in it.

    The names are the run's own, never those of the commit: a changed one could name any file. A folder without a
    commit is that of a run which died while it wrote the checkpoint.
    """
    commit = home / COMMIT
    try:
        if commit.is_file() and not _is_ours(read_json(commit)):
            return
    except UserError:  # no JSON: not known to be ours
        return
    ours = {COMMIT, *(f"{name}.safetensors" for name in names)}
    commit.unlink(missing_ok=True)  # first: what is left of a removal that dies is no checkpoint
    for path in home.iterdir():
        if path.name in ours or unfinished(path) in ours:
            path.unlink()
    if not any(home.iterdir()):
        home.rmdir()


def cut_log(path: Path, step: int) -> None:
    """Drop log lines after `step`, whose steps will be taken again, and a last line left unfinished by a dying run."""
    whole = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    lines = [line for line in whole if json.loads(line)["step"] <= step]
    publish(path, "".join(line + "\n" for line in lines).encode())
