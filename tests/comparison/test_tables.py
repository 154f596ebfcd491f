"""What the tables of a run rest on: the constants that are used, and the test rows where no shift is primary."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite.comparison import conclusion, fits
from theodolite.comparison.evaluate import Evaluation, evaluate
from theodolite.comparison.fits import Fitted
from theodolite.comparison.jobs import Job
from theodolite.comparison.tables import PROTOCOL, blocks, matched
from theodolite.core import methods, run
from theodolite.core.recipe import Contrast, Recipe
from theodolite.core.verdict import Needs
from theodolite.data.splits import folds
from theodolite.dictionaries.training import card
from theodolite.study.request import METHODS, with_shuffles

SITE = "blocks.3.resid_post"
RECIPE = Recipe(
    name="mine",
    title="Mine",
    positive="bad",
    negative="good",
    question="",
    site=SITE,
    sites=[SITE],
    train=[],
    contrasts=[Contrast(method="good", than="poor")],
)


def fitted(
    method: str, gap: float, dataset: str = "in-distribution", *, tuned: bool = True, label: Any = None
) -> Fitted:
    """Five training sets of a method that sets the classes `gap` standard deviations apart."""
    n = 120
    rng, y = np.random.default_rng(1), np.arange(n) % 2 if label is None else np.full(n, label)
    noise = rng.normal(size=n)
    frames = [
        pd.DataFrame(
            {
                "row": [f"r{i}" for i in range(n)],
                "hash": "0",
                "group": [f"g{i}" for i in range(n)],
                "template": "",
                "request": "",
                "dataset": dataset,
                "split": "test",
                "label": y,
                "method": method,
                "site": SITE,
                "seed": str(seed),
                "score": gap * y + noise,
                "probability": 0.5,
            }
        )
        for seed in range(5)
    ]
    return Fitted(Job(method, SITE, tuned=tuned), pd.concat(frames), [{"seed": s, "thresholds": {}} for s in range(5)])


@pytest.mark.parametrize(
    ("primary", "where"),
    [(None, "in-distribution"), ("other", "other")],
)
def test_without_a_primary_shift_the_test_rows_decide(primary: str | None, where: str) -> None:
    rows = [fitted(m, gap, d) for m, gap in (("good", 2.0), ("poor", 0.3)) for d in ("in-distribution", "other")]
    found = matched(rows, RECIPE.model_copy(update={"primary": primary}))
    assert {c.dataset: c.primary for c in found.contrasts} == {"in-distribution": False, "other": False} | {where: True}
    (line,) = written(found, RECIPE.model_copy(update={"primary": primary}))["contrasts"]
    assert (line["dataset"], line["n"]) == (where, 120)


def written(found: Evaluation, recipe: Recipe) -> dict[str, Any]:
    """The facts of verdict.json."""
    kept: dict[str, Any] = {}
    document = SimpleNamespace(facts={}, write_json=kept.__setitem__)
    conclusion.write(found, recipe, {"columns": 3}, (), {}, document)  # type: ignore[arg-type]
    return dict(kept["verdict"])


def test_a_contrast_is_written_with_its_numbers_and_counts_the_class_with_fewer_groups() -> None:
    found = matched([fitted("good", 2.0), fitted("poor", 0.3)], RECIPE)
    d = found.contrasts[0].verdict.difference
    (line,) = written(found, RECIPE)["contrasts"]
    assert [line[key] for key in ("value", "lo", "hi", "n", "n_groups", "n_seeds")] == [d.value, d.lo, d.hi, 120, 60, 5]
    levels = {r["method"]: r["value"] for r in found.rows if conclusion._is_level(r)}
    assert (line["level"], line["than_level"]) == (levels["good"], levels["poor"])


def test_a_contrast_that_could_not_be_run_is_a_note() -> None:
    facts = written(Evaluation([], [], [("good", "poor")]), RECIPE)
    assert facts["contrasts"] == []
    assert {"code": "not run", "method": "good", "than": "poor"} in facts["notes"]
    assert facts["dataset"] == "in-distribution"


def test_the_heat_map_is_the_metric_of_the_tables_and_leaves_out_one_class() -> None:
    sweep = [fitted("lat", 1.0, tuned=False), fitted("lat", 1.0, "edgy", tuned=False, label=0)]
    (one,) = blocks(sweep)
    same = next(r for r in evaluate(sweep[0].scores).rows if (r["seed"], r["metric"]) == ("all", "auroc"))
    assert one["task"] == "blocks"
    assert {k: v for k, v in one.items() if k not in {"task", "lo", "hi"}} == {
        k: v for k, v in same.items() if k not in {"task", "lo", "hi"}
    }


def test_the_protocol_states_what_is_done() -> None:
    parsed = [methods.parse(name) for name in METHODS]
    assert max(len(method.cls.grid(**method.params)) for method in parsed) <= PROTOCOL["configurations"]
    n = np.arange(60)
    frame = pd.DataFrame({"label": n % 2, "source": "a", "cluster": n, "hash": n.astype(str)})
    assert len(set(folds(frame))) == PROTOCOL["folds"]


def test_words_with_two_homes_are_equal() -> None:
    assert fits.IN_DISTRIBUTION == run.IN_DISTRIBUTION
    assert list(card.DOMAINS) == list(run.DOMAINS.values())


def test_methods_below_chance_are_called_inverted_and_not_compared() -> None:
    """Version 0.1.0 called the smaller distance from chance "better": .368 than .202, both the wrong way round."""
    found = matched([fitted("good", -0.6), fitted("poor", -2.0)], RECIPE)
    (contrast,) = found.contrasts
    assert (contrast.verdict.word, contrast.verdict.inverted) == ("inverted", ("good", "poor"))
    assert written(found, RECIPE)["contrasts"][0]["inverted"] == ["good", "poor"]
    (note,) = conclusion._inverted_notes(found)
    assert note == {"code": "inverted", "dataset": "in-distribution", "methods": ["good", "poor"]}


def test_one_method_below_chance_is_enough_and_chance_is_not() -> None:
    words = {
        gap: matched([fitted("good", 2.0), fitted("poor", gap)], RECIPE).contrasts[0].verdict for gap in (-1.0, 0.0)
    }
    assert words[-1.0].inverted == ("poor",)
    assert words[0.0].word == "better"


def test_only_primary_contrasts_have_a_holm_p_and_all_others_a_false_discovery_p() -> None:
    rows = [
        fitted(m, gap, d) for m, gap in (("good", 2.0), ("poor", 1.8)) for d in ("in-distribution", "other", "third")
    ]
    found = matched(rows, RECIPE.model_copy(update={"primary": "other"}))
    said = {c.dataset: conclusion._contrast(c) for c in found.contrasts}
    assert "p_fdr" not in said["other"]
    assert said["other"]["p_holm"] == said["other"]["p"]  # a family of one
    for name in ("in-distribution", "third"):
        assert "p_holm" not in said[name]
        largest = max(said[other]["p"] for other in ("in-distribution", "third"))
        assert said[name]["p_fdr"] == pytest.approx(1.5 * largest)  # of two alike, 1 + 1/2 times the larger
    metrics = {(r["dataset"], r["metric"]) for r in found.rows if r["task"] == "contrast"}
    assert ("other", "p_holm") in metrics
    assert ("third", "p_fdr") in metrics
    assert ("third", "p_holm") not in metrics


def test_the_margin_of_the_recipe_decides_and_is_told_as_errors_near_one() -> None:
    rows = [fitted("good", 4.5), fitted("poor", 4.4)]
    verdict = [matched(rows, RECIPE.model_copy(update={"margin": m})).contrasts[0].verdict for m in (0.1, 1e-6)]
    assert (verdict[0].word, verdict[0].margin) == ("equivalent", 0.1)
    assert verdict[1].word != "equivalent"
    (note,) = conclusion._margin_notes(matched(rows, RECIPE.model_copy(update={"margin": 0.1})))
    level = next(r["value"] for r in matched(rows, RECIPE).rows if conclusion._is_level(r) and r["method"] == "good")
    assert note["error"] == 1 - level
    names = ("code", "method", "than", "better", "other", "verdict", "margin")
    assert [note[name] for name in names] == ["margin", "good", "poor", "good", "poor", "equivalent", 0.1]
    assert conclusion._margin_notes(matched([fitted("good", 1.0), fitted("poor", 0.99)], RECIPE)) == []


def test_shuffled_labels_are_drawn_ten_times() -> None:
    asked = with_shuffles(["logistic", "shuffled_labels"])
    assert asked == ["logistic", *(f"shuffled_labels(draw={i})" for i in range(10))]
    assert set(asked[1:]) <= set(METHODS)


def test_a_method_that_gives_all_rows_one_score_is_compared_with_nothing() -> None:
    """A latent that fires on none of these rows is not "equivalent" to another that does not."""
    dead = [replace(f, scores=f.scores.assign(score=0.0)) for f in (fitted("good", 0.0), fitted("poor", 0.0))]
    for other in (dead[1], fitted("poor", 2.0)):
        (contrast,) = matched([dead[0], other], RECIPE).contrasts
        assert contrast.verdict.word == "undecided"
        assert contrast.verdict.needs.code == "no interval"
        assert "good" in contrast.verdict.needs.reason
        assert "gives every row one score" in contrast.verdict.needs.reason
        assert contrast.verdict.p == contrast.verdict.p_equivalent == 1.0


def test_non_inferior_is_told_as_errors_of_the_first_beside_those_of_the_second() -> None:
    """The first is ahead: what it may be worse by counts from the second's errors, not from its own."""
    found = matched([fitted("good", 3.0), fitted("poor", 2.5)], RECIPE)
    (c,) = found.contrasts
    worded = replace(c, primary=True, verdict=replace(c.verdict, word="non-inferior", needs=Needs("more"), margin=0.1))
    (note,) = conclusion._margin_notes(replace(found, contrasts=[worded]))
    error = 1 - next(r["value"] for r in found.rows if conclusion._is_level(r) and r["method"] == "poor")
    assert (note["better"], note["other"], note["error"]) == ("poor", "good", error)


def test_a_contrast_says_why_there_is_no_interval_and_on_how_many_rows_it_rests() -> None:
    third = Contrast(method="good", than="silent")
    recipe = RECIPE.model_copy(update={"contrasts": [*RECIPE.contrasts, third]})
    silent = fitted("silent", 0.3)
    silent.scores["score"] = np.nan
    scored, nothing = written(matched([fitted("good", 2.0), fitted("poor", 0.3), silent], recipe), recipe)["contrasts"]
    assert (scored["n"], nothing["n"], nothing["n_groups"]) == (120, 0, 0)
    assert (scored["no_interval"], nothing["no_interval"]) == ("", "nothing was scored")
