"""What the model is held against: the choice is made on training rows, the strongest text and chance are found."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite.comparison import baselines
from theodolite.comparison.fits import Fitted
from theodolite.comparison.jobs import Job
from theodolite.comparison.tables import matched
from theodolite.core.recipe import Contrast, Recipe
from theodolite.core.run import source_left_out
from theodolite.core.verdict import verdicts

SITE = "blocks.3.resid_post"
SHIFT = "new"
METHODS = [
    "logistic",
    "difference_in_means",
    "shuffled_labels",
    "word_ngrams",
    "sentence",
    "length",
    "random_direction(draw=0)",
    "random_direction(draw=1)",
]
RECIPE = Recipe(
    name="mine",
    title="Mine",
    positive="bad",
    negative="good",
    question="",
    site=SITE,
    sites=[SITE],
    train=[],
    methods=METHODS,
    primary=None,
    contrasts=[Contrast(method="difference_in_means", than="logistic")],
)
# Standard deviations between the classes: in distribution and on the shift, and the cross-validated loss.
PLAN = {
    "logistic": (2.0, 0.5, 0.30),
    "difference_in_means": (1.6, 1.9, 0.40),
    "shuffled_labels": (0.0, 0.0, 0.10),
    "word_ngrams": (1.9, 0.4, 0.20),
    "sentence": (1.0, 1.2, 0.50),
    "length": (0.2, 0.1, 0.69),
    "random_direction(draw=0)": (0.1, -0.1, 0.69),
    "random_direction(draw=1)": (-0.2, 0.2, 0.69),
}


def fitted(plan: dict[str, tuple[float, float, float]], seeds: int = 5, n: int = 300) -> list[Fitted]:
    """Every method on test rows and on a shift, each with noise of its own on the same rows and training sets."""
    found = []
    for number, (method, (inside, shift, loss)) in enumerate(plan.items()):
        rng, frames = np.random.default_rng(number), []
        for dataset, gap in (("in-distribution", inside), (SHIFT, shift)):
            y, noise = np.arange(n) % 2, rng.normal(size=n)
            frames += [
                pd.DataFrame(
                    {
                        "row": [f"{dataset}{i}" for i in range(n)],
                        "hash": "0",
                        "group": [f"g{i}" for i in range(n)],
                        "template": "",
                        "request": "",
                        "dataset": dataset,
                        "split": "test",
                        "label": y,
                        "method": method,
                        "site": "" if method in {"word_ngrams", "sentence", "length"} else SITE,
                        "seed": str(seed),
                        "score": gap * y + noise + rng.normal(size=n) * 0.05,
                        "probability": 0.5,
                    }
                )
                for seed in range(seeds)
            ]
        fits: list[dict[str, Any]] = [{"seed": s, "thresholds": {}, "cv_log_loss": loss} for s in range(seeds)]
        site = str(frames[0]["site"].iloc[0])
        found.append(Fitted(Job(method, site), pd.concat(frames, ignore_index=True), fits))
    return found


@pytest.fixture(scope="module")
def all_fitted() -> list[Fitted]:
    return fitted(PLAN)


@pytest.fixture(scope="module")
def facts(all_fitted: list[Fitted]) -> dict[str, Any]:
    return baselines.facts(matched(all_fitted, RECIPE), all_fitted, RECIPE)


def of(facts: dict[str, Any], part: str, dataset: str) -> dict[str, Any]:
    (found,) = [line for line in facts[part] if line["dataset"] == dataset]
    return found


def test_the_reader_is_chosen_by_training_loss_whatever_it_reads_on_the_shift(facts: dict[str, Any]) -> None:
    assert facts["chosen"] == {"": "logistic"}, "not the best on the shift, and not a control with a low loss"
    assert {line["method"] for line in facts["text"]} == {"logistic"}
    assert facts["text_only"] == ["word_ngrams", "sentence", "length"]


def test_the_strongest_text_is_found_on_every_data_set_of_its_own(facts: dict[str, Any]) -> None:
    assert of(facts, "text", "in-distribution")["than"] == "word_ngrams"
    assert of(facts, "text", SHIFT)["than"] == "sentence", "the sentence encoder counts as text alone"


def test_the_difference_is_paired_and_its_p_pays_for_the_choice(
    facts: dict[str, Any], all_fitted: list[Fitted]
) -> None:
    line = of(facts, "text", SHIFT)
    (alone,) = [
        c
        for c in matched(all_fitted, RECIPE).contrasts
        if (c.dataset, c.method, c.versus) == (SHIFT, "logistic", "sentence")
    ]
    assert line["value"] == pytest.approx(line["level"] - line["than_level"])
    assert line["value"] == alone.verdict.difference.value
    assert line["n_text"] == 3
    single = verdicts([alone.verdict.difference])[0].p_different
    assert line["p_adjusted"] == pytest.approx(min(1.0, 3 * single))
    assert (alone.verdict.word, line["verdict"]) == ("worse", "undecided"), "the best of three by luck alone?"


def test_random_directions_count_with_their_better_sign_and_a_plain_set_is_not_easy(facts: dict[str, Any]) -> None:
    band = of(facts, "random", SHIFT)
    assert band["draws"] == 2
    assert 0.5 <= band["lo"] <= band["hi"] < 0.6
    assert not band["easy"]


@pytest.mark.parametrize(
    ("draws", "easy"),
    [
        ((1.5, -1.5), True),  # every draw passes .7, one of them in reverse
        ((0.1, -1.9), True),  # the interval of one draw, in reverse, lies above .7
        ((0.1, 0.7), False),  # one draw passes .7, its interval does not
        ((0.1, 0.3), False),
    ],
)
def test_easy_is_a_set_that_random_directions_read(draws: tuple[float, float], easy: bool) -> None:
    plan = {
        "logistic": (3.0, 3.0, 0.3),
        **{f"random_direction(draw={i})": (gap, gap, 0.69) for i, gap in enumerate(draws)},
    }
    rows = fitted(plan)
    band = of(baselines.facts(matched(rows, RECIPE), rows, RECIPE), "random", SHIFT)
    assert band["easy"] == easy


def test_below_five_training_sets_no_verdict_is_given() -> None:
    rows = fitted({name: PLAN[name] for name in ("logistic", "sentence")}, seeds=2)
    line = of(baselines.facts(matched(rows, RECIPE), rows, RECIPE), "text", SHIFT)
    assert (line["verdict"], line["needs"]) == ("undecided", {"code": "seeds", "seeds": 5})


def test_a_source_left_out_has_a_choice_of_its_own() -> None:
    whole, part = fitted({"logistic": PLAN["logistic"], "difference_in_means": PLAN["difference_in_means"]}), []
    for f, loss in zip(whole, (0.6, 0.5), strict=True):
        fits = [fit | {"cv_log_loss": loss} for fit in f.fits]
        part.append(Fitted(Job(f.job.method, SITE, leave_out="rho"), f.scores, fits))
    assert baselines.chosen([*whole, *part], RECIPE) == {"": "logistic", "rho": "difference_in_means"}
    assert source_left_out("leave-one-source-out:rho vs edgy") == "rho"


def test_without_text_or_random_directions_nothing_is_claimed() -> None:
    rows = fitted({"logistic": PLAN["logistic"]})
    facts = baselines.facts(matched(rows, RECIPE), rows, RECIPE)
    assert (facts["text_only"], facts["text"], facts["random"]) == ([], [], [])


def test_on_rows_that_the_choice_has_seen_no_word_is_given() -> None:
    """The test rows of one training set are training rows of another: the choice knows them."""
    plan = {"logistic": (3.0, 3.0, 0.1), "word_ngrams": (0.1, 0.1, 0.6)}
    rows = fitted(plan)
    found = baselines.facts(matched(rows, RECIPE), rows, RECIPE)
    assert of(found, "text", SHIFT)["verdict"] == "better"
    inside = of(found, "text", "in-distribution")
    assert (inside["verdict"], inside["needs"]) == ("undecided", {"code": "chosen here"})
    assert inside["value"] > 0.2


def test_a_text_baseline_without_a_score_is_not_the_strongest_wherever_it_stands() -> None:
    rows = fitted({name: PLAN[name] for name in ("logistic", "word_ngrams", "sentence", "length")})
    for f in rows:
        if f.job.method == "word_ngrams":  # the first of the text-only methods
            f.scores["score"] = np.nan
    found = matched(rows, RECIPE)
    line = of(baselines.facts(found, rows, RECIPE), "text", SHIFT)
    assert (line["than"], line["n_text"]) == ("sentence", 3)
    (nothing,) = [c for c in found.contrasts if (c.dataset, c.versus) == (SHIFT, "word_ngrams")]
    assert nothing.verdict.word == "undecided"
    assert nothing.verdict.needs.reason == "nothing was scored", "not: every row has one score"


def test_what_is_picked_by_its_result_is_not_primary_even_where_the_recipe_asks_for_it() -> None:
    asked = [Contrast(method="logistic", than="word_ngrams")]
    recipe = RECIPE.model_copy(update={"primary": SHIFT, "contrasts": asked})
    rows = fitted({name: PLAN[name] for name in ("logistic", "word_ngrams")})
    found = matched(rows, recipe)
    assert [c.primary for c in found.contrasts if c.dataset == SHIFT] == [True]
    assert not of(baselines.facts(found, rows, recipe), "text", SHIFT)["primary"]
