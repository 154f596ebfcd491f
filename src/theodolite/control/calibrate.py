"""The strength at which a control disturbs a model by a wanted number of nats."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from theodolite.control.control import Control
from theodolite.control.passes import Passes
from theodolite.core.errors import UserError

NATS = (0.03, 0.1, 0.3)
TOLERANCE = 0.02  # of the wanted level
BUDGET = 12.0  # forward passes over the texts for all levels and both signs of a control
PLACES = 6  # of counted passes: a difference of sums is rounded otherwise after other sums
_TRIES = 8  # evaluations of one level
_FIRST = 0.5  # first strength, in tenths of the cap
_STEP = math.log(16.0)  # most that one step multiplies or divides a strength by
_SLOPES = (0.3, 6.0)  # of log KL against log strength that are believed; a small edit has 2
_LEAST = 1e-4  # of the smallest strength tried: where a level is looked for that larger ones do not go below
_TINY = 1e-12  # nats that count as none, so that their logarithm exists

Reason = Literal["", "cap", "floor", "tries", "budget"]


@dataclass(frozen=True)
class Calibrated:
    """A signed strength with the disturbance that it causes, in nats per target token, and the one that was wanted.

    reason: "" where it lies within 2 % of the wanted one. Else why not: at the `cap` it disturbs less; above 0 it
    disturbs more from the start (`floor`: clamped latents lose their natural firing); the evaluations or the budget of
    passes ended (`tries`, `budget`), and it is the nearest that was found. spent: forward passes over the texts.
    """

    strength: float
    kl: float
    nats: float
    spent: float
    n_evaluations: int
    reason: Reason = ""

    @property
    def capped(self) -> bool:
        """Return whether the level cannot be reached: such a cell is counted, and pooled with no other."""
        return self.reason in ("cap", "floor")

    @property
    def reached(self) -> bool:
        """Return whether the disturbance is the wanted one."""
        return self.reason == ""


@dataclass
class Curve:
    """Disturbance of a control against its strength on one side of 0, as far as it was measured on passes.

    `kl_at` has the mean KL(model || controlled) per target token for strengths above 0 that were asked for.
    """

    control: Control
    passes: Passes
    sign: int = 1
    kl_at: dict[float, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.control.has_dial:
            raise UserError(f"{self.control.method} has no dial: it is one point, and is not set to a disturbance")
        if self.sign not in (1, -1):
            raise UserError(f"sign {self.sign} of a strength: give 1 or -1")

    def measure(self, strength: float) -> float:
        """Return the disturbance at a strength above 0, measured once."""
        if strength not in self.kl_at:
            found = float(self.passes.kl_of_rows(self.control.at(self.sign * strength)).mean())
            if not math.isfinite(found):
                raise UserError(
                    f"{self.control.method} at strength {self.sign * strength:.4g} disturbs by {found} nats: some "
                    "prediction has become impossible; give a smaller cap"
                )
            self.kl_at[strength] = found
        return self.kl_at[strength]

    def nearest(self, nats: float) -> float:
        """Return the measured strength whose disturbance is nearest on a logarithmic scale; 0 where none is."""
        return min(self.kl_at, key=lambda s: (_gap(self.kl_at[s], nats), s), default=0.0)


def calibrate(
    curve: Curve,
    nats: float,
    *,
    first: float | None = None,
    tries: int = _TRIES,
    budget: float = math.inf,
    tolerance: float = TOLERANCE,
) -> Calibrated:
    """Find the smallest strength on a curve that disturbs by `nats`, by a secant of log KL against log strength.

    A small edit disturbs by the square of its strength (KL ~ c^2), so that a curve without any point is entered at
    `first`, or a twentieth of the cap, and its second point is nearly right. Points that other levels have left are
    used. The search stays between known points on both sides of the level, never passes the cap, and says where the
    level cannot be reached. `budget`: forward passes over the texts after which no other begins.

    >>> from theodolite.control.control import VectorControl
    >>> from theodolite.models.model import Model
    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> push = VectorControl.scaled(model, "difference_in_means", "blocks.1.resid_post", [1.0] + [0.0] * 31, 5.0)
    >>> found = calibrate(Curve(push, Passes.of(model, ["a text", "another one"])), 0.1)
    >>> found.reached, abs(found.kl / 0.1 - 1) < 0.02
    (True, True)
    """
    if not (math.isfinite(nats) and nats > 0):
        raise UserError(f"a disturbance of {nats} nats: give a finite number above 0")
    cap, before, evaluations = curve.control.cap, curve.passes.spent, 0
    reason: Reason = ""
    unit = cap / 10 if math.isfinite(cap) else 1.0
    strength = propose(curve.kl_at, nats, cap) if curve.kl_at else min(cap, first or _FIRST * unit)
    while True:
        known = {s: kl for s, kl in curve.kl_at.items() if abs(kl / nats - 1) <= tolerance}
        if known:
            strength = min(known)
            break
        if strength in curve.kl_at:  # nothing new to try: an end of the range has been reached
            reason = "cap" if curve.kl_at[strength] < nats else "floor"
            break
        if evaluations >= tries or curve.passes.spent - before >= budget:
            reason = "tries" if evaluations >= tries else "budget"
            strength = curve.nearest(nats)
            break
        curve.measure(strength)
        evaluations += 1
        strength = propose(curve.kl_at, nats, cap)
    kl = curve.kl_at.get(strength, 0.0)
    spent = round(curve.passes.spent - before, PLACES)
    return Calibrated(curve.sign * strength, kl, nats, spent, evaluations, reason)


def calibrate_levels(
    control: Control,
    passes: Passes,
    levels: Sequence[float] = NATS,
    signs: Iterable[int] = (1, -1),
    *,
    budget: float = BUDGET,
) -> list[Calibrated]:
    """Find the strengths of all levels on both sides, in the order of signs and then of levels, within one budget.

    The levels of a side share what was measured there, and the second side begins where the first one ended.
    """
    found: list[Calibrated] = []
    start = passes.spent
    across: dict[int, float | None] = {}
    # from the middle one on, whose neighbours then have a point near them
    order = sorted(range(len(levels)), key=lambda i: (abs(i - len(levels) // 2), i))
    for sign in signs:
        curve, of_level = Curve(control, passes, sign), {}
        for i in order:
            left = max(0.0, budget - (passes.spent - start))
            of_level[i] = calibrate(curve, levels[i], first=across.get(i), budget=left)
            across.setdefault(i, abs(of_level[i].strength) or None)
        found += [of_level[i] for i in range(len(levels))]
    return found


def propose(kl_at: dict[float, float], nats: float, cap: float) -> float:
    """Return the next strength to try, from the disturbances at known ones; a known one where none is left to try.

    It lies between the first two neighbours of which only the upper one disturbs enough. Without such a pair it lies
    above all known strengths, at most at the cap, or below all.

    >>> round(propose({1.0: 0.4}, 0.1, cap=10.0), 6), round(propose({0.5: 0.1, 1.0: 0.4}, 0.2, cap=10.0), 6)
    (0.5, 0.707107)
    >>> propose({1.0: 0.4, 0.5: 0.1}, 90.0, cap=10.0), propose({10.0: 40.0}, 90.0, cap=10.0)
    (10.0, 10.0)
    """
    known = sorted(kl_at)
    near = sorted(known, key=lambda s: (_gap(kl_at[s], nats), s))[:2]
    for low, high in pairwise(known):
        if kl_at[low] < nats <= kl_at[high]:
            found = _solved(near[0], _slope(near[0], near[1], kl_at), kl_at, nats)
            return found if low < found < high else _solved(low, _slope(low, high, kl_at), kl_at, nats)
    if kl_at[known[-1]] < nats:
        return min(_upward(known, kl_at, nats), cap)
    slope = _slope(known[0], known[1], kl_at) if len(known) > 1 else 2.0
    if slope < _SLOPES[0]:
        # it hardly falls towards 0: look next to 0, and end there if the level lies below even that
        return known[0] if known[0] <= _LEAST * known[1] else _LEAST * known[0]
    return _solved(known[0], min(slope, _SLOPES[1]), kl_at, nats)


def _upward(known: list[float], kl_at: dict[float, float], nats: float) -> float:
    """Return where a level above all known ones is expected: on a line of log KL, or on a parabola above a floor."""
    slope = _slope(known[-2], known[-1], kl_at) if len(known) > 1 else 2.0
    if slope >= _SLOPES[0]:
        return _solved(known[-1], min(slope, _SLOPES[1]), kl_at, nats)
    # hardly a rise: what is seen is the lost firing of clamped latents, over which KL rises as a + b c^2
    (one, other), most = known[-2:], known[-1] * math.exp(_STEP)
    rise = kl_at[other] - kl_at[one]
    if rise <= 0:
        return most
    return min(math.sqrt(other**2 + (nats - kl_at[other]) * (other**2 - one**2) / rise), most)


def _solved(strength: float, slope: float, kl_at: dict[float, float], nats: float) -> float:
    """Return where a line of this slope through a known point has the wanted level, at most one step away."""
    if slope == 0:
        return math.inf
    log_factor = math.log(nats / max(kl_at[strength], _TINY)) / slope
    return strength * math.exp(min(max(log_factor, -_STEP), _STEP))


def _slope(one: float, other: float, kl_at: dict[float, float]) -> float:
    """Slope of log KL against log strength between two strengths."""
    rise = math.log(max(kl_at[one], _TINY)) - math.log(max(kl_at[other], _TINY))
    return rise / (math.log(one) - math.log(other))


def _gap(kl: float, nats: float) -> float:
    return abs(math.log(max(kl, _TINY) / nats))
