"""Rows on disk: shards written once, commits that make them count. The protocol is `docs/store.md`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from theodolite.core.atomic import contents, is_temporary, publish, remove
from theodolite.core.errors import Damaged, UserError, unknown
from theodolite.store import keys
from theodolite.store.shards import nonfinite_rows, serialised


@dataclass(frozen=True)
class Commit:
    """One finished unit: which shard holds it, what its bytes hash to, and what is in it."""

    unit: int
    shard: str
    sha256: str
    size: int
    rows: dict[str, int]
    nonfinite: int
    seconds: float


@dataclass(frozen=True)
class Problem:
    """Something in a store that does not count, and the files that `repair` removes for it, in that order."""

    text: str
    files: tuple[Path, ...]


@dataclass
class Store:
    """A folder of shards under one key."""

    folder: Path
    key: str
    _checked: set[int] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, folder: str | Path, key_fields: Mapping[str, Any]) -> "Store":
        """Open or create the store of exactly these fields; a folder that holds another key is refused.

        `key_fields` are everything that decides the rows, in JSON values: model hash, tokenizer, texts, sites,
        positions, dtype, unit size. The number of workers is not among them.
        """
        folder, wanted = Path(folder), keys.manifest(key_fields)
        path = folder / "manifest.json"
        if path.is_file():
            keys.check(path, wanted)
        elif contents(folder):
            raise Damaged(f"{folder} holds files but no manifest.json, so it is not a store: choose an empty folder")
        else:
            publish(path, keys.canonical(wanted))
        return cls(folder, str(wanted["key"]))

    def missing(self, n_units: int) -> list[int]:
        """Units of `range(n_units)` that have no commit yet."""
        return [unit for unit in range(n_units) if not self.has(unit)]

    def has(self, unit: int) -> bool:
        """Return whether a unit is finished."""
        return self._commit_path(unit).is_file()

    def write(
        self, unit: int, tensors: Mapping[str, Any], *, seconds: float = 0.0, allow_nonfinite: bool = False
    ) -> Commit:
        """Publish the rows of one unit (all numpy, or all torch), then its commit; returns the commit that counts.

        Rows with NaN or infinities are refused, or with `allow_nonfinite` counted in the commit. A unit that is
        committed already keeps its first rows, also where other bytes came out (non-deterministic kernels).
        """
        bad = nonfinite_rows(tensors)
        if sum(bad.values()) and not allow_nonfinite:
            worst = max(bad, key=lambda name: bad[name])
            raise UserError(
                f"unit {unit}: {bad[worst]} rows of {worst!r} are NaN or infinite, nothing was written: "
                "use dtype='float32', or look at the texts of this unit"
            )
        content = serialised(tensors)
        digest = hashlib.sha256(content).hexdigest()
        if self.has(unit):
            return self.commit(unit)
        shard = f"{unit:06d}-{digest[:16]}.safetensors"
        rows = {name: int(tensor.shape[0]) for name, tensor in tensors.items()}
        commit = Commit(unit, shard, digest, len(content), rows, sum(bad.values()), round(seconds, 3))
        publish(self.folder / "shards" / shard, content)
        publish(self._commit_path(unit), keys.canonical(asdict(commit)))
        return commit

    def commit(self, unit: int) -> Commit:
        """The commit of a finished unit."""
        path = self._commit_path(unit)
        try:
            commit = Commit(**json.loads(path.read_bytes()))
            foreign = commit.unit != unit or Path(commit.shard).name != commit.shard
        except FileNotFoundError:
            raise UserError(f"unit {unit} of {self.folder} is not finished: run the same command again") from None
        except (ValueError, TypeError):
            raise Damaged(f"{path} is damaged: {self._remedy}") from None
        if foreign:
            raise Damaged(f"{path} names another unit or folder: {self._remedy}")
        return commit

    def read(self, unit: int, names: Sequence[str] | None = None, *, framework: str = "pt") -> dict[str, Any]:
        """The tensors of one unit (all, or some by name) as torch ("pt") or numpy ("np"); its hash is checked once."""
        from safetensors import safe_open

        commit = self.commit(unit)
        path = self.folder / "shards" / commit.shard
        if unit not in self._checked:
            if damage := _damage(path, commit, deep=True):
                raise Damaged(f"{damage}: {self._remedy}")
            self._checked.add(unit)
        for name in names or ():
            if name not in commit.rows:
                raise unknown("tensor", name, commit.rows)
        with safe_open(path, framework=framework) as shard:
            return {name: shard.get_tensor(name) for name in names or commit.rows}

    def units(self) -> list[int]:
        """The finished units, in order."""
        return sorted(int(path.stem) for path in (self.folder / "commits").glob("[0-9]*.json"))

    def verify(self, *, deep: bool = False) -> list[Problem]:
        """Find what is wrong: missing or damaged shards (`deep` hashes each), damaged commits, orphaned files."""
        problems: list[Problem] = []
        committed: set[Path] = set()
        for unit in self.units():
            path = self._commit_path(unit)
            try:
                commit = self.commit(unit)
            except UserError as error:
                problems.append(Problem(str(error), (path,)))
                continue
            shard = self.folder / "shards" / commit.shard
            committed.add(shard)
            if damage := _damage(shard, commit, deep=deep):
                problems.append(Problem(damage, (path, shard)))
        shards = set((self.folder / "shards").glob("*.safetensors")) - committed
        stray = sorted(shards | {path for path in self.folder.rglob("*") if is_temporary(path)})
        return problems + [Problem(f"{path} was never committed", (path,)) for path in stray]

    def repair(self) -> list[Problem]:
        """Remove what `verify(deep=True)` finds; damaged units are missing afterwards, so the same command redoes them.

        A commit goes before its shard, so that dying in between leaves nothing half. No writer may run meanwhile.
        """
        problems = self.verify(deep=True)
        for problem in problems:
            for path in problem.files:
                remove(path)
        return problems

    @property
    def _remedy(self) -> str:
        return f"delete {self.folder} and run the same command again"

    def _commit_path(self, unit: int) -> Path:
        return self.folder / "commits" / f"{unit:06d}.json"


def _damage(path: Path, commit: Commit, *, deep: bool) -> str:
    """Return what is wrong with a committed shard, or nothing."""
    if not path.is_file():
        return f"{path} is missing"
    if path.stat().st_size != commit.size:
        return f"{path} has {path.stat().st_size} bytes instead of {commit.size}"
    if deep and hashlib.sha256(path.read_bytes()).hexdigest() != commit.sha256:
        return f"{path} is damaged (its sha256 is not the committed one)"
    if deep and commit.rows != _rows(path):  # the commit has no hash of its own
        return f"{path} holds other tensors than its commit names"
    return ""


def _rows(shard: Path) -> dict[str, int]:
    """Rows of each tensor, out of a shard's header."""
    from safetensors import safe_open

    with safe_open(shard, framework="np") as file:
        return {name: int(file.get_slice(name).get_shape()[0]) for name in file.keys()}  # noqa: SIM118
