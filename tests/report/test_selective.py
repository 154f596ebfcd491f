"""The section on single predictions says what a planted run holds: numbers with n and intervals, scope, causes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted_run import FACTS, PRIMARY, RECIPE, VERDICT, row

from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.report import findings, prose
from theodolite.report.blocks import Table, Text
from theodolite.report.selective import answer, selective, summary
from theodolite.report.selective_answer import selection
from theodolite.report.selective_tables import BARE, CELLS, METRICS
from theodolite.report.sheet import Sheet

DATASETS = (IN_DISTRIBUTION, PRIMARY)
RULES = (
    ("chosen", "state", 0.9),
    ("chosen", "pls", 0.95),
    ("certified(sdm)", "state", 0.9),
    ("max_softmax", "", 0.9),
)
CHOICE = {"confidence": "gated(max_softmax)", "space": "state", "expected_coverage": {"0.9": 0.96, "0.95": 0.0}}


def claim(dataset: str, word: str, accuracy: float) -> dict[str, Any]:
    return {
        "method": "logistic",
        "dataset": dataset,
        "alpha": 0.9,
        "word": word,
        "p_holds": 0.01,
        "p_fails": 0.75,
        "worst": "class_0",
        "accuracy": accuracy,
        "n": 308,
        "family": 1,
    }


def choice(seed: int) -> dict[str, Any]:
    return {
        "method": "logistic",
        "seed": seed,
        "chosen": CHOICE,
        "threshold": {"0.9": 0.5 + seed / 8, "0.95": None},
        "certify": [87 - seed, 131],
        "sizes": {"support": 900, "calibrate": 240, "certify": 218},
        "q_min": None,
    }


FOUND = {
    "as_fixed": True,
    "level": 0.9,
    "delta": 0.1,
    "delta_each": 0.1,
    "readers": 1,
    "needed": {"0.9": 22, "0.95": 88},
    "claims": [claim(IN_DISTRIBUTION, "holds", 0.97), claim(PRIMARY, "fails", 0.25)],
    "choices": [choice(0), choice(1)],
}


def figure(rule: str, space: str, level: float, dataset: str, metric: str, value: float, n: int) -> dict[str, Any]:
    params = {"rule": rule, "space": space, "alpha": level, "training_sets": 5}
    made = row("logistic", dataset, task="select", metric=metric, value=value, params=json.dumps(params))
    return made | {"n": n}


def figures() -> list[dict[str, Any]]:
    """Every metric of every rule; the rule of .95 accepts nothing."""
    found = []
    for dataset, accuracy in ((IN_DISTRIBUTION, 0.97), (PRIMARY, 0.5)):
        for rule, space, level in RULES:
            none = level == 0.95
            for metric in (*METRICS, "accuracy_of_all", *(f"accuracy_{cell}" for cell in CELLS)):
                if metric == "lowest":
                    continue
                n = 0 if none and metric.startswith("accuracy") and metric != "accuracy_of_all" else 616
                value = {"accuracy_class_0": 0.25, "coverage": 0.0 if none else 0.875}.get(metric, accuracy)
                found.append(figure(rule, space, level, dataset, metric, value, n))
    return found


def detail() -> pd.DataFrame:
    """Of each data set four rows: right, wrong and accepted, rejected by a gate, rejected as near the boundary."""
    rows = pd.DataFrame(
        {
            "row": ["a", "b", "c", "d"],
            "label": [1, 0, 0, 1],
            "predicted": [1, 1, 0, 0],
            "probability": [0.9, 0.75, 0.01, 0.45],
            "confidence": [0.9, 0.75, -np.inf, 0.55],
            "reason": ["", "", "far from the data", "near the boundary"],
            "q": [3, 2, 0, 1],
            "d": [0.5, 0.25, 0.0, 0.75],
            "q_prime": [2.5, 1.5, 0.0, 1.0],
            "exemplars": ["x y"] * 4,
            "method": "logistic",
            "seed": "0",
        }
    )
    return pd.concat([rows.assign(dataset=dataset) for dataset in DATASETS], ignore_index=True)


def shown(folder: Path, verdict: dict[str, Any] | None, found: dict[str, Any] | None = None) -> Sheet:
    run = Run.create(folder, RECIPE, "d2" * 32)
    run.add_rows([row("logistic", dataset) for dataset in DATASETS] + figures())
    for name, value in FACTS.items():
        run.record(name, value)
    if verdict:
        run.write_json("verdict", verdict)
    run.write_json("selection", found or FOUND)
    run.write_table("selection", detail())
    run.finish()
    return Sheet(run)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return shown(tmp_path_factory.mktemp("run"), VERDICT)


def table(sheet: Sheet, caption: str) -> Table:
    (found,) = [b for b in selective(sheet).blocks if isinstance(b, Table) and b.caption.startswith(caption)]
    return found


def words(of: Table) -> list[list[str]]:
    return [[f"{cell.words} {cell.small}".strip() for cell in line.cells] for line in of.lines]


def test_the_answer_has_n_and_intervals_and_counts_the_shifts(sheet: Sheet) -> None:
    found = answer(sheet)
    assert "is right on .500 [.466, .534] of all 616 rows and on .500 [.466, .534] of the .875 [.841, .909]" in found
    assert "(0.9 fails: .250 [.216, .284] of label 0, n = 308)" in found
    assert "over 1 pair of reader and shift an accuracy of 0.9 holds in 0, fails in 1, is inconclusive in 0" in found


@pytest.mark.parametrize(
    ("claims", "word", "said"),
    [
        (["holds", "holds"], "yes", "Over 2 pairs of reader and shift, an accuracy of 0.9"),
        (["holds", "fails"], "no", "holds in 1, fails in 1; the lowest is .250 [.216, .284] of label 0"),
        (["inconclusive", "holds"], "inconclusive", "inconclusive in 1, holds in 1; the lowest is .250"),
        (["nothing accepted"], "no", "nothing accepted in 1."),
        ([], "not asked", "made no claim"),
    ],
)
def test_the_plain_answer_follows_from_the_words_of_the_claims(
    tmp_path: Path, claims: list[str], word: str, said: str
) -> None:
    found = FOUND | {"claims": [claim(PRIMARY, one, 0.25) for one in claims]}
    answer = selection(shown(tmp_path, None, found))
    assert (answer.word, answer.question) == (word, "selection")
    assert said in answer.sentence
    if "lowest" in answer.sentence:
        assert (answer.method, answer.n, answer.value) == ("logistic", 308, 0.25)


def test_without_a_shift_the_plain_answer_is_about_the_test_rows(tmp_path: Path) -> None:
    found = FOUND | {"claims": [claim(IN_DISTRIBUTION, "holds", 0.97)]}
    answer = selection(shown(tmp_path, None, found))
    assert (answer.word, answer.place) == ("yes", "test rows")


def test_the_verdict_and_the_prose_mention_the_section(sheet: Sheet, tmp_path: Path) -> None:
    for one in (sheet, shown(tmp_path, None)):
        assert Text(summary(sheet)) in findings.verdict(one).blocks
    (points,) = prose.limits(sheet).blocks
    assert any("and the primary analysis of single predictions were fixed before" in s for s in points.sentences)
    copied = prose.methods(sheet).blocks[1]
    assert isinstance(copied, Text)
    assert "on 218 rows (87 and 131 of the labels in the first training set)" in copied.words


def test_claims_have_the_rows_they_rest_on(sheet: Sheet) -> None:
    found = table(sheet, "Primary analysis at 0.9")
    assert [cell.words for cell in found.head[2:6]] == ["All", "n of all", "Coverage", "Accuracy of these"]
    holds, fails = words(found)
    assert (holds[2:5], holds[-3]) == ([".970 [.958, .982]", "616", ".875 [.863, .887]"], "holds")
    assert fails[-3] == "fails: .250 [.216, .284] of label 0, n = 308"


def test_choices_name_the_threshold_of_each_rule(sheet: Sheet) -> None:
    (line,) = words(table(sheet, "Chosen on the 240 calibration rows"))
    assert line[1:4] == ["gated(max_softmax) in state; gated(max_softmax) in state", ".960 .960", "0.5 0.625"]


def test_the_ladder_says_why_a_level_accepts_nothing_and_counts_rows(sheet: Sheet) -> None:
    found = table(sheet, "At every accuracy asked for")
    assert "22 for 0.9, 88 for 0.95; the rarer label has 86 to 87 certify rows" in found.caption
    assert BARE in found.caption
    at, above = words(found)
    assert at[1:5] == ["0.9", ".875 [.863, .887]", ".970 [.958, .982]", "616"]
    assert above[1:5] == ["0.95", ".000 [\N{MINUS SIGN}.012, .012]", "\N{EN DASH}", "0"]


def test_every_rule_has_its_least_cell_and_n(sheet: Sheet) -> None:
    found = table(sheet, f"Every rule on {PRIMARY}")
    assert found.head[-1].words == "n"
    _, *rules = words(found)
    assert [line[0] for line in rules] == ["chosen", "certified(sdm) in state", "max_softmax"]
    assert all(line[3] == ".250 [.216, .284] of label 0, n = 616" and line[-1] == "616" for line in rules)


def test_examples_name_their_training_set_rule_and_confidence(sheet: Sheet) -> None:
    accepted, rejected = (table(sheet, what) for what in ("Accepted and wrong", "Confident and rejected"))
    scope = f"on {PRIMARY}, of the first training set alone (gated(max_softmax) in state)"
    assert scope in accepted.caption
    assert f"{scope}, 2 of 4 rows, highest probability first" in rejected.caption
    assert [line[:6] for line in words(accepted)] == [["b", "0", "1", ".750", "0.75", "accepted"]]
    assert [(line[0], line[4], line[5]) for line in words(rejected)] == [
        ("c", "\N{EN DASH}", "far from the data"),
        ("d", "0.55", "near the boundary"),
    ]


def test_a_run_without_selective_prediction_says_how_to_get_it(run: Run) -> None:
    (found,) = selective(Sheet(run)).blocks
    assert isinstance(found, Text)
    assert "theodolite compare NAME --admit" in found.words
    assert (answer(Sheet(run)), summary(Sheet(run))) == ("", "")
