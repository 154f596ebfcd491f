"""Concept classifiers of generated text, fitted on texts that no direction has seen.

Two of them, because one may be fooled where the other is not: n-grams of words or characters (whichever predicts better
in cross-validation), and a sentence embedder of another model. Both are tuned as readers are (`study.tune`): grouped
folds, and Platt's sigmoid on out-of-fold scores, so that a score is a calibrated log-odds. How good they are is
measured out of fold, with the groups held out.

Shapes: n texts, m samples of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from theodolite.control.statistics import Summary
from theodolite.core.bootstrap import bootstrap_weights, fewest_groups, hidden_failures
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.metrics import auroc, ece
from theodolite.data.splits import folds
from theodolite.models.sentence import embed as embed_sentences
from theodolite.study.tune import Tuned, tune

Array = np.ndarray
Embed = Callable[[Sequence[str]], Array]
FEWEST = 20  # texts of a class
NGRAMS = ("word_ngrams", "char_ngrams")
SENTENCE = "sentence"


@dataclass(frozen=True)
class Quality:
    """Quality of a classifier on held-out texts of its own part, out of fold.

    auroc, ece: with 95 % percentile intervals over groups of texts. ece is that of the sigmoid fitted on the same
    scores, so it says whether a sigmoid fits; slope is the factor on the reader's own log-odds that the sigmoid
    found: below 1 the reader alone was overconfident.
    """

    auroc: Summary
    ece: Summary
    slope: float


@dataclass(frozen=True, eq=False)
class ConceptClassifier:
    """A classifier of texts: `score` gives calibrated log-odds of the concept.

    name: "ngrams" or "sentence", as in the metrics `effect_ngrams` and `effect_sentence`. method: reader and parameters
    that were chosen.
    """

    name: str
    method: str
    quality: Quality
    tuned: Tuned
    embed: Embed | None = None

    def score(self, texts: Sequence[str]) -> Array:
        """Log-odds of the concept for each text, (n,); equal texts have equal scores.

        Each distinct text is read once: in another batch an embedding has another rounding, and a text that steering
        left as it was must have an effect of exactly 0.
        """
        if not len(texts):
            return np.zeros(0)
        distinct = sorted(set(texts))
        place = {text: i for i, text in enumerate(distinct)}
        rows = distinct if self.embed is None else self.embed(distinct)
        score_k = self.tuned.platt.log_odds(self.tuned.estimator.decision_function(rows))
        return score_k[[place[text] for text in texts]]


def fit_classifiers(
    texts: Sequence[str], label_n: Array, group_n: Array, *, embed: Embed = embed_sentences, seed: int = 0
) -> tuple[ConceptClassifier, ConceptClassifier]:
    """Fit the n-gram classifier and the sentence classifier on the `classifier` part of a concept's texts.

    label_n: 1 for the concept, 0 for its opposite. Groups are never divided between folds. The order of the texts
    changes nothing but rounding.
    """
    label_n, group_n = np.asarray(label_n), np.asarray(group_n)
    if not len(texts) == len(label_n) == len(group_n):
        raise UserError(f"{len(texts)} texts, {len(label_n)} labels and {len(group_n)} groups must be equally many")
    few = min(int((label_n == label).sum()) for label in (0, 1))
    if few < FEWEST:
        raise UserError(f"a concept classifier needs {FEWEST} texts of each class, and one has {few}: add texts")
    hashes = [sha256(text.encode()).hexdigest() for text in texts]
    order = np.argsort(hashes, kind="stable")
    rows, label_n, group_n = [texts[i] for i in order], label_n[order], group_n[order]
    frame = pd.DataFrame({"hash": np.array(hashes)[order], "label": label_n, "cluster": group_n, "source": ""})
    fold_n = folds(frame, seed=seed)
    text_n = np.array(rows, dtype=object)
    fitted = {name: tune(parse(name), text_n, label_n, fold_n, seed) for name in NGRAMS}
    name = min(fitted, key=lambda one: fitted[one].cv_log_loss)
    sentence = tune(parse(SENTENCE), embed(rows), label_n, fold_n, seed)
    return (
        ConceptClassifier(
            "ngrams", _named(name, fitted[name]), _quality(fitted[name], label_n, group_n, seed), fitted[name]
        ),
        ConceptClassifier(
            "sentence", _named(SENTENCE, sentence), _quality(sentence, label_n, group_n, seed), sentence, embed
        ),
    )


def written_effect(score: Callable[[Sequence[str]], Array], steered: Sequence[Any], default: Sequence[Any]) -> Array:
    """Score of the steered text less that of the default text for each opening, (n,).

    steered, default: n texts (greedy), or m lists of n (samples), whose scores are averaged. Only what was written is
    scored: the opening is the same in both, and a classifier that reads it sees less of the difference.

    >>> length = lambda texts: np.array([float(len(text)) for text in texts])
    >>> written_effect(length, ["aaa", "b"], ["a", "b"]).tolist()
    [2.0, 0.0]
    >>> written_effect(length, [["aaa"], ["a"]], [["a"], ["a"]]).tolist()
    [1.0]
    """
    one, other = (np.atleast_2d(np.asarray(list(texts), dtype=object)) for texts in (steered, default))
    if one.shape[1] != other.shape[1]:
        raise UserError(f"{one.shape[1]} steered and {other.shape[1]} default texts: give both for every opening")
    # one call for all, so that a text in both gets one score
    every = score([*one.ravel(), *other.ravel()])
    first, second = every[: one.size].reshape(one.shape), every[one.size :].reshape(other.shape)
    return first.mean(0) - second.mean(0)


def _quality(tuned: Tuned, label_n: Array, group_n: Array, seed: int) -> Quality:
    score_n = tuned.out_of_fold_n
    weight_bn = bootstrap_weights(group_n, seed=seed).astype(float)
    size = (len(label_n), len(np.unique(group_n)))
    found = _summary(auroc, label_n, score_n, weight_bn, size)
    # near 1 no replicate has an error to draw, so the lower end leaves room for what the groups may hide
    room = 1 - hidden_failures(fewest_groups(label_n, group_n))
    found = replace(found, lo=min(found.lo, room)) if found.value > room else found
    probability_n = expit(tuned.platt.log_odds(score_n))
    return Quality(
        found,
        _summary(ece, label_n, probability_n, weight_bn, size),
        float(tuned.platt.slope),
    )


def _summary(metric: Any, label_n: Array, x_n: Array, weight_bn: Array, size: tuple[int, int]) -> Summary:
    # both metrics lie in [0, 1], which sums of weights leave by their rounding
    lo, hi = np.clip(np.quantile(metric(label_n, x_n, weight_bn), [0.025, 0.975]), 0, 1)
    return Summary(float(metric(label_n, x_n)), float(lo), float(hi), *size)


def _named(name: str, tuned: Tuned) -> str:
    """Name and parameters as a method is written: `word_ngrams(C=10.0)`."""
    return f"{name}({', '.join(f'{key}={value:.4g}' for key, value in tuned.params.items())})"
