"""Facts behind the plain answers: the leader is the one that was planted, and its lead pays for having been picked."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from theodolite.comparison import answers
from theodolite.comparison.answers import Roles
from theodolite.core.metrics import auroc
from theodolite.core.recipe import Recipe
from theodolite.core.run import IN_DISTRIBUTION
from theodolite.core.stats import Interval
from theodolite.study.score_matrix import read_score_matrix
from theodolite.study.training_sets import UNMEASURED, of_dataset

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
    methods=["logistic"],
    primary=None,
    contrasts=[],
)
TEXT = {"word_ngrams", "length", "sentence"}
# Standard deviations between the classes on the shift
PLAN = {
    "logistic": 2.0,
    "ridge": 1.98,
    "word_ngrams": 0.8,
    "length": 0.2,
    "k_sparse@latents": 1.0,
    "k_sparse@control": 0.2,
    "k_sparse(k=4)@latents": 3.0,
    "shuffled_labels": 0.0,
    "logistic@latents [other]": 4.0,
    "logistic@error": 4.0,
}
N_BOOT = 200


def scores(
    plan: dict[str, float], *, dataset: str = "new", n: int = 300, seeds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Every method with noise of its own on the same rows and training sets; its gap is the distance of the classes."""
    frames, y = [], np.arange(n) % 2
    for number, (method, gap) in enumerate(plan.items()):
        rng = np.random.default_rng([seed, number])
        noise = rng.normal(size=n)
        for training_set in range(seeds):
            score = gap * y + noise + rng.normal(size=n) * 0.05
            columns: dict[str, Any] = {"row": [f"r{i}" for i in range(n)], "group": [f"g{i}" for i in range(n)]}
            columns |= {"hash": "0", "template": "", "request": "", "dataset": dataset, "split": "shift", "label": y}
            columns |= {"method": method, "site": "" if method in TEXT else SITE, "seed": str(training_set)}
            frames.append(pd.DataFrame(columns | {"score": score, "probability": 0.5}))
    return pd.concat(frames, ignore_index=True)


def facts(frame: pd.DataFrame, chosen: str = "logistic") -> dict[str, Any]:
    (found,) = answers.facts(frame, RECIPE, {"": chosen}, n_boot=N_BOOT)["datasets"]
    return dict(found)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return facts(scores(PLAN))


def interval(frame: pd.DataFrame, one: str, other: str) -> Interval:
    matrix = read_score_matrix("new", frame, training=of_dataset(UNMEASURED, "new"), n_boot=N_BOOT, seed=0)
    key = {key[0]: key for key in matrix.scores}
    return matrix.sample.paired(auroc, matrix.scores[key[one]], matrix.scores[key[other]]).interval(bounded=False)


def test_controls_diagnostics_other_dictionaries_and_points_of_a_curve_are_no_candidates() -> None:
    roles = Roles.of([*PLAN, "sentence", "logistic@state+latents"])
    assert roles.candidates == (
        "logistic",
        "ridge",
        "word_ngrams",
        "length",
        "k_sparse@latents",
        "sentence",
        "logistic@state+latents",
    )
    assert roles.text == ("word_ngrams", "length", "sentence")
    assert roles.model == ("logistic", "ridge", "k_sparse@latents", "logistic@state+latents")
    assert roles.dictionary == (
        ("dense", "k_sparse@latents", "logistic"),
        ("control", "k_sparse@latents", "k_sparse@control"),
        ("dense", "logistic@state+latents", "logistic"),
    )
    assert Roles.of(["k_sparse(k=4)@latents"]).candidates == ("k_sparse(k=4)@latents",), "nothing tunes it here"


def test_the_planted_leader_leads_and_a_near_copy_is_not_told_apart(found: dict[str, Any]) -> None:
    assert found["leader"] in ("logistic", "ridge")
    of = {line["than"]: line for line in found["leads"]}
    near = of.pop("ridge" if found["leader"] == "logistic" else "logistic")
    assert near["lo"] < 0 < near["hi"]
    assert all(line["lo"] > 0 for line in of.values())
    assert {line["family"] for line in of.values()} == {4}, "five candidates: four may be called best wrongly"


def test_a_lead_pays_for_the_choice_of_the_leader(found: dict[str, Any]) -> None:
    """The half-width is Student's at .025 over the number of others, times the same standard error."""
    line = next(line for line in found["leads"] if line["than"] == "word_ngrams")
    alone = interval(scores(PLAN), found["leader"], "word_ngrams")
    assert line["value"] == alone.value
    assert line["hi"] - line["value"] == pytest.approx(student.ppf(1 - 0.025 / 4, alone.df) * alone.sd)
    assert line["hi"] - line["lo"] > alone.hi - alone.lo


def test_the_reader_of_the_model_meets_the_strongest_text_and_pays_for_that_choice(found: dict[str, Any]) -> None:
    (line,) = found["model"]
    assert (line["method"], line["than"], line["family"]) == ("logistic", "word_ngrams", 2)
    (inside,) = facts(scores(PLAN, dataset=IN_DISTRIBUTION))["model"]
    assert inside["family"] == 2 * 3, "on test rows the reader may have been picked by those rows too"
    assert facts(scores({"logistic": 2.0}))["model"] == []


def test_of_many_methods_that_are_equal_hardly_one_is_called_best() -> None:
    """Six equal methods, 40 data sets: an uncorrected best lead over all others would pass far more often."""
    plan = dict.fromkeys(["logistic", "ridge", "lda", "mlp", "lat", "difference_in_means"], 1.0)
    called = 0
    for seed in range(40):
        leads = facts(scores(plan, n=60, seed=seed))["leads"]
        called += any(line["lo"] > 0 for line in leads)
    assert called <= 5, "5 % of 40 is 2; more than 5 has a probability of 1.4 %"


def test_reversed_and_silent_methods_are_named_and_lead_nothing() -> None:
    frame = scores({"logistic": 2.0, "ridge": -2.0, "lda": 1.0, "word_ngrams": -1.0})
    frame.loc[frame["method"] == "lda", "score"] = 0.5
    one = facts(frame)
    assert (one["leader"], one["inverted"], one["silent"]) == ("logistic", ["ridge", "word_ngrams"], ["lda"])
    assert one["leads"] == []
    (line,) = one["model"]
    assert (line["why"], line["about"]) == ("inverted", ["word_ngrams"])
    assert np.isnan(line["lo"]), "what is not compared has no interval"


def test_too_few_training_sets_and_one_label_have_no_intervals() -> None:
    few = facts(scores({"logistic": 2.0, "ridge": 1.0}, seeds=2))
    assert {level["why"] for level in few["levels"]} == {"seeds"}
    one = scores({"logistic": 2.0})
    nothing = facts(one[one["label"] == 1])
    assert (nothing["both_labels"], nothing["levels"], nothing["n"]) == (False, [], 150)


def test_one_group_per_class_cannot_decide_anything() -> None:
    frame = scores({"logistic": 2.0, "ridge": 1.0}).assign(group=lambda f: "g" + f["label"].astype(str))
    assert {level["why"] for level in facts(frame)["levels"]} == {"groups"}
