"""Effect of a policy on what follows openings: log-odds of targets, and multiple choice in both orders.

The score of an opening is

    log sum over positive c of exp(l(c))  -  log sum over negative c of exp(l(c)),    l(c) = log p(c | opening) / |c|

with |c| the number of tokens of the continuation c, so that a long one is not worth less for its length. Where every
target is one token, this is the log-odds of the two sets. The effect is the score under the policy less the score of
the unchanged model, in nats.

Shapes: n openings or questions, c continuations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.special import logsumexp
from torch import Tensor

from theodolite.control.behind import at_the_end, joined, next_ids
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened, Policy
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Format
from theodolite.models.model import Model
from theodolite.models.tokenise import encode_texts
from theodolite.models.tokens import Tokens

Array = np.ndarray


@dataclass(frozen=True)
class Targets:
    """Continuations for and against a concept; raw ones begin with a space, as the text behind an opening does."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.positive or not self.negative:
            raise UserError("targets need at least one positive and one negative continuation")

    @property
    def all(self) -> tuple[str, ...]:
        """Positive continuations, then negative ones."""
        return (*self.positive, *self.negative)

    def unseen(self, model: Model, texts: Sequence[str]) -> "Targets":
        """Return the targets that share no vocabulary item with these texts; none left on a side is an error.

        A logit bias that was fitted on the texts can promote only what it has seen there.
        """
        seen = {i for row in encode_texts(model.tokenizer, texts, add_special_tokens=False) for i in row}
        left = [
            tuple(one for one, ids in zip(side, token_ids(model, side), strict=True) if not seen & set(ids))
            for side in (self.positive, self.negative)
        ]
        if not all(left):
            raise UserError(
                f"{len(left[0])} positive and {len(left[1])} negative targets share no token with the training texts: "
                "give unseen_targets in the concept file"
            )
        return Targets(*left)


def token_ids(model: Model, continuations: Sequence[str]) -> list[list[int]]:
    """Token ids of continuations, each tokenised by itself; one without a token is an error."""
    found = encode_texts(model.tokenizer, continuations, add_special_tokens=False)
    if empty := [one for one, ids in zip(continuations, found, strict=True) if not ids]:
        raise UserError(f"the target {empty[0]!r} has no token: write at least one character")
    return found


def check_apart(continuations: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Refuse continuations of which one begins with another, in tokens: their probabilities would count twice.

    >>> check_apart([" a", " ab"], [[1], [1, 2]])
    Traceback (most recent call last):
    theodolite.core.errors.UserError: the target ' ab' begins with the target ' a': leave one of them out
    """
    order = sorted(range(len(ids)), key=lambda i: list(ids[i]))
    # in lexical order a sequence stands right before the first one that begins with it
    for a, b in pairwise(order):
        if list(ids[b][: len(ids[a])]) == list(ids[a]):
            raise UserError(
                f"the target {continuations[b]!r} begins with the target {continuations[a]!r}: leave one of them out"
            )


def log_odds(log_prob_nc: Array, n_tokens_c: Array, n_positive: int) -> Array:
    """Score (n,) of openings by the formula above; the first `n_positive` continuations are the positive ones.

    >>> log_prob = np.log([[0.2, 0.1, 0.1], [0.1, 0.04, 0.01]])
    >>> log_odds(log_prob, np.array([1, 1, 1]), 2).round(3).tolist()      # log .3 / .1, log .14 / .01
    [1.099, 2.639]
    >>> log_odds(log_prob[:1], np.array([1, 2, 1]), 2).round(3).tolist()  # log (.2 + sqrt .1) / .1
    [1.641]
    """
    per_token_nc = log_prob_nc / n_tokens_c
    return logsumexp(per_token_nc[:, :n_positive], axis=1) - logsumexp(per_token_nc[:, n_positive:], axis=1)


class ScoredOpenings:
    """Openings (n) with targets (c) whose log-odds any policy of the model is asked for.

    One pass over the openings gives the first token of every target. The rest of longer ones is read from the keys and
    values of the opening where the policy is an intervention on states, and in passes of its own otherwise. `base` is
    the score of the unchanged model, computed once. Several sets of targets share the `passes` over one set of
    openings, and what these say of a policy, `first_nv` (n, vocabulary).

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> scored = ScoredOpenings(model, ["It is", "We see"], Targets(("a", "b"), ("c",)))
    >>> push = Intervened(model, (Intervention.add("blocks.1.resid_post", [1.0] * 32, 2.0),))
    >>> scored.effect(push).shape, scored.effect(Intervened(model)).tolist()
    ((2,), [0.0, 0.0])
    """

    def __init__(
        self,
        model: Model,
        openings: Sequence[str],
        targets: Targets,
        format: Format = "raw",
        passes: Passes | None = None,
    ) -> None:
        self.model, self.openings, self.targets, self.format = model, list(openings), targets, format
        self.ids = token_ids(model, targets.all)
        check_apart(targets.all, self.ids)
        self.n_tokens = np.array([len(ids) for ids in self.ids])
        self._long = np.flatnonzero(self.n_tokens > 1)
        self.passes = passes or Passes(model, *at_the_end(model, self.openings, format))

    @cached_property
    def base(self) -> Array:
        """Score of the unchanged model, (n,)."""
        return self.score(Intervened(self.model))

    def effect(self, policy: Policy, first_nv: Tensor | None = None) -> Array:
        """Score under the policy less that of the unchanged model, (n,) in nats."""
        return self.score(policy, first_nv) - self.base

    def score(self, policy: Policy, first_nv: Tensor | None = None) -> Array:
        """Log-odds of the targets under the policy, (n,)."""
        return log_odds(self.log_probs(policy, first_nv), self.n_tokens, len(self.targets.positive))

    def log_probs(self, policy: Policy, first_nv: Tensor | None = None) -> Array:
        """Log-probability of each target behind each opening under the policy, (n, c) float64."""
        first_nv = self.passes.log_probs(policy) if first_nv is None else first_nv
        found_nc = first_nv[:, [ids[0] for ids in self.ids]].double().cpu().numpy()
        if len(self._long):
            if isinstance(policy, Intervened) and not _at_logits(policy):
                found_nc[:, self._long] = self._from_keys(policy)
            else:
                found_nc[:, self._long] += self._from_passes(policy)
        return found_nc

    def _pairs(self) -> tuple[list[str], list[int]]:
        """Opening and number of the target of each (opening, longer target), opening by opening."""
        pairs = [(opening, int(c)) for opening in self.openings for c in self._long]
        return [opening for opening, _ in pairs], [c for _, c in pairs]

    def _from_keys(self, policy: Intervened) -> Array:
        """Whole longer targets, (n, longer): each opening is read once for all of them."""
        openings, chosen = self._pairs()
        behind = [self.targets.all[c] for c in chosen]
        scored = self.model.logprobs(openings, behind, interventions=policy.interventions, format=self.format)
        return scored.log_prob.reshape(len(self.openings), -1)

    def _from_passes(self, policy: Policy) -> Array:
        """Tokens of the longer targets from the second on, (n, longer)."""
        tokens, targets = self._joined
        log_prob_rv = self._passes_behind.log_probs(policy)
        next_r = next_ids(tokens, targets)
        picked_r = log_prob_rv[np.arange(len(next_r)), next_r].double().cpu().numpy()
        return np.bincount(self._passes_behind.text_of_row, picked_r).reshape(len(self.openings), -1)

    @cached_property
    def _joined(self) -> tuple[Tokens, Tensor]:
        openings, chosen = self._pairs()
        return joined(self.model, openings, [self.ids[c] for c in chosen], self.format, skip=1)

    @cached_property
    def _passes_behind(self) -> Passes:
        return Passes(self.model, *self._joined)


@dataclass(frozen=True)
class Choice:
    """A question with the answer that has the concept and the one that lacks it."""

    question: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Margins:
    """Preference (n,) for the positive answer over both orders, and for the letter A, in nats of log-odds.

    consistent: share of the questions in which both orders prefer the same answer. A small model nearly always
    prefers one letter, so that single answers mean nothing while their margins do.
    """

    preference: Array
    letter: Array
    consistent: float


def choice_openings(choices: Sequence[Choice]) -> list[str]:
    """Openings (2 n) that end before the letter: those with the positive answer as A, then those with it as B.

    >>> choice_openings([Choice("Which?", "joy", "grief")])[1].splitlines()
    ['Question: Which?', '(A) grief', '(B) joy', 'Answer: (']
    """
    first = [(one.question, one.positive, one.negative) for one in choices]
    second = [(one.question, one.negative, one.positive) for one in choices]
    return [f"Question: {question}\n(A) {a}\n(B) {b}\nAnswer: (" for question, a, b in (*first, *second)]


def margins(letter_margin: Array) -> Margins:
    """Margins from log p(A) - log p(B), (2 n): first with the positive answer as A, then as B.

    With p for the preference and l for the pull of the letter A, the two orders measure l + p and l - p.

    >>> found = margins(np.array([3.0, 1.0]))
    >>> found.preference.tolist(), found.letter.tolist(), found.consistent
    ([1.0], [2.0], 0.0)
    """
    first, second = np.split(np.asarray(letter_margin, float), 2)
    agree = np.sign(first) == -np.sign(second)
    return Margins((first - second) / 2, (first + second) / 2, float(agree.mean()))


def scored_choices(model: Model, choices: Sequence[Choice], format: Format = "raw") -> ScoredOpenings:
    """Questions in both orders with the letters as targets: give what `score` returns to `margins`.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> scored = scored_choices(model, [Choice("Which?", "joy", "grief")])
    >>> margins(scored.score(Intervened(model))).preference.shape
    (1,)
    """
    return ScoredOpenings(model, choice_openings(choices), Targets(("A",), ("B",)), format)


def _at_logits(policy: Intervened) -> bool:
    """Return whether some change acts on the logits, which the reading from keys and values does not know."""
    return any(isinstance(one, Intervention) and one.site.part == "logits" for one in policy.interventions)
