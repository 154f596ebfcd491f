"""When an intervention acts: on the tokens whose coordinate lies in a range."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from theodolite.core.basis import Basis, Subspace, basis_from_json
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.site import Site

if TYPE_CHECKING:
    from torch import Tensor

    from theodolite.core.rules import PassContext


@dataclass(frozen=True, eq=False)
class Condition:
    """Tokens at which every coordinate z of the basis is above and below the given numbers.

    With `cosine`, z is the cosine of the state with each vector of a direction or subspace, so that a bound does not
    depend on the length of states. `fit_condition` finds the bound on labelled rows.

    z is read at `site`, or where none is given, where the intervention reads; in both cases before the intervention.
    Each token is decided by its own state, so that a prompt that is read at once and one that is read with a
    key/value cache are treated alike. With `since`, tokens at these positions decide for all that follow them: the
    intervention acts from the first of them on that fulfils the condition, in each text by itself. So a decision that
    is taken at `last`, the end of the prompt, holds while an answer is generated.

    >>> from theodolite.core.basis import Direction
    >>> Condition(Direction([0.0, 2.0]), above=1.5, site="blocks.3.resid_post")
    Condition(1.5 < Direction(k=1, d_model=2), at blocks.3.resid_post)
    """

    basis: Basis
    above: float | None = None
    below: float | None = None
    site: Site | None = None
    since: Positions | None = None
    cosine: bool = False

    def __post_init__(self) -> None:
        if self.site is not None:
            object.__setattr__(self, "site", Site.parse(self.site))
        if self.since is not None:
            object.__setattr__(self, "since", Positions.parse(self.since))
        bounds = [bound for bound in (self.above, self.below) if bound is not None]
        if not bounds or not all(isinstance(bound, Real) and math.isfinite(bound) for bound in bounds):
            raise UserError(
                f"a condition needs a finite number above, below or both; it got {self.above}, {self.below}"
            )
        if len(bounds) == 2 and bounds[0] >= bounds[1]:
            raise UserError(f"nothing lies above {self.above} and below {self.below}")
        if not isinstance(self.cosine, bool):
            raise UserError(f"cosine is {self.cosine!r}: give true or false")
        if self.cosine and not isinstance(self.basis, Subspace):
            raise UserError(f"{self.basis} has no cosine: give a Direction or a Subspace, or leave out cosine=True")

    def numbers(self, h: "Tensor") -> "Tensor":
        """Return the numbers (..., k) of states (..., d) that the bounds are for."""
        return self.basis.cosine(h) if self.cosine and isinstance(self.basis, Subspace) else self.basis.encode(h)

    def __call__(self, h: "Tensor") -> "Tensor":
        """Return which tokens (n, t) of states (n, t, d) fulfil it."""
        low, high = (-math.inf if self.above is None else self.above, math.inf if self.below is None else self.below)
        z = self.numbers(h)
        return ((z > low) & (z < high)).all(-1)

    def chosen(self, h: "Tensor", context: "PassContext") -> "Tensor":
        """Return at which tokens (n, t) of a pass the intervention acts, from the states (n, t, d) that are asked."""
        fulfilled = self(h)
        if self.since is None:
            return fulfilled
        here = context.tokens_at(self.since)
        begun = (fulfilled.to(here.device) & here).cumsum(1) > 0
        before = context.recall("when")  # of the columns that earlier passes have seen
        if before is not None:
            begun = begun | before.unsqueeze(1)
        context.keep(begun[:, -1], "when")
        return begun

    def to_json(self) -> dict[str, Any]:
        """Return a form that `from_json` reads."""
        bounds = {"above": self.above, "below": self.below}
        found: dict[str, Any] = {name: float(bound) for name, bound in bounds.items() if bound is not None}
        found |= {} if self.site is None else {"site": str(self.site)}
        found |= {} if self.since is None else {"since": str(self.since)}
        found |= {"cosine": True} if self.cosine else {}
        return {"basis": self.basis.to_json()} | found

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "Condition":
        """Return the condition that a JSON form describes."""
        if extra := set(form) - {"basis", "above", "below", "site", "since", "cosine"}:
            raise UserError(f"a condition has no {sorted(extra)}")
        basis = basis_from_json(form.get("basis", {}), dictionaries)
        bounds = form.get("above"), form.get("below")
        return cls(basis, *bounds, form.get("site"), form.get("since"), form.get("cosine", False))

    def __repr__(self) -> str:
        low = "" if self.above is None else f"{self.above} < "
        high = "" if self.below is None else f" < {self.below}"
        rarer = (f", at {self.site}" if self.site else "") + (f", since {self.since}" if self.since else "")
        what = f"cosine with {self.basis}" if self.cosine else f"{self.basis}"
        return f"Condition({low}{what}{high}{rarer})"
