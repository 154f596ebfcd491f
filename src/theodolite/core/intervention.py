"""A change to a forward pass: h' = h + W_D (g(z) - z) with z = E(h), at one site and on chosen tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from theodolite.core.basis import Basis, Direction, Identity, Subspace, basis_from_json
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.rules import Add, Clamp, Now, Patch, Rule, Zero, rule_from_json, rule_to_json
from theodolite.core.site import Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Intervention:
    """One basis with one rule, at a site, on positions.

    The difference is taken before decoding: a rule that changes nothing gives back h bit for bit, and what the basis
    cannot express stays in h. With `read_site`, z is read there and the change is written at `site` (a transcoder's
    form). Several interventions at one site act in the order of their list.

    >>> Intervention.project_out("blocks.3.resid_post", [1.0, 0.0], positions="content")
    Intervention(blocks.3.resid_post, Zero(), Subspace(k=1, d_model=2), on content)
    """

    site: Site
    rule: Rule
    basis: Basis = field(default_factory=Identity)
    positions: Positions = field(default_factory=lambda: Positions("all"))
    read_site: Site | None = None

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
    def add(cls, site: Any, vector: Any, strength: float = 1.0, positions: Any = "all") -> "Intervention":
        """Add `strength` times a vector."""
        return cls(Site.parse(site), Add(strength), Direction(vector), Positions.parse(positions))

    @classmethod
    def project_out(cls, site: Any, vectors: Any, positions: Any = "all") -> "Intervention":
        """Remove the component along a vector, or along the span of several."""
        return cls(Site.parse(site), Zero(), Subspace(vectors), Positions.parse(positions))

    @classmethod
    def clamp(cls, site: Any, vector: Any, value: float, positions: Any = "all") -> "Intervention":
        """Set the component along a vector to `value` times that vector."""
        return cls(Site.parse(site), Clamp(value), Direction(vector), Positions.parse(positions))

    @classmethod
    def patch(cls, site: Any, source: Any, basis: Basis | None = None, positions: Any = "all") -> "Intervention":
        """Put in the states of a donor, in the whole stream or in the coordinates of a basis."""
        return cls(Site.parse(site), Patch(source), basis or Identity(), Positions.parse(positions))

    @classmethod
    def skip(cls, block: int, positions: Any = "all") -> "Intervention":
        """Leave out a block: its output becomes its input."""
        return cls.patch(Site(block, "resid_post"), Site(block, "resid_pre"), positions=positions)

    def sources(self) -> list[Site]:
        """Sites of the same pass that must be seen before this one can act."""
        source = getattr(self.rule, "source", None)
        return [site for site in (self.read_site, source) if isinstance(site, Site)]

    def apply(self, h: "Tensor", read: "Tensor", selected: "Tensor", now: Now) -> "Tensor":
        """The changed state; `selected` (n, t) says which tokens, the others are returned untouched.

        Half-precision states are changed in float32 and rounded once.
        """
        wide, seen = (_at_least_float32(x) for x in (h, read))
        if isinstance(self.basis, Identity) and self.read_site is None:
            new = self.rule(wide, now)  # h' = g(h): no sum to round, so that a patched state is the donor's
        else:
            z = self.basis.encode(seen)
            new = wide + self.basis.decode(self.rule(z, now) - z)
        return new.to(h.dtype).where(selected.unsqueeze(-1), h)

    def to_json(self) -> dict[str, Any]:
        """A form that `from_json` reads; basis and rule must be ones that have a JSON form."""
        read = {"read_site": str(self.read_site)} if self.read_site else {}
        where = {"site": str(self.site), "positions": str(self.positions)}
        return where | {"rule": rule_to_json(self.rule), "basis": self.basis.to_json()} | read

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "Intervention":
        """Return the intervention that a JSON form describes; latents are those of a dictionary among the given."""
        if extra := set(form) - {"site", "positions", "rule", "basis", "read_site"}:
            raise UserError(f"an intervention has no {sorted(extra)}")
        read = Site.parse(form["read_site"]) if "read_site" in form else None
        rule, basis = rule_from_json(form["rule"]), basis_from_json(form["basis"], dictionaries)
        return cls(Site.parse(form["site"]), rule, basis, Positions.parse(form["positions"]), read)

    def __repr__(self) -> str:
        read = f", read at {self.read_site}" if self.read_site else ""
        return f"Intervention({self.site}, {self.rule}, {self.basis}, on {self.positions}{read})"


def _at_least_float32(x: "Tensor") -> "Tensor":
    return x.float() if x.dtype.itemsize < 4 else x
