"""Cost of steering: prediction of unrelated text, and the text that the steered model writes.

Cross-entropy and top-1 are those of the next token on unrelated texts, teacher-forced; cloze is the last word of
sentences that have one plain ending (`cloze.txt`). Fluency is the cross-entropy of what the steered model wrote under
the model as it was. Damage of a strength is the relative rise of cross-entropy.

Shapes: n texts, k strengths, r rows, V vocabulary, B replicates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np
import torch

from theodolite.control.behind import joined, next_ids
from theodolite.control.passes import Passes
from theodolite.control.policy import Policy
from theodolite.core.bootstrap import bootstrap_weights
from theodolite.core.errors import UserError
from theodolite.models.model import Model
from theodolite.models.tokenise import encode_texts

Array = np.ndarray
RISE = 0.05  # of cross-entropy, from which on the model counts as damaged
LONGEST_PERIOD = 8  # tokens
_REPEATS = 3
_LEAST_LOOP = 8  # tokens at the end of a text: three exclamation marks are no loop


@dataclass(frozen=True)
class Predicted:
    """Predictions of the next tokens of each text: mean loss in nats per token (n,), share of top-1 hits (n,).

    nats: total loss of each text's scored tokens, (n,); for a cloze that of the whole word.
    """

    loss: Array
    top1: Array
    nats: Array


def predicted(policy: Policy, passes: Passes) -> Predicted:
    """Loss and top-1 of a policy at the targets of the passes; a target with nothing behind it does not count."""
    next_r = next_ids(passes.tokens, passes.targets)
    return of_rows(passes.log_probs(policy), next_r, passes.text_of_row, len(passes.tokens))


def of_rows(log_prob_rv: torch.Tensor, next_r: Array, text_r: Array, n: int) -> Predicted:
    """Loss and top-1 by text from log-probabilities (r, V), the tokens that follow (r,) and the text of each row (r,).

    A row whose next token is -1 does not count. A text without any other has NaN.

    >>> even = torch.full((3, 4), 0.25).log()
    >>> found = of_rows(even, np.array([0, 3, -1]), np.array([0, 0, 1]), 2)
    >>> found.loss.round(3).tolist(), found.top1.tolist(), found.nats.round(3).tolist()
    ([1.386, nan], [0.5, nan], [2.773, nan])
    """
    known = np.flatnonzero(next_r >= 0)
    rows = torch.from_numpy(known).to(log_prob_rv.device)
    next_k = torch.from_numpy(next_r[known]).to(log_prob_rv.device)
    lost_k = -log_prob_rv[rows, next_k].double().cpu().numpy()
    # argmax of the whole tensor first: rows of a large vocabulary are not copied
    hit_k = (log_prob_rv.argmax(1)[rows] == next_k).double().cpu().numpy()
    count_n = np.bincount(text_r[known], minlength=n).astype(float)
    count_n[count_n == 0] = np.nan
    nats_n, hits_n = (np.bincount(text_r[known], x, n) for x in (lost_k, hit_k))
    return Predicted(nats_n / count_n, hits_n / count_n, np.where(np.isnan(count_n), np.nan, nats_n))


@cache
def cloze_sentences() -> tuple[str, ...]:
    """Sentences of the package whose last word is the one plain ending; no concept that we steer is their subject.

    >>> cloze_sentences()[0]
    'The opposite of hot is cold'
    """
    text = files("theodolite.control").joinpath("cloze.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def cloze_passes(model: Model, sentences: Sequence[str] | None = None) -> Passes:
    """Passes over sentences with the tokens of the last word as what is predicted.

    The word is tokenised with the space before it. `predicted(...).nats` is the loss of the word, and `top1` is 1 where
    each of its tokens is the likeliest.
    """
    pairs = [one.rsplit(" ", 1) for one in (cloze_sentences() if sentences is None else sentences)]
    if wrong := [" ".join(pair) for pair in pairs if len(pair) < 2 or not all(pair)]:
        raise UserError(f"{wrong[0]!r} is no cloze sentence: it needs a word with something before it")
    words = encode_texts(model.tokenizer, [f" {word}" for _, word in pairs], add_special_tokens=False)
    tokens, targets = joined(model, [opening for opening, _ in pairs], words)
    return Passes(model, tokens, targets)


def fluency(passes: Passes) -> Array:
    """Cross-entropy in nats per token, (n,), of what was written behind each opening under the unchanged model.

    passes: over openings with what was written, as `disturbance.over_generations` makes them: of the tokens as they
    were written, since a text that is tokenised again may become other tokens.
    """
    next_r = next_ids(passes.tokens, passes.targets)
    return of_rows(passes.clean, next_r, passes.text_of_row, len(passes.tokens)).loss


def distinct_2(ids: Sequence[int]) -> float:
    """Distinct pairs of neighbouring tokens as a share of all pairs (Li et al. 2016); NaN below two tokens.

    >>> distinct_2([1, 2, 1, 2]), distinct_2([1, 2, 3])
    (0.6666666666666666, 1.0)
    """
    pairs = list(pairwise(ids))
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def loops(ids: Sequence[int]) -> bool:
    """Return whether a text is a loop: some four tokens in a row come at least three times, or its end is periodic.

    Periodic means that its last 3 p tokens, and at least its last eight, repeat with one period p of at most eight.

    >>> loops([1, 2, 3, 4, 9, 1, 2, 3, 4, 8, 1, 2, 3, 4]), loops([5, 1, 2, 3, 1, 2, 3, 1, 2, 3]), loops([1, 1, 1])
    (True, True, False)
    """
    ids = list(ids)
    fours = [tuple(ids[i : i + 4]) for i in range(len(ids) - 3)]
    if any(fours.count(four) >= _REPEATS for four in set(fours)):
        return True
    for period in range(1, LONGEST_PERIOD + 1):
        tail = ids[-max(_REPEATS * period, _LEAST_LOOP) :]
        if len(tail) >= max(_REPEATS * period, _LEAST_LOOP) and tail[period:] == tail[:-period]:
            return True
    return False


@dataclass(frozen=True)
class Crossing:
    """Strength at which the rise of a loss first exceeds a limit, with its 95 % interval; infinite where it never does.

    last: largest strength that was tried: an infinite value or end means "above it". never: share of the bootstrap
    replicates in which the limit is not reached.
    """

    value: float
    lo: float
    hi: float
    last: float
    never: float
    n: int

    @property
    def censored(self) -> bool:
        """Return whether the limit was not reached at any strength tried."""
        return math.isinf(self.value)


def crossing(
    loss_kn: Array,
    base_n: Array,
    size_k: Array,
    group_n: Array,
    *,
    rise: float = RISE,
    n_boot: int = 2000,
    seed: int = 0,
) -> Crossing:
    """Size of strength at which the mean loss first exceeds (1 + rise) times that of the unchanged model.

    loss_kn: losses of n texts at k strengths of one sign, whose sizes are size_k, above 0 and ascending. Between
    strengths, and between 0 and the first, the relative rise is interpolated linearly. The interval is a percentile
    interval over groups of texts, in which a replicate that never crosses counts as infinite.

    >>> base = np.array([2.0, 4.0])
    >>> loss = base * np.array([[1.01], [1.03], [1.11]])
    >>> round(crossing(loss, base, np.array([1.0, 2.0, 4.0]), np.arange(2)).value, 3)   # .03 + .02 of .08 in 2 units
    2.5
    """
    loss_kn, base_n, size_k = (np.asarray(x, float) for x in (loss_kn, base_n, size_k))
    if loss_kn.shape != (len(size_k), len(base_n)):
        raise UserError(f"losses {loss_kn.shape} are not of {len(size_k)} strengths and {len(base_n)} texts")
    if not (size_k > 0).all() or not (np.diff(size_k) > 0).all():
        raise UserError(f"sizes of strengths {size_k.tolist()} must be above 0 and ascend: give each sign by itself")
    weight_bn = np.vstack([np.ones(len(base_n)), bootstrap_weights(group_n, n_boot, seed)])
    rise_bk = (weight_bn @ loss_kn.T) / (weight_bn @ base_n)[:, None] - 1
    found_b = _first_above(rise_bk, size_k, rise)
    # "lower": a quantile between a number and infinity is the number for the lower end, infinity for the upper
    lo, hi = np.quantile(found_b[1:], 0.025, method="lower"), np.quantile(found_b[1:], 0.975, method="higher")
    never = float(np.isinf(found_b[1:]).mean())
    return Crossing(float(found_b[0]), float(lo), float(hi), float(size_k[-1]), never, len(base_n))


def _first_above(rise_bk: Array, size_k: Array, rise: float) -> Array:
    """Size (B,) at which the piecewise linear curve through (0, 0) and the points first lies above the limit."""
    at_bk, x_k = np.pad(rise_bk, ((0, 0), (1, 0))), np.concatenate([[0.0], size_k])
    above_bk = at_bk > rise
    first_b = above_bk.argmax(1)  # 0 where none is above: there the rise is 0
    row_b = np.arange(len(at_bk))
    before_b, after_b = at_bk[row_b, np.maximum(first_b - 1, 0)], at_bk[row_b, first_b]
    share_b = np.divide(rise - before_b, after_b - before_b, out=np.zeros(len(row_b)), where=first_b > 0)
    inside_b = x_k[np.maximum(first_b - 1, 0)] + share_b * (x_k[first_b] - x_k[np.maximum(first_b - 1, 0)])
    return np.where(first_b > 0, inside_b, np.inf)
