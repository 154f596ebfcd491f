"""The ceiling of control: a tilt of every prediction towards the very tokens that are scored, in closed form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from theodolite.control.effects import ScoredOpenings
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.control.statistics import both_signs
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.models.tokenise import encode_texts

_STEPS = 200  # halvings of the range; 60 exhaust a float64


@dataclass(frozen=True)
class Tilt:
    """Probabilities proportional to base * exp(t * b): b is 1 at tokens that begin a positive continuation.

    It is -1 at those that begin a negative one, else 0. No control knows the scored tokens; this one does, and spends
    its divergence on nothing else. That needs no pass: with the mass p of the positive and q of the negative tokens at
    a target, KL(base || tilted) = log(1 - p - q + p e^t + q e^-t) - t (p - q). The log-odds of a positive against a
    negative token change by 2t, those of the positive tokens against all others by t where no negative is given.

    >>> tilt = Tilt((2,), ())
    >>> round(float(tilt.kl(np.log([[0.5, 0.25, 0.25]]), np.log(3.0))[0]), 6)  # log 1.5 - log(3) / 4
    0.130812
    """

    positive: tuple[int, ...]
    negative: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.positive:
            raise UserError("a tilt needs at least one token that begins a positive continuation")
        if both := set(self.positive) & set(self.negative):
            raise UserError(f"token {min(both)} begins a positive and a negative continuation: drop one of the two")

    def kl(self, log_probs_rv: "np.ndarray | torch.Tensor", t: float) -> np.ndarray:
        """KL(base || tilted) in nats at each row of the base's log-probabilities, (rows) float64."""
        return _kl(*self._masses(log_probs_rv), t)

    def strength(self, passes: Passes, nats: float, sign: int = 1) -> float:
        """Return the t at which the mean divergence over the targets of passes is `nats`; negative with sign -1."""
        if not (math.isfinite(nats) and nats > 0):
            raise UserError(f"a disturbance of {nats} nats: give a finite number above 0")
        p, q = self._masses(passes.clean)
        # KL grows with |t|, from 0 on and without bound unless the tokens have no mass anywhere
        low, high = 0.0, 1.0
        while _kl(p, q, sign * high).mean() < nats:
            low, high = high, 2 * high
            if high > 2**9:
                raise UserError(
                    f"no tilt towards {len(self.positive)} tokens disturbs by {nats} nats: they are too rare"
                )
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if _kl(p, q, sign * middle).mean() < nats else (low, middle)
        return sign * high

    def at(self, model: Model, t: float) -> Intervened:
        """Return the model under this tilt."""
        if t == 0:
            return Intervened(model)
        bias = np.zeros(model.network.module.get_input_embeddings().num_embeddings, np.float32)
        bias[list(self.positive)], bias[list(self.negative)] = 1.0, -1.0
        return Intervened(model, (Intervention.add("logits", bias, float(t)),))

    def _masses(self, log_probs_rv: "np.ndarray | torch.Tensor") -> tuple[np.ndarray, np.ndarray]:
        """Mass of the positive and of the negative tokens in each row."""
        return _mass(log_probs_rv, self.positive), _mass(log_probs_rv, self.negative)


def ceiling(openings: ScoredOpenings, passes: Passes, nats: float) -> np.ndarray | None:
    """Effect (n,) of the tilt towards the scored targets at a disturbance, half the distance between both signs.

    openings: with their targets. passes: over the texts that the disturbance is measured on. None where both sides
    begin with the same tokens, or where these are too rare for the disturbance.
    """
    targets = openings.targets
    try:
        tilt = first_tokens(openings.model, targets.positive, targets.negative)
        up, down = (tilt.strength(passes, nats, sign) for sign in (1, -1))
    except UserError:
        return None
    return both_signs(*(openings.effect(tilt.at(openings.model, t)) for t in (up, down)))


def first_tokens(model: Model, positive: Sequence[str], negative: Sequence[str] = ()) -> Tilt:
    """Return the tilt towards the first tokens of continuations; a token that begins both kinds is left out.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> first_tokens(Model(tiny_model(), byte_tokenizer()), ["ab", "cd"], ["ae", "f"])
    Tilt(positive=(69,), negative=(72,))
    """
    for continuation in (*positive, *negative):
        if not continuation:
            raise UserError("a continuation is empty: it has no first token")
    begun = [
        {int(ids[0]) for ids in encode_texts(model.tokenizer, list(texts), add_special_tokens=False)}
        if texts
        else set()
        for texts in (positive, negative)
    ]
    shared = begun[0] & begun[1]
    return Tilt(tuple(sorted(begun[0] - shared)), tuple(sorted(begun[1] - shared)))


def _mass(log_probs_rv: "np.ndarray | torch.Tensor", tokens: Sequence[int]) -> np.ndarray:
    return np.exp(np.asarray(log_probs_rv[:, list(tokens)].tolist(), np.float64)).reshape(len(log_probs_rv), -1).sum(1)


def _kl(p: np.ndarray, q: np.ndarray, t: float) -> np.ndarray:
    # the largest exponent is taken out, so that a steep tilt does not overflow
    top = abs(t)
    rest = (1 - p - q).clip(0) * np.exp(-top)
    return top + np.log(rest + p * np.exp(t - top) + q * np.exp(-t - top)) - t * (p - q)
