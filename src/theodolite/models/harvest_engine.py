"""Choice of where a harvest is done (here, or in workers that each load the model) and with how many threads."""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from theodolite.core.errors import UserError
from theodolite.core.parallel import Build, Map, Processes, serial
from theodolite.models import preflight
from theodolite.models.harvest_work import HarvestWork, InWorker, UnitReader, network_fields
from theodolite.models.hashing import folder_hash

# A worker takes 7 CPU seconds to begin (3 for imports, 4 to load and check 540 MB): a tenth of this. Two workers of one
# thread are as fast as one process of two threads where nothing else runs. Beside other programs they were 6 to 9 times
# as fast: threads that wait for one another burn time (4 CPU seconds became 30) and lose more than their share.
BREAK_EVEN = 70.0  # seconds of reading for each worker
_RATE = 1e11  # floating-point operations per second of one core
_PROCESS = 600 * 2**20  # bytes of a worker beside its weights
_COPY = 1.3  # bytes per byte of weights while they are loaded


@dataclass(frozen=True)
class Engine:
    """A map, the threads of each of its workers (0: not on the CPU), and where these load the model ("": from here)."""

    map: Map
    threads: int = 0
    folder: str = ""
    asked: bool = False

    def build(self, work: HarvestWork, threads: int) -> Build:
        """Return what makes a reader of units, in each worker."""
        if not self.folder:
            return lambda: UnitReader(work.model, threads)
        dtype = str(work.model.dtype).removeprefix("torch.")
        return InWorker(self.folder, dtype, threads, _worker_bytes(work.model), network_fields(work.model))


def chosen_engine(work: HarvestWork, asked: Map | None) -> Engine:
    """Return the engine of a harvest; a map that was asked for and cannot be used here is a warning.

    The number of threads depends on the work and the machine, not on what else runs: a rerun multiplies alike. Memory
    that is free now only decides how many workers there are.
    """
    here = Engine(serial, torch.get_num_threads() if work.model.device.type == "cpu" else 0)
    if asked is serial or (asked is None and not _takes_long(work)):
        return here
    folder, reason = _folder(work.model)
    if asked is not None and reason:
        warnings.warn(f"texts are read in this process: {reason}", stacklevel=3)
    if reason or (asked is None and 2 * _worker_bytes(work.model) > _total_memory() // 2):
        return here
    if asked is not None and not isinstance(asked, Processes):
        return Engine(asked, 1, folder, asked=True)
    workers = _workers(work, asked.workers if asked else None)
    if workers > 1:
        return Engine(Processes(workers), 1, folder, asked=asked is not None)
    if asked is not None:
        warnings.warn("texts are read in this process: free memory, cores or texts are too few for two", stacklevel=3)
    return Engine(serial, 1)


def stored_threads(folder: str | Path) -> int:
    """Return with how many threads the rows of a store were made; 0 where there is none."""
    try:
        return int(json.loads((Path(folder) / "manifest.json").read_bytes())["fields"]["threads"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0  # whoever opens the store says what is wrong with it


def _takes_long(work: HarvestWork) -> bool:
    """Return whether reading takes long enough on this machine that workers are worth their start."""
    deepest = work.plan.sites[-1].last_block(work.model.n_blocks) + 1
    tokens = work.n_tokens() - len(work.tokens) * work.prefix.ids.shape[1]  # the shared prefix runs once
    blocks = work.model.parameters * deepest / work.model.n_blocks  # embeddings included: an estimate
    cores = torch.get_num_threads()
    return cores > 1 and 2.0 * blocks * tokens / _RATE > BREAK_EVEN * cores


def _folder(model: Any) -> tuple[str, str]:
    """Return the folder that a worker can load these very weights from, or "" and the reason why there is none."""
    if model.device.type != "cpu":
        return "", f"the model is on {model.device.type}, which several copies would have to share"
    folder = Path(getattr(model.network.module.config, "name_or_path", "") or "/none")
    if not (folder / "config.json").is_file():
        return "", "the model was made in memory, and a worker has no folder to load it from"
    try:
        same = folder_hash(folder) == model.hash
    except UserError as error:
        return "", f"a worker cannot load {folder}: {error}"
    return (str(folder.resolve()), "") if same else ("", f"the weights are no longer those of {folder}")


def _worker_bytes(model: Any) -> int:
    """Return the bytes of memory of a worker that loads this model."""
    weights = sum(p.numel() * p.element_size() for p in model.network.module.parameters())
    return int(_PROCESS + _COPY * weights)


def _workers(work: HarvestWork, most: int | None) -> int:
    """Return how many workers have cores, units, and memory that is free now, with a fifth of it left.

    A copy of the weights that does not fit would be swapped to disk, and reading would take hours.
    """
    room = int(0.8 * preflight.available()) // _worker_bytes(work.model)
    return min(most or min(torch.get_num_threads(), os.cpu_count() or 1), len(work.units), room)


def _total_memory() -> int:
    """Bytes of memory of the machine, or of its container where that has a limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return machine if text == "max" else min(machine, int(text))
