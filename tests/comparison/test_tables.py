"""What the tables of a run rest on: the constants that are used, and the test rows where no shift is primary."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite.comparison import conclusion, fits
from theodolite.comparison.evaluate import Evaluation, evaluate
from theodolite.comparison.fits import Fitted
from theodolite.comparison.jobs import Job
from theodolite.comparison.request import METHODS
from theodolite.comparison.tables import PROTOCOL, blocks, matched
from theodolite.core import methods, run
from theodolite.core.recipe import Contrast, Recipe
from theodolite.data.splits import folds
from theodolite.dictionaries import card
from theodolite.report.numbers import signed, span

SITE = "blocks.3.resid_post"
RECIPE = Recipe(
    name="mine", title="Mine", positive="bad", negative="good", question="", site=SITE, sites=[SITE], train=[],
    contrasts=[Contrast(method="good", than="poor")],
)  # fmt: skip


def fitted(
    method: str, gap: float, dataset: str = "in-distribution", *, tuned: bool = True, label: Any = None
) -> Fitted:
    """Five training sets of a method that sets the classes `gap` standard deviations apart."""
    n = 120
    rng, y = np.random.default_rng(1), np.arange(n) % 2 if label is None else np.full(n, label)
    noise = rng.normal(size=n)
    frames = [
        pd.DataFrame(
            {"row": [f"r{i}" for i in range(n)], "hash": "0", "group": [f"g{i}" for i in range(n)], "template": "",
             "request": "", "dataset": dataset, "split": "test", "label": y, "method": method, "site": SITE,
             "seed": str(seed), "score": gap * y + noise, "probability": 0.5}
        )
        for seed in range(5)
    ]  # fmt: skip
    return Fitted(Job(method, SITE, tuned=tuned), pd.concat(frames), [{"seed": s, "thresholds": {}} for s in range(5)])


@pytest.mark.parametrize(
    ("primary", "where", "words"),
    [(None, "in-distribution", "AUROC on the test rows (n = 120"), ("other", "other", "AUROC on other (n = 120")],
)
def test_without_a_primary_shift_the_test_rows_decide(primary: str | None, where: str, words: str) -> None:
    rows = [fitted(m, gap, d) for m, gap in (("good", 2.0), ("poor", 0.3)) for d in ("in-distribution", "other")]
    found = matched(rows, RECIPE.model_copy(update={"primary": primary}))
    assert {c.dataset: c.primary for c in found.contrasts} == {"in-distribution": False, "other": False} | {where: True}
    assert conclusion._sentence(found, RECIPE, "it").startswith(words)


def test_the_sentence_writes_numbers_as_the_page_does_and_counts_the_class_with_fewer_groups() -> None:
    found = matched([fitted("good", 2.0), fitted("poor", 0.3)], RECIPE)
    d = found.contrasts[0].verdict.difference
    said = conclusion._sentence(found, RECIPE, "it")
    assert f"difference {signed(d.value)} {span(d.lo, d.hi, sign=True)})" in said
    assert "(n = 120, at least 60 groups per class, 5 training sets)" in said


def test_a_verdict_without_a_contrast_says_where_none_could_be_run() -> None:
    empty = Evaluation([], [], [("good", "poor")])
    assert conclusion._sentence(empty, RECIPE, "it") == "Mine, reading it: no contrast could be run on the test rows."


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
