"""Rules of interventions on the coordinates z: one small class per rule, named in JSON by its lower-case name."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from theodolite.core.basis import pack, unpack
from theodolite.core.discover import Registry, name_in_json, registered
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.core.tensors import Constant, detached, is_tensor, like

if TYPE_CHECKING:
    from torch import Tensor


class PassContext(Protocol):
    """The forward pass under way, as far as a rule may see it."""

    @property
    def basis(self) -> Any:
        """The intervention's basis."""

    @property
    def selected(self) -> "Tensor":
        """The tokens (n, t) of this pass at the intervention's positions; padding is none of them."""

    def encode(self, h: "Tensor") -> "Tensor":
        """Coordinates of states in the intervention's basis."""

    def tokens_at(self, positions: Positions) -> "Tensor":
        """The tokens (n, t) of this pass at other positions."""

    def recall(self, name: str = "") -> "Tensor | None":
        """Return what this intervention kept at the columns before those of this pass, None before a text's first."""

    def keep(self, value: "Tensor", name: str = "") -> None:
        """Keep a value, one row per text (n, ...), for the next pass over these texts."""

    def at(self, site: Site) -> "Tensor":
        """The state at an earlier site of the same pass."""

    def aligned(self, values: "np.ndarray | Tensor") -> "Tensor":
        """Donor states (d), (t, d) or (n, t, d) on the tokens of this pass."""

    def per_text(self, values: "np.ndarray | Tensor", z: "Tensor") -> "Tensor":
        """Numbers of each text of the call, (n) or (n, 1 or t, 1 or k), on the texts and tokens of this pass."""


class Rule(Protocol):
    """z' = g(z).

    A dataclass of numbers, arrays and sites has a JSON form once it is registered: a package of yours names it as an
    entry point, the class's name in lower case, in the group `theodolite.rules`.

    A rule with `remembers = True` is also called where none of its tokens is in a pass, and may keep values between
    the passes over a text by the context's `keep` and `recall`. What it makes of a token may depend on that token and
    those before it only: then a key/value cache changes the speed and nothing else.
    """

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        """The new coordinates; `z` is left as it is."""


@dataclass(frozen=True, eq=False)
class Add:
    """z + strength.

    Here and in Clamp, Scale and Piecewise a strength is a number, one per coordinate (k), or one per text: (n) where
    there is one coordinate, else (n, 1, 1), (n, 1, k) or per token (n, t, k), texts in the order of the call. A tensor
    gets its gradient in a pass with gradients. `at` is the same rule with another strength.
    """

    strength: Any = 1.0

    def __post_init__(self) -> None:
        _keep(self, "strength")

    def at(self, strength: Any) -> "Add":
        return Add(strength)

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        return z + _on(self, z, context)


@dataclass(frozen=True, eq=False)
class Clamp:
    """z becomes `value`, whatever it was."""

    value: Any

    def __post_init__(self) -> None:
        _keep(self, "value")

    def at(self, value: Any) -> "Clamp":
        return Clamp(value)

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        return _on(self, z, context).expand_as(z)


@dataclass(frozen=True, eq=False)
class Scale:
    """z times `factor`: 1 changes nothing, 0 removes, -1 mirrors."""

    factor: Any

    def __post_init__(self) -> None:
        _keep(self, "factor")

    def at(self, factor: Any) -> "Scale":
        return Scale(factor)

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        return z * _on(self, z, context)


@dataclass(frozen=True, eq=False)
class Piecewise:
    """z + strength * sign(z): a direction's coordinate grows away from 0 on the side where it is (Zou et al. 2023).

    With a negative strength it shrinks towards 0 and, where it was smaller, changes sides.
    """

    strength: Any = 1.0

    def __post_init__(self) -> None:
        _keep(self, "strength")

    def at(self, strength: Any) -> "Piecewise":
        return Piecewise(strength)

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        return z + _on(self, z, context) * z.sign()


@dataclass(frozen=True, eq=False)
class Rotate:
    """A whole state turned by `angle` (radians) in the plane of it and `vector`, towards the vector; its norm stays.

    For the basis Identity. A negative angle turns away from the vector. A state along the vector spans no plane with
    it and is left as it is. The angle is a number, or one per text: (n) or (n, 1, 1).
    """

    vector: Any
    angle: Any = 0.0

    def __post_init__(self) -> None:
        if np.ndim(detached(self.vector)) != 1 or not np.any(detached(self.vector)):
            raise UserError(f"a rotation needs one vector other than zero, not shape {np.shape(detached(self.vector))}")
        _keep(self, "vector", "_axis")
        _keep(self, "angle")

    def at(self, angle: Any) -> "Rotate":
        return Rotate(self.vector, angle)

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        axis, numbers = like(vars(self)["_axis"], z), vars(self)["_numbers"]
        if axis.shape != z.shape[-1:]:
            raise UserError(f"a rotation towards a vector of {len(axis)} numbers, the states have {z.shape[-1]}")
        values = numbers if is_tensor(numbers) else numbers.array
        angle = context.per_text(values, z[..., :1]) if values.shape else like(numbers, z)
        unit, norm = axis / axis.norm(), z.norm(dim=-1, keepdim=True)
        upright = unit - z * ((z @ unit).unsqueeze(-1) / norm.square().clamp_min(1e-30))  # v less its part along z
        length = upright.norm(dim=-1, keepdim=True)  # sine of the angle between z and v
        turned = z * angle.cos() + upright * (angle.sin() * norm / length.clamp_min(1e-30))
        return turned.where(length > 1e-6, z)


@dataclass(frozen=True)
class Zero:
    """z becomes 0: with a direction this projects it out."""

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        return z.new_zeros(z.shape)


@dataclass(frozen=True, eq=False)
class Mean:
    """z becomes its mean over the rows (n, d) of a reference, encoded in the same basis."""

    reference: Any

    def __post_init__(self) -> None:
        if np.ndim(detached(self.reference)) != 2:
            raise UserError(f"the reference of a mean has rows (n, d), not shape {np.shape(detached(self.reference))}")
        _keep(self, "reference")
        object.__setattr__(self, "_means", {})

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        # a mean over many rows, at every pass: kept for each basis, as long as nothing in it can change
        key, means = (context.basis, z.device, z.dtype), vars(self)["_means"]
        if is_tensor(self.reference) or not getattr(context.basis, "is_constant", False):
            return context.encode(like(self.reference, z)).mean(0).expand_as(z)
        if key not in means:
            means[key] = Constant(context.encode(like(vars(self)["_numbers"], z)).mean(0).detach().cpu())
        return like(means[key], z).expand_as(z)

    def __repr__(self) -> str:
        n = len(self.reference)
        return f"Mean({n} row{'s' if n > 1 else ''})"


@dataclass(frozen=True, eq=False)
class Patch:
    """z becomes that of a donor: states of another run, or of an earlier site of this one (a Site or its name).

    States have shape (d), (t, d) or (n, t, d), tokens counted as in the run that they are patched into.
    """

    source: Any

    def __post_init__(self) -> None:
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Site.parse(self.source))
        if not isinstance(self.source, Site):
            _check_finite("donor", self.source)

    def __call__(self, z: "Tensor", context: PassContext) -> "Tensor":
        donor = context.at(self.source) if isinstance(self.source, Site) else context.aligned(self.source)
        return context.encode(donor).to(z.dtype).expand_as(z)


def rules() -> Registry:
    """Return the class of every rule that has a JSON form, by name: ours and those of installed packages."""
    return registered([Add, Clamp, Scale, Piecewise, Rotate, Zero, Mean, Patch], "theodolite.rules", "rule")


def is_alike(rule: Any) -> bool:
    """Return whether a rule is sure to do the same to equal texts: it is ours, and holds no numbers of each text.

    An array counts as such numbers, whatever its shape: how many coordinates there are, only a basis knows.
    """
    if isinstance(rule, Zero | Mean):
        return True
    if isinstance(rule, Rotate):
        return np.ndim(detached(rule.angle)) == 0
    ours = isinstance(rule, Add | Clamp | Scale | Piecewise | Patch)
    values = [getattr(rule, field.name) for field in fields(rule)] if ours else []
    return ours and all(isinstance(value, Site) or np.ndim(detached(value)) == 0 for value in values)


def rule_to_json(rule: Any) -> dict[str, Any]:
    """Return the JSON form of a registered rule.

    >>> rule_to_json(Add(2.5)), rule_to_json(Patch(Site.parse("blocks.1.resid_pre")))
    ({'rule': 'add', 'strength': 2.5}, {'rule': 'patch', 'source': {'site': 'blocks.1.resid_pre'}})
    """
    name, known = name_in_json(type(rule)), rules()
    if name not in known or known[name] is not type(rule):
        raise UserError(f"rule {rule!r} has no JSON form: only {', '.join(known)} have")
    cls: Any = known[name]
    return {"rule": name} | {field.name: _value_to_json(getattr(rule, field.name)) for field in fields(cls)}


def rule_from_json(form: dict[str, Any]) -> Any:
    """Return the rule that a JSON form describes."""
    values = dict(form)
    name = str(values.pop("rule", ""))
    cls: Any = rules()[name]
    known = [field.name for field in fields(cls)]
    if sorted(values) != sorted(known):
        raise UserError(f"rule {name!r} takes {known}, got {sorted(values)}")
    return cls(**{key: _value_from_json(value) for key, value in values.items()})


def _check_finite(name: str, value: Any) -> None:
    """Refuse NaN and what is infinite in float32, in which states are changed."""
    try:
        numbers = detached(value)
        with np.errstate(over="ignore"):
            bad = int((~np.isfinite(np.asarray(numbers, np.float32))).sum())
    except (TypeError, ValueError):
        raise UserError(f"{name} is {value!r}: give a number or an array of numbers") from None
    if bad:
        raise UserError(f"{name} holds {bad} NaN or infinite numbers (of {numbers.size}, as float32)")


def _keep(rule: Any, name: str, kept: str = "_numbers") -> None:
    """Check the numbers of a rule, and keep an array as one that nobody can write into."""
    value = getattr(rule, name)
    _check_finite(name, value)
    if not is_tensor(value):
        numbers = Constant(value)
        object.__setattr__(rule, kept, numbers)
        if np.ndim(value):
            object.__setattr__(rule, name, numbers.array)
    else:
        object.__setattr__(rule, kept, value)


def _on(rule: Any, z: "Tensor", context: PassContext) -> "Tensor":
    """The numbers of a rule as they meet coordinates z (n, t, k); one axis alone counts coordinates, else texts."""
    numbers = vars(rule)["_numbers"]
    values = numbers.array if isinstance(numbers, Constant) else numbers
    if not values.shape or values.shape == z.shape[-1:]:
        return like(numbers, z)
    return context.per_text(values, z)


def _value_to_json(value: Any) -> Any:
    if isinstance(value, Site):
        return {"site": str(value)}
    numbers = detached(value)
    return float(numbers) if numbers.ndim == 0 else pack(numbers)


def _value_from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return Site.parse(value["site"]) if "site" in value else unpack(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise UserError(f"{value!r} is not a finite number")
    return float(value)
