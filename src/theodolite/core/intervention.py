"""A change to a forward pass: h' = h + W_D (g(z) - z) with z = E(h), at one site and on chosen tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from theodolite.core.basis import Basis, Direction, Identity, Subspace, basis_from_json
from theodolite.core.block_order import BlockOrder
from theodolite.core.condition import Condition
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.rules import (
    Add,
    Clamp,
    Mean,
    PassContext,
    Patch,
    Piecewise,
    Rotate,
    Rule,
    Scale,
    Zero,
    is_alike,
    rule_from_json,
    rule_to_json,
)
from theodolite.core.site import Site
from theodolite.core.tensors import detached, is_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Intervention:
    """One basis with one rule, at a site, on positions.

    The difference is taken before decoding: a rule that changes nothing gives back h bit for bit, and what the basis
    cannot express stays in h. With `read_site`, z is read there and the change is written at `site` (a transcoder's
    form). Several interventions at one site act in the order of their list.

    keep_norm: the changed state is scaled to the length that it had before.
    when: a `Condition`; tokens that do not fulfil it are left as they were.

    It changes nothing by itself: each method of a `Model` takes `interventions=[...]`, in whose list `BlockOrder` may
    stand too. A strength may be a number for each text of the call.

    >>> Intervention.project_out("blocks.3.resid_post", [1.0, 0.0], positions="content")
    Intervention(blocks.3.resid_post, Zero(), Subspace(k=1, d_model=2), on content)
    """

    site: Site
    rule: Rule
    basis: Basis = field(default_factory=Identity)
    positions: Positions = field(default_factory=lambda: Positions("all"))
    read_site: Site | None = None
    keep_norm: bool = False
    when: Condition | None = None

    def __post_init__(self) -> None:
        # names are as good as the values they stand for
        object.__setattr__(self, "site", Site.parse(self.site))
        object.__setattr__(self, "positions", Positions.parse(self.positions))
        if self.read_site is not None:
            object.__setattr__(self, "read_site", Site.parse(self.read_site))
        for source in self.sources():
            if self.site < source:
                raise UserError(f"{str(source)!r} comes after {str(self.site)!r} and cannot be read there")
        if self.read_site is None and getattr(self.basis, "reads_elsewhere", False):
            raise UserError(f"{self.basis} are latents of a transcoder: say by read_site which site it reads")

    @classmethod
    def add(
        cls, site: Any, vector: Any, strength: Any = 1.0, positions: Any = "all", **modifiers: Any
    ) -> "Intervention":
        """Add `strength` times a vector; either may be a tensor with a gradient. Modifiers: `keep_norm` and `when`."""
        return cls(site, Add(strength), Direction(vector), positions, **modifiers)

    @classmethod
    def ablate(cls, site: Any, vectors: Any, mean: Any, positions: Any = "all", **modifiers: Any) -> "Intervention":
        """Set the component along a vector, or in the span of several, to that of a mean state: h - V (V^+ (h - mean)).

        This is the removal to take by default: it leaves no difference along the vectors and the states around where
        the model expects them. Zero is no neutral value (`project_out`): on one model the projection of a language's
        direction to zero moved the log-odds of that language by 4 nats. `mean`: a state (d), such as the mean over
        neutral texts, or rows (n, d) whose mean is taken.

        >>> Intervention.ablate("blocks.3.resid_post", [1.0, 0.0], mean=[5.0, 7.0])
        Intervention(blocks.3.resid_post, Mean(1 row), Subspace(k=1, d_model=2), on all)
        """
        rows = mean if is_tensor(mean) else detached(mean)
        return cls(site, Mean(rows[None] if rows.ndim == 1 else rows), Subspace(vectors), positions, **modifiers)

    @classmethod
    def project_out(cls, site: Any, vectors: Any, positions: Any = "all", **modifiers: Any) -> "Intervention":
        """Set the component along a vector, or in the span of several, to zero; `ablate` is the milder removal."""
        return cls(site, Zero(), Subspace(vectors), positions, **modifiers)

    @classmethod
    def clamp(cls, site: Any, vector: Any, value: Any, positions: Any = "all", **modifiers: Any) -> "Intervention":
        """Set the component along a vector to `value` times that vector."""
        return cls(site, Clamp(value), Direction(vector), positions, **modifiers)

    @classmethod
    def scale(cls, site: Any, vector: Any, factor: Any, positions: Any = "all", **modifiers: Any) -> "Intervention":
        """Multiply the component along a vector by a factor: 0 removes it, -1 mirrors the state."""
        return cls(site, Scale(factor), Direction(vector), positions, **modifiers)

    @classmethod
    def piecewise(
        cls, site: Any, vector: Any, strength: Any = 1.0, positions: Any = "all", **modifiers: Any
    ) -> "Intervention":
        """Add `strength` times the vector with the sign of its component: h + strength sign(h.v) v."""
        return cls(site, Piecewise(strength), Direction(vector), positions, **modifiers)

    @classmethod
    def rotate(cls, site: Any, vector: Any, angle: Any, positions: Any = "all", **modifiers: Any) -> "Intervention":
        """Turn the state by an angle (radians) towards a vector; its norm stays."""
        return cls(site, Rotate(vector, angle), Identity(), positions, **modifiers)

    @classmethod
    def replace(cls, site: Any, old: Any, new: Any, positions: Any = "all", **modifiers: Any) -> "Intervention":
        """Put the component along one direction onto another: h + (h.a) (b - a) for the unit vectors a and b.

        >>> Intervention.replace("blocks.3.resid_post", old=[2.0, 0.0], new=[0.0, 1.0]).basis.write_kd.tolist()
        [[1.0, -1.0]]
        """
        a, b = _unit("old", old), _unit("new", new)
        if np.allclose(detached(a), detached(b), atol=1e-6):
            raise UserError("old and new are one direction: nothing would be replaced")
        return cls(site, Zero(), Direction(a - b, read=a), positions, **modifiers)  # z (a - b) goes, so z b comes

    @classmethod
    def patch(
        cls, site: Any, source: Any, basis: Basis | None = None, positions: Any = "all", **modifiers: Any
    ) -> "Intervention":
        """Put in the states of a donor, in the whole stream or in the coordinates of a basis."""
        return cls(site, Patch(source), basis or Identity(), positions, **modifiers)

    @classmethod
    def skip(cls, block: int, positions: Any = "all") -> "Intervention":
        """Leave out a block at some tokens: its output becomes its input. `BlockOrder.skip` does not compute it."""
        return cls.patch(Site(block, "resid_post"), Site(block, "resid_pre"), positions=positions)

    def at(self, strength: Any) -> "Intervention":
        """Return the same intervention with another strength: what `Add` adds, `Clamp` sets or `Scale` multiplies by.

        >>> Intervention.add("blocks.3.resid_post", [1.0, 0.0]).at(-2.5).rule
        Add(strength=-2.5)
        """
        if not hasattr(self.rule, "at"):
            raise UserError(f"{self.rule} has no strength: Add, Clamp, Scale, Piecewise and Rotate have one")
        return replace(self, rule=self.rule.at(strength))

    @property
    def remembers(self) -> bool:
        """Return whether it keeps something from one pass over a text to the next, so that it must see all tokens."""
        latched = self.when is not None and self.when.since is not None
        return latched or bool(getattr(self.rule, "remembers", False))

    @property
    def is_alike(self) -> bool:
        """Return whether it is sure to do the same to texts that are equal, up to where they differ."""
        return is_alike(self.rule)

    def places(self) -> list[Positions]:
        """Return all positions that it asks for: where it acts, and where its condition is decided."""
        since = self.when.since if self.when is not None else None
        return [self.positions, *([since] if since is not None else [])]

    def sources(self) -> list[Site]:
        """Sites of the same pass that must be seen before this one can act."""
        source = getattr(self.rule, "source", None)
        asked = self.when.site if self.when is not None else None
        return [site for site in (self.read_site, source, asked) if isinstance(site, Site)]

    def apply(self, h: "Tensor", read: "Tensor", selected: "Tensor | None", context: PassContext) -> "Tensor":
        """Return the changed state; `selected` (n, t) says which tokens (None: all), the others stay untouched.

        Half-precision states are changed in float32 and rounded once.
        """
        wide = _at_least_float32(h)
        seen = wide if read is h else _at_least_float32(read)
        if isinstance(self.basis, Identity) and self.read_site is None:
            new = self.rule(wide, context)  # h' = g(h): no sum to round, so that a patched state is the donor's
        else:
            z = self.basis.encode(seen)
            new = wide + self.basis.decode(self.rule(z, context) - z)
        if self.keep_norm:
            new = _with_norm_of(wide, new)
        if self.when is not None:
            asked = seen if self.when.site is None else context.at(self.when.site)
            chosen = self.when.chosen(asked, context)
            selected = chosen if selected is None else selected & chosen
        new = new if new.dtype == h.dtype else new.to(h.dtype)  # a call that does nothing costs as much as an addition
        if selected is None:
            return new
        return new.where(selected.unsqueeze(-1), h)

    def to_json(self) -> dict[str, Any]:
        """A form that `from_json` reads; basis and rule must be ones that have a JSON form."""
        where = {"site": str(self.site), "positions": str(self.positions)}
        rarer: dict[str, Any] = {"read_site": str(self.read_site)} if self.read_site else {}
        rarer |= {"keep_norm": True} if self.keep_norm else {}
        rarer |= {"when": self.when.to_json()} if self.when is not None else {}
        return where | {"rule": rule_to_json(self.rule), "basis": self.basis.to_json()} | rarer

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "Intervention":
        """Return the intervention that a JSON form describes; latents are those of a dictionary among the given."""
        if extra := set(form) - {"site", "positions", "rule", "basis", "read_site", "keep_norm", "when"}:
            raise UserError(f"an intervention has no {sorted(extra)}")
        keep_norm, when = form.get("keep_norm", False), form.get("when")
        if not isinstance(keep_norm, bool):
            raise UserError(f"keep_norm is {keep_norm!r}: give true or false")
        condition = None if when is None else Condition.from_json(when, dictionaries)
        rule, basis = rule_from_json(form["rule"]), basis_from_json(form["basis"], dictionaries)
        return cls(form["site"], rule, basis, form["positions"], form.get("read_site"), keep_norm, condition)

    def __repr__(self) -> str:
        rarer = f", read at {self.read_site}" if self.read_site else ""
        rarer += ", keep_norm" if self.keep_norm else ""
        rarer += f", when {self.when}" if self.when is not None else ""
        return f"Intervention({self.site}, {self.rule}, {self.basis}, on {self.positions}{rarer})"


def change_from_json(form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> Intervention | BlockOrder:
    """Return the change of a pass that a JSON form describes: an intervention, or another order of blocks."""
    return BlockOrder.from_json(form) if "blocks" in form else Intervention.from_json(form, dictionaries)


def _unit(name: str, vector: Any) -> Any:
    """Return a vector with length 1; a tensor stays one, with its gradient."""
    values = vector if is_tensor(vector) else np.asarray(vector, np.float64)
    if values.ndim != 1 or not bool((values != 0).any()):
        raise UserError(f"{name} is no vector other than zero: it has shape {tuple(values.shape)}")
    return values / (values * values).sum() ** 0.5


def _at_least_float32(x: "Tensor") -> "Tensor":
    return x.float() if x.dtype.itemsize < 4 else x


def _with_norm_of(h: "Tensor", new: "Tensor") -> "Tensor":
    """Return new states with the norms of the old; one that did not change has a ratio of exactly 1.

    A state of zeros has no direction to scale: the smallest divisor leaves it at zero without a NaN.
    """
    old_norm, new_norm = (x.norm(dim=-1, keepdim=True) for x in (h, new))
    return new * (old_norm / new_norm.clamp_min(1e-30))
