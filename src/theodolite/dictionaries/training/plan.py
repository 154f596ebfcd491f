"""The plan of one training run: every dictionary at every site, of every seed, and its controls."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theodolite.core.errors import UserError, unknown
from theodolite.core.site import Site
from theodolite.dictionaries.names import Spec, parse
from theodolite.dictionaries.training.learner import DECAY, FROZEN, Learner

CONTROLS = tuple(name for name in FROZEN if name)
CONTROL_SUFFIX = ".control"  # of the folder of a frozen-encoder control
_OLD_SUFFIX = ".twin"  # what version 0.1 called it
_JOINT = {"->": "pair", "+": "joined"}  # between sites: reads the first and writes the second; reads both
_WRITTEN = {"one": "SITE", "pair": "SITE->SITE", "joined": "SITE+SITE"}


@dataclass(frozen=True)
class TrainingPlan:
    """Everything the weights depend on beside model and rows.

    saes: specs as `names.parse` reads them. controls: the part that each control of a dictionary keeps frozen; a
    variant with nothing to freeze (PCA) has none. seeds: of the draws; the first also orders the rows, which all
    dictionaries of a run see alike.
    """

    sites: tuple[str, ...]
    saes: tuple[str, ...] = ("topk",)
    controls: tuple[str, ...] = ("encoder",)
    seeds: tuple[int, ...] = (0,)
    tokens: int = 2_000_000
    batch: int = 2048
    block_rows: int = 65_536

    def __post_init__(self) -> None:
        for name in ("sites", "saes", "controls", "seeds"):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, tuple(map(site_of, given)) if name == "sites" else given)
            if twice := {value for value in getattr(self, name) if getattr(self, name).count(value) > 1}:
                raise UserError(f"{name}: {', '.join(map(str, twice))} is named twice")
        for control in self.controls:
            if control not in CONTROLS:
                raise unknown("control", control, CONTROLS)
        for name in ("sites", "saes", "seeds"):
            if not getattr(self, name):
                raise UserError(f"nothing to train: give at least one of {name}")
        if self.steps < 1:
            raise UserError(f"{self.tokens} tokens are less than one batch: give at least {self.batch}")

    @property
    def seed(self) -> int:
        """Seed of the rows' order and of what is held out."""
        return self.seeds[0]

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    @property
    def reads(self) -> list[str]:
        """The sites at which rows are needed, in the order of a forward pass."""
        return [str(site) for site in sorted({Site.parse(part) for site in self.sites for part in parts(site)})]

    @property
    def block(self) -> int:
        """Rows read at a time: a short run reads no more than it trains on."""
        return min(self.block_rows, self.steps * self.batch)

    @property
    def curve(self) -> list[int]:
        """Points of the learning curve, in tokens: by factors of sqrt 2 up to the learning-rate decay, and the end."""
        return [*sorted({int((1 - DECAY) * self.tokens / 2 ** (j / 2)) for j in range(9)}), self.steps * self.batch]

    def request(self) -> dict[str, Any]:
        """The plan as JSON that two runs share if they make the same; a file of the user's own counts by its hash."""
        return vars(self) | {"saes": [parse(spec).identity for spec in self.saes]}

    def members(self, d_model: int) -> "dict[str, Member]":
        """Every dictionary of the run by its name; options that no dictionary can have are refused here."""
        specs = [parse(spec) for spec in self.saes]
        plain = len(specs) * len(self.seeds) == 1
        found: dict[str, Member] = {}
        for site, spec in _placed(self.sites, specs):
            for seed in self.seeds:
                one = Member(site, spec, seed, "", "" if plain else f".{spec.slug}-{seed}")
                one.learner(d_model, self.steps)
                if one.name in found:
                    raise UserError(f"dictionary {str(spec)!r} is named twice")
                controls = [replace(one, frozen=frozen) for frozen in self.controls]
                found |= {m.name: m for m in (one, *controls) if not m.frozen or m.freezes(d_model, self.steps)}
        return found


def existing(path: Path) -> Path:
    """The folder of a trained dictionary: `path`, or the one that version 0.1 wrote in its place (`.twin`).

    >>> existing(Path("runs/blocks.9.resid_post.control")).name
    'blocks.9.resid_post.control'
    """
    site, found, part = path.name.rpartition(CONTROL_SUFFIX)
    old = path.with_name(site + _OLD_SUFFIX + part)
    return old if found and old.is_dir() and not path.exists() else path


@dataclass(frozen=True)
class Member:
    """One dictionary of a run: where it reads, what it is, and which part of it is frozen."""

    site: str
    spec: Spec
    seed: int
    frozen: str
    tail: str = ""

    @property
    def name(self) -> str:
        """Name of its folder: the site, options where there are several, and `.control` (frozen encoder) or
        `.control-PART`.
        """
        control = {"": "", "encoder": CONTROL_SUFFIX}.get(self.frozen, f"{CONTROL_SUFFIX}-{self.frozen}")
        return self.site.replace("->", "--to--") + self.tail + control

    @property
    def where(self) -> dict[str, Any]:
        """Sites for its record; a transcoder's is the one it writes."""
        several = parts(self.site)
        if kind(self.site) == "pair":
            return {"read_site": several[0], "site": several[1]}
        return {"site": self.site} | ({"sites": several} if len(several) > 1 else {})

    def learner(self, d_model: int, steps: int) -> Learner:
        """The dictionary before its first step."""
        d_in = d_model * (len(parts(self.site)) if kind(self.site) == "joined" else 1)
        return self.spec.learner(d_in, seed=self.seed, frozen=self.frozen, steps=steps)

    def freezes(self, d_model: int, steps: int) -> bool:
        """Return whether the variant has the part that this control freezes; without it, it is known to be sound."""
        try:
            self.learner(d_model, steps)
        except UserError:
            return False
        return True

    def inputs(self, at: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Arguments of `partial_fit` from rows by site: (x,), of a pair (x, y), of joined sites both side by side."""
        rows = tuple(at[part] for part in parts(self.site))
        return (torch.cat(rows, dim=1),) if kind(self.site) == "joined" else rows


def parts(site: str) -> list[str]:
    """The single sites of `A`, `A->B` or `A+B`.

    >>> parts("blocks.1.resid_mid->blocks.1.mlp_out")
    ['blocks.1.resid_mid', 'blocks.1.mlp_out']
    """
    return re.split(r"->|\+", site)


def kind(site: str) -> str:
    """`one`, `pair` or `joined`, as the class attribute `sites` of a variant says it."""
    return next((name for mark, name in _JOINT.items() if mark in site), "one")


def site_of(text: Any) -> str:
    """One or two sites in their own spelling; what is no site is refused."""
    text = str(text)
    found = [str(Site.parse(part.strip())) for part in parts(text)]
    joint = [mark for mark in _JOINT for _ in range(text.count(mark))]
    if len(joint) > 1:
        raise UserError(f"{text!r} joins too many sites: write {', '.join(_WRITTEN.values())}")
    return (joint[0] if joint else "").join(found)


def _placed(sites: tuple[str, ...], specs: list[Spec]) -> list[tuple[str, Spec]]:
    """Every spec at every site of its kind; one without a site, or a site without one, is refused."""
    wanted = {str(spec): getattr(spec.cls, "sites", "one") for spec in specs}
    for spec, reads in wanted.items():
        if not any(kind(site) == reads for site in sites):
            raise UserError(
                f"dictionary {spec!r} needs a site written as {_WRITTEN[reads]} (given: {', '.join(sites)})"
            )
    for site in sites:
        if kind(site) not in wanted.values():
            raise UserError(f"no dictionary of this run reads a site like {site!r}: each has its own form of --sites")
    return [(site, spec) for site in sites for spec in specs if wanted[str(spec)] == kind(site)]
