"""A fitted way to push a model, its strength left open: along a vector, by latents, by neurons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from theodolite.control.policy import Intervened, Policy
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis, LatentDictionary
from theodolite.core.neurons import Neurons
from theodolite.core.positions import Positions
from theodolite.core.rules import Add, Clamp
from theodolite.core.site import Site
from theodolite.models.model import Model

CAP = 10.0  # times the difference of the class means; beyond it a state has left the support of natural ones


class Control(Protocol):
    """A fitted way to push a model towards (strength > 0) or away from (strength < 0) the positive class.

    method: its name in tables. site: the first place that it changes, None for one that changes logits or the prompt.
    cap: largest allowed size of a strength in the control's own units, infinite where there is none. has_dial: False
    for a control of one point, which is never interpolated. At strength 0 the policy is the model, bit for bit.
    """

    @property
    def method(self) -> str: ...
    @property
    def site(self) -> Site | None: ...
    @property
    def cap(self) -> float: ...
    @property
    def has_dial(self) -> bool: ...

    def at(self, strength: float) -> Policy:
        """Return the policy at a strength; one that is NaN or beyond the cap is an error."""


@dataclass(frozen=True, eq=False)
class VectorControl:
    """h + strength * v at a site, v (d) of length 1: strengths are in the units of the states.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> push = VectorControl.scaled(model, "difference_in_means", "blocks.1.resid_post", [3.0] + [0.0] * 31, 0.5)
    >>> float(push.vector[0]), push.cap, push.at(2.0).interventions[0].rule
    (1.0, 5.0, Add(strength=2.0))
    """

    model: Model
    method: str
    site: Site
    vector: np.ndarray
    cap: float = math.inf
    positions: Positions = field(default_factory=lambda: Positions("all"))
    has_dial: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", self.model.site(self.site))
        vector = np.asarray(self.vector, np.float32)
        if vector.ndim != 1 or not np.isclose(np.linalg.norm(vector), 1, atol=1e-4):
            raise UserError(
                f"the vector of a control has length 1, not shape {vector.shape} and length "
                f"{np.linalg.norm(vector):.4g}: use VectorControl.scaled"
            )
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "positions", Positions.parse(self.positions))
        _check_cap(self.cap)

    @classmethod
    def scaled(
        cls,
        model: Model,
        method: str,
        site: Site | str,
        vector: Sequence[float] | np.ndarray,
        class_distance: float,
        positions: Positions | str = "all",
    ) -> "VectorControl":
        """Return a control along a vector of any length; the cap is 10 times the distance of the class means there."""
        raw = np.asarray(vector, np.float64)
        length = float(np.linalg.norm(raw))
        if not (np.isfinite(length) and length > 0):
            raise UserError(f"the vector of {method} has length {length}: there is no direction to push along")
        return cls(
            model, method, model.site(site), raw / length, CAP * float(class_distance), Positions.parse(positions)
        )

    def at(self, strength: float) -> Intervened:
        if not check_strength(self, strength):
            return Intervened(self.model)
        return Intervened(self.model, (Intervention.add(self.site, self.vector, float(strength), self.positions),))


@dataclass(frozen=True, eq=False)
class LatentControl:
    """Sets each latent to strength * sign * its 99th percentile of firing, or with `adds` raises it by so much.

    `percentiles` (k) are positive; `signs` (k) are -1 for a latent that fires on the negative class. At strength 0 all
    are left as they are. A clamp jumps there: a strength near 0 sets the latents to nearly 0, which removes their
    natural firing, so that the disturbance may begin above 0 and fall before it rises. For many latents it begins so
    high (.64 nat for 32 latents of the default model's dictionary) that no small level can be matched; sets therefore
    add.
    """

    model: Model
    method: str
    site: Site
    dictionary: LatentDictionary
    latents: Sequence[int]
    percentiles: np.ndarray
    signs: np.ndarray | None = None
    cap: float = CAP
    positions: Positions = field(default_factory=lambda: Positions("all"))
    read_site: Site | None = None
    has_dial: bool = True
    adds: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", self.model.site(self.site))
        object.__setattr__(self, "positions", Positions.parse(self.positions))
        basis = LatentBasis(self.dictionary, self.latents)
        values = np.asarray(self.percentiles, np.float32)
        signs = np.ones_like(values) if self.signs is None else np.asarray(self.signs, np.float32)
        n = len(basis.latents)
        if values.shape != (n,) or signs.shape != (n,):
            raise UserError(f"{n} latents have {n} percentiles and signs, not {values.shape} and {signs.shape}")
        if not (np.isfinite(values).all() and (values > 0).all()):
            dead = int((~(values > 0)).sum())
            raise UserError(f"{dead} of {n} latents never fire: the 99th percentile of their firing must be above 0")
        if not np.isin(signs, (-1, 1)).all():
            raise UserError(f"signs of latents are 1 or -1, not {sorted(set(signs.tolist()))}")
        object.__setattr__(self, "percentiles", values)
        object.__setattr__(self, "signs", signs)
        object.__setattr__(self, "_basis", basis)
        _check_cap(self.cap)

    @property
    def basis(self) -> LatentBasis:
        """The latents as coordinates of an intervention."""
        return vars(self)["_basis"]

    def at(self, strength: float) -> Intervened:
        if not check_strength(self, strength):
            return Intervened(self.model)
        values = float(strength) * np.asarray(self.signs) * self.percentiles
        rule = Add(values) if self.adds else Clamp(values)
        return Intervened(self.model, (Intervention(self.site, rule, self.basis, self.positions, self.read_site),))


@dataclass(frozen=True, eq=False)
class NeuronControl:
    """Adds strength * the difference of the class means (k) on chosen neurons, single coordinates of a site of width d.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> push = NeuronControl(model, "neurons", "blocks.1.mlp_act", [3, 7], np.array([0.5, -1.0]), 48)
    >>> push.at(2.0).interventions[0].rule.strength.tolist()
    [1.0, -2.0]
    """

    model: Model
    method: str
    site: Site
    neurons: Sequence[int]
    difference: np.ndarray
    width: int
    cap: float = CAP
    positions: Positions = field(default_factory=lambda: Positions("all"))
    has_dial: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", self.model.site(self.site))
        object.__setattr__(self, "positions", Positions.parse(self.positions))
        basis = Neurons(self.neurons, self.width)
        difference = np.asarray(self.difference, np.float32)
        if difference.shape != (len(basis.neurons),):
            raise UserError(f"{len(basis.neurons)} neurons have as many differences, not shape {difference.shape}")
        if not (np.isfinite(difference).all() and difference.any()):
            raise UserError("the class means do not differ on any of these neurons: there is nothing to add")
        object.__setattr__(self, "difference", difference)
        object.__setattr__(self, "_basis", basis)
        _check_cap(self.cap)

    def at(self, strength: float) -> Intervened:
        if not check_strength(self, strength):
            return Intervened(self.model)
        rule = Add(float(strength) * self.difference)
        return Intervened(self.model, (Intervention(self.site, rule, vars(self)["_basis"], self.positions),))


def check_strength(control: Control, strength: float) -> bool:
    """Return whether a strength changes anything, after it was checked against NaN and the control's cap."""
    if not math.isfinite(strength):
        raise UserError(f"strength {strength} of {control.method} is no finite number")
    # a strength that was calibrated to the cap may be above it by the last bit
    if abs(strength) > control.cap * (1 + 1e-6):
        raise UserError(
            f"strength {strength:.4g} of {control.method} is beyond its cap of {control.cap:.4g}: give a smaller one"
        )
    return strength != 0


def _check_cap(cap: float) -> None:
    if not cap > 0:
        raise UserError(f"the cap of a control is {cap}: give a number above 0; class means that agree leave no scale")
