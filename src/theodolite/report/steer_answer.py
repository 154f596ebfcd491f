"""Answer of a comparison of control methods to one question: was the dictionary needed?

The question is answered from the contrasts that were fixed before the run, on written text. An answer needs a measure
that can show it: where no method moves the text, all methods are alike, and nothing follows about a dictionary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from theodolite.report.numbers import missing

SET, MEANS, FROZEN, BIAS = "latent_set", "difference_in_means", "frozen_encoder_latent_set", "logit_bias"
BESIDE = {MEANS: "the difference in means", FROZEN: "latents of an encoder that was never trained"}
Fixed = Mapping[tuple[str, str, str], Mapping[str, Any]]


@dataclass(frozen=True)
class PrimaryEffects:
    """Effects at the primary disturbance, each with value, lo and hi, by (method, split, metric); bands by metric.

    methods: all methods of the run, also those whose strength could not be matched. bands: what 95 % of random
    directions stay within.
    """

    methods: Sequence[str]
    effects: Mapping[tuple[str, str, str], Mapping[str, Any]] = field(default_factory=dict)
    bands: Mapping[str, float] = field(default_factory=dict)

    def steers(self, method: str, metric: str, margin: float) -> bool:
        """Whether a method moves a measure by more than the margin, and farther than 95 % of random directions do."""
        found = self.effects.get((method, "both", metric))
        if found is None or missing(found["lo"]):
            return False
        return bool(found["lo"] > margin and found["value"] > self.bands.get(metric, 0.0))

    def both_ways(self, method: str, metric: str) -> bool:
        """Whether a push towards the concept raises a measure and a push away lowers it, both intervals clear of 0."""
        up, down = (self.effects.get((method, split, metric)) for split in "+-")
        return bool(up and down and up["lo"] > 0 and down["hi"] < 0)


def dictionary_answer(
    contrasts: Sequence[Mapping[str, Any]], metrics: Sequence[str], margin: float, found: PrimaryEffects
) -> tuple[str, str]:
    """Return whether a dictionary was needed, yes, no, undecided or not asked, and why, from the contrasts.

    metrics: the measures on written text whose classifiers are usable; each of them has to agree. Yes: the latent set
    steers, is better than the difference in means and than latents of an encoder that was never trained, moves the text
    the right way on both signs, and is ahead of the vocabulary bias by what the contrasts imply. No: the interval of
    one contrast excludes an advantage of the margin over a method that steers itself.

    >>> contrast = {"method": "latent_set", "metric": "effect_sentence", "verdict": "worse", "lo": -2.0, "hi": -1.0}
    >>> lines = [contrast | {"than": than} for than in ("difference_in_means", "frozen_encoder_latent_set")]
    >>> known = {("difference_in_means", "both", "effect_sentence"): {"value": 3.0, "lo": 2.5, "hi": 3.5}}
    >>> found = PrimaryEffects(["latent_set", "difference_in_means", "frozen_encoder_latent_set"], known)
    >>> dictionary_answer(lines, ["effect_sentence"], 0.2, found)
    ('no', 'the latent set is not ahead of the difference in means by 0.2 nats')
    """
    if not metrics:
        return "not asked", "no classifier of written text tells held-out texts of this concept"
    if not {SET, MEANS, FROZEN} <= set(found.methods):
        return "not asked", "this run has no latent set beside both controls"
    fixed = {(one["method"], one["than"], one["metric"]): one for one in contrasts}
    if any((SET, than, metric) not in fixed for than in BESIDE for metric in metrics):
        return "undecided", "a contrast with the latent set is missing: not asked for, or a strength not matched"
    if all(fixed[SET, than, metric]["verdict"] == "better" for than in BESIDE for metric in metrics):
        return _when_ahead(fixed, metrics, margin, found)
    for than, words in BESIDE.items():
        behind = all(_excludes(fixed[SET, than, metric], margin) for metric in metrics)
        # two methods that both move nothing are equal on any measure
        if behind and all(found.steers(than, metric, margin) for metric in metrics):
            return "no", f"the latent set is not ahead of {words} by {margin:g} nats"
    if not any(found.steers(method, metric, margin) for method in found.methods for metric in metrics):
        return "undecided", f"no method moves written text by {margin:g} nats and farther than random directions"
    return "undecided", "the contrasts do not agree, or their intervals are too wide"


def _when_ahead(fixed: Fixed, metrics: Sequence[str], margin: float, found: PrimaryEffects) -> tuple[str, str]:
    """Answer where the latent set is better than both controls: what else has to hold before that is a yes."""
    if not all(found.steers(SET, metric, margin) for metric in metrics):
        why = f"does not move written text by {margin:g} nats and farther than random directions"
        return "undecided", f"the latent set is ahead, but {why}"
    if not all(found.both_ways(SET, metric) for metric in metrics):
        return "undecided", "the latent set is ahead, but does not move written text both ways"
    if not all(_ahead_of_bias(fixed, metric) for metric in metrics):
        return "undecided", "the latent set is ahead, but not shown to be ahead of the vocabulary logit bias"
    return "yes", f"the latent set is better than {BESIDE[MEANS]} and than {BESIDE[FROZEN]}"


def _excludes(contrast: Mapping[str, Any], margin: float) -> bool:
    return not missing(contrast["hi"]) and bool(contrast["hi"] < margin)


def _ahead_of_bias(fixed: Fixed, metric: str) -> bool:
    """Whether two contrasts together put the latent set above the bias: the sum of their lower ends lies above 0.

    Each end errs in 2.5 of 100 runs, so their sum lies above the true difference in at most 5.
    """
    both = fixed.get((SET, MEANS, metric)), fixed.get((MEANS, BIAS, metric))
    ends = [one["lo"] for one in both if one is not None and not missing(one["lo"])]
    return len(ends) == len(both) and sum(ends) > 0
