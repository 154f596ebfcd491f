"""Baselines for the best reader of the model: the strongest text-only method, and random directions.

The reader is chosen on training rows, by cross-validated log loss, so that no row of a shift has a part in the choice.
The test rows of one training set are training rows of another: on them the choice flatters the reader, and the
contrast gets no word. The text-only baseline is the strongest on those very rows: that flatters the baseline, never
the model, and the p-value of the contrast is multiplied by the number of baselines it was picked from (Bonferroni).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from theodolite.comparison.evaluate import Contrasted, Evaluation
from theodolite.comparison.fits import Fitted
from theodolite.core import methods
from theodolite.core.recipe import Contrast, Recipe
from theodolite.core.run import IN_DISTRIBUTION, source_left_out
from theodolite.core.verdict import Needs, verdicts

MODEL_VIEWS = {"state", "latents", "reconstruction", "error", "state+latents", "answer"}
TEXT_VIEWS = {"text", "sentence"}  # what needs the text and no activation of the model under study
RANDOM = "random_direction"
EASY = 0.7  # an AUROC that a direction which knows nothing reaches only where the data set hardly asks for learning
CHOSEN_HERE = Needs("chosen here")  # the reader was chosen with these rows: other training sets learn from them

Levels = dict[tuple[str, str], Any]  # by data set and method: the row of the AUROC over all seeds


def chosen(fitted: Sequence[Fitted], recipe: Recipe) -> dict[str, str]:
    """Best method that reads the model, by cross-validated log loss, for each source left out ("" for none).

    The loss is of out-of-fold training rows, the mean over training sets. One that tells nothing by design (a random
    direction, shuffled labels) is no candidate.
    """
    losses: dict[str, dict[str, float]] = {}
    for f in _own(fitted, recipe):
        method = methods.parse(f.job.method)
        if method.view in MODEL_VIEWS and (method.cls.learns or method.view == "answer"):
            loss = float(np.mean([fit["cv_log_loss"] for fit in f.fits]))
            losses.setdefault(f.job.leave_out, {})[f.job.method] = loss
    return {left_out: min(by, key=by.__getitem__) for left_out, by in losses.items()}


def text_only(fitted: Sequence[Fitted], recipe: Recipe) -> list[str]:
    """Methods that have the text alone and learn from it."""
    parsed = {f.job.method: methods.parse(f.job.method) for f in _own(fitted, recipe)}
    return [name for name, method in parsed.items() if method.view in TEXT_VIEWS and method.cls.learns]


def contrasts(fitted: Sequence[Fitted], recipe: Recipe) -> list[Contrast]:
    """Every chosen method against every text-only one, for `evaluate` to pair on the rows they share."""
    best = dict.fromkeys(chosen(fitted, recipe).values())
    return [Contrast(method=method, than=text) for method in best for text in text_only(fitted, recipe)]


def facts(matched: Evaluation, fitted: Sequence[Fitted], recipe: Recipe) -> dict[str, Any]:
    """Facts of the report about text and chance, by data set: artefacts/baselines.json.

    `chosen`: as the function; `text`: the chosen method against the strongest text-only one; `random`: the band of
    random directions, and whether it makes the data set easy.
    """
    best, texts = chosen(fitted, recipe), text_only(fitted, recipe)
    levels: Levels = {
        (row["dataset"], row["method"]): row
        for row in matched.rows
        if (row["task"], row["metric"], row["seed"]) == ("matched", "auroc", "all")
    }
    datasets = list(dict.fromkeys(dataset for dataset, _ in levels))
    on = {dataset: best.get(source_left_out(dataset), "") for dataset in datasets}
    text = [_against_text(matched, levels, dataset, on[dataset], texts) for dataset in datasets]
    random = [_random(levels, dataset, on[dataset]) for dataset in datasets]
    return {
        "chosen": best,
        "text_only": texts,
        "easy_from": EASY,
        "text": [t for t in text if t],
        "random": [r for r in random if r],
    }


def _against_text(
    matched: Evaluation, levels: Levels, dataset: str, method: str, texts: Sequence[str]
) -> dict[str, Any] | None:
    """The method against the text-only one with the highest AUROC on this data set; None where they share no rows."""
    found = {
        c.versus: c
        for c in matched.contrasts
        if (c.dataset, c.metric, c.method) == (dataset, "auroc", method) and c.versus in texts
    }
    if not found:
        return None
    scored = [text for text in found if np.isfinite(levels[dataset, text]["value"])]
    strongest = max(scored or found, key=lambda text: levels[dataset, text]["value"])
    return _contrast(found[strongest], len(found)) | {
        "level": levels[dataset, method]["value"],
        "than_level": levels[dataset, strongest]["value"],
    }


def _contrast(contrast: Contrasted, n_picked_from: int) -> dict[str, Any]:
    """The difference as it is, and a verdict that pays for having been picked among so many."""
    d = contrast.verdict.difference
    inverted = [contrast.verdict.inverted] * n_picked_from
    # Holm over k equal p-values is Bonferroni's
    verdict = verdicts([d] * n_picked_from, contrast.verdict.margin, inverted)[0]
    words = {"verdict": verdict.word, "needs": verdict.needs.facts(), "p_adjusted": verdict.p_different}
    if contrast.dataset == IN_DISTRIBUTION and verdict.word not in ("undecided", "inverted"):
        words |= {"verdict": "undecided", "needs": CHOSEN_HERE.facts()}
    # picked by a result, so not primary, even where the recipe asks for the same two methods
    return difference(contrast) | words | {"n_text": n_picked_from, "primary": False}


def difference(contrast: Contrasted) -> dict[str, Any]:
    """One contrast as the report reads it: where, which two methods, the difference with its interval, the word."""
    d = contrast.verdict.difference
    place = {"dataset": contrast.dataset, "method": contrast.method, "than": contrast.versus}
    numbers = {key: getattr(d, key) for key in ("value", "lo", "hi", "n", "n_groups")}
    words = {"verdict": contrast.verdict.word, "needs": contrast.verdict.needs.facts(), "primary": contrast.primary}
    words |= {"inverted": list(contrast.verdict.inverted)} if contrast.verdict.inverted else {}
    return place | numbers | words


def _random(levels: Levels, dataset: str, best: str) -> dict[str, Any] | None:
    """The band of random directions of dense activations on one data set; None where none was drawn.

    A draw's sign is luck, and one labelled text would settle it: each counts with the better sign. Easy is a data set
    on which every draw passes EASY, or the interval of the highest lies above it (without intervals, below five
    training sets: only the first).
    """
    drawn = [
        _better_sign(row)
        for (name, method), row in levels.items()
        if name == dataset and method.startswith(RANDOM) and "@" not in method and np.isfinite(row["value"])
    ]
    if not drawn:
        return None
    low, (high, floor) = min(drawn)[0], max(drawn)
    return {
        "dataset": dataset,
        "draws": len(drawn),
        "lo": low,
        "hi": high,
        "best": best,
        "easy": bool(low > EASY or floor > EASY),
    }


def _better_sign(row: dict[str, Any]) -> tuple[float, float]:
    """AUROC of a direction or of its reverse, whichever is above chance, and the lower end of its interval (or 0)."""
    value, lo, hi = (float(row[key]) for key in ("value", "lo", "hi"))
    if value < 0.5:
        value, lo = 1 - value, 1 - hi
    return value, lo if np.isfinite(lo) else 0.0


def _own(fitted: Sequence[Fitted], recipe: Recipe) -> list[Fitted]:
    """Fits of the recipe's methods at the matched site: no other dictionaries, no sweep over blocks."""
    return [
        f
        for f in fitted
        if f.job.method in recipe.methods and f.job.tuned and not f.job.family and f.job.site in ("", recipe.site)
    ]
