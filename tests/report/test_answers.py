"""The word of every plain answer follows from the interval beside it, whatever the interval is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_answers import GROUPS, MARGIN, WELL, N, document, entry, level, line, ranked
from planted_run import PRIMARY, row

from theodolite.cli import report
from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.report import answers, findings, html, terminal
from theodolite.report.answer_words import QUESTIONS, TONES, Answer
from theodolite.report.blocks import Answers, Figure, Fold, Table
from theodolite.report.result import Result
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]
METHODS = ("logistic", "ridge", "word_ngrams", "char_ngrams", "k_sparse@latents")
DATASETS = (IN_DISTRIBUTION, PRIMARY, "health")
ROWS = [row(method, dataset) for method in METHODS for dataset in DATASETS]
LEVELS = {"logistic": 0.9, "ridge": 0.89, "word_ngrams": 0.8}
FOUND = document()
PRINTED = re.compile(r"([+−]?)(\d?\.\d{3}) \[([+−]?)(\d?\.\d{3}), ([+−]?)(\d?\.\d{3})\]")


@pytest.fixture(scope="module")
def sheet(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return Sheet(build(tmp_path_factory.mktemp("answers"), only=ROWS, answers=document(entry(PRIMARY))))


def ahead(sheet: Sheet, found: dict[str, Any]) -> Answer:
    return answers._ahead(sheet, found, FOUND)


def ends(answer: Answer) -> tuple[float, float]:
    """Ends of the first interval in the sentence: that of the answer, as a reader sees it."""
    found = PRINTED.search(answer.sentence)
    assert found, answer.sentence
    lo, hi = (float(found[at + 1]) * (-1 if found[at] == "−" else 1) for at in (3, 5))
    assert (lo, hi) == pytest.approx((round(answer.lo, 3), round(answer.hi, 3))), "another interval than the answer's"
    return lo, hi


@pytest.mark.parametrize(
    ("leads", "word", "said"),
    [
        ({"ridge": (0.005, 0.04), "word_ngrams": (0.03, 0.2)}, "ahead", "Logistic on dense activations is ahead"),
        ({"word_ngrams": (0.03, 0.2)}, "ahead", "over word n-grams, the only other method"),
        ({"ridge": (-0.03, 0.05), "word_ngrams": (0.03, 0.2)}, "ahead", "Readers of dense activations are ahead"),
        ({"ridge": (-0.01, 0.015), "word_ngrams": (-0.018, 0.01)}, "equivalent", "3 of 3 methods differ by less"),
        ({"ridge": (0.001, 0.015)}, "equivalent", "the widest difference is +.008 [+.001, +.015], to ridge"),
        ({"ridge": (0.03, 0.05), "word_ngrams": (-0.1, 0.2)}, "not told apart", "and word n-grams (.800) cannot"),
        (
            {"ridge": (-0.03, 0.05), "word_ngrams": (-0.1, 0.2)},
            "not told apart",
            "3 of the 3 methods may be the best, these two included",
        ),
        ({"ridge": (-0.05, -0.01)}, "cannot be decided", "The order depends on rows that some method left without"),
    ],
)
def test_who_is_ahead(sheet: Sheet, leads: dict, word: str, said: str) -> None:
    answer = ahead(sheet, ranked(PRIMARY, LEVELS, leads))
    assert answer.word == word
    assert said in f"{answer.sentence} {answer.detail}"
    assert f"n = {N} in {GROUPS} groups" in answer.sentence
    assert (answer.n, answer.n_groups) == (N, GROUPS)


def test_nobody_reads_well_where_every_interval_ends_low(sheet: Sheet) -> None:
    low = ranked(PRIMARY, {"logistic": 0.62, "ridge": 0.45}, {"ridge": (0.1, 0.2)})
    answer = ahead(sheet, low)
    assert answer.word == "nobody reads it well", "a clear lead over others that read nothing is no good news"
    assert answer.sentence.startswith("AUROC .450 to .620; even the highest upper limit")
    assert ends(answer)[1] < WELL
    low["levels"][1] |= {"hi": WELL}
    assert ahead(sheet, low).word == "ahead", "one interval that reaches the line is enough"
    low["levels"][1] |= {"hi": None}
    assert ahead(sheet, low).word == "ahead", "a method without an interval may read it well"


def test_low_levels_that_are_no_more_than_uncertain_say_so(sheet: Sheet) -> None:
    answer = ahead(sheet, ranked(PRIMARY, {"logistic": 0.69, "ridge": 0.68}, {"ridge": (-0.1, 0.1)}))
    assert answer.word == "not told apart"
    assert "Whether any of them reads it well is open: the interval of the first is [.660, .720]." in answer.detail


@pytest.mark.parametrize(
    ("why", "more", "said"),
    [
        ("seeds", {"n_seeds": 2}, "Cannot be decided with 2 training sets (an interval needs 5); AUROC .800 to .900"),
        ("groups", {"n_groups": 1}, "Cannot be decided with 1 group of rows"),
        ("unscored", {}, "Cannot be decided: nothing was scored"),
        ("training sets", {}, "the training sets share too much"),
    ],
)
def test_without_intervals_nothing_is_decided(sheet: Sheet, why: str, more: dict[str, Any], said: str) -> None:
    found = ranked(PRIMARY, LEVELS, {"ridge": (0.1, 0.2)})
    found["levels"] = [level(m, v, None, why=why, **more) for m, v in LEVELS.items()]
    answer = ahead(sheet, found)
    assert answer.word == "cannot be decided"
    assert said in answer.sentence


def test_one_label_few_methods_and_reversed_methods_are_no_ranking(sheet: Sheet) -> None:
    one = entry("health", both_labels=False, n=149)
    assert (ahead(sheet, one).word, ahead(sheet, one).place) == ("not ranked", "shift, health")
    assert "149 rows have one label" in ahead(sheet, one).sentence
    assert ahead(sheet, entry(PRIMARY, levels=[level("logistic", 0.9)])).word == "not ranked"
    reversed_all = entry(PRIMARY, levels=[level(m, 0.9) for m in METHODS], inverted=list(METHODS))
    assert ahead(sheet, reversed_all).word == "cannot be decided"
    some = ranked(PRIMARY, LEVELS, {"ridge": (0.05, 0.1)}, inverted=["word_ngrams"])
    assert ahead(sheet, some).detail.endswith("Ranked backwards (AUROC below .5): word n-grams.")
    alone = ranked(PRIMARY, LEVELS, {})
    assert ahead(sheet, alone).word == "cannot be decided"
    unknown = ranked(PRIMARY, LEVELS, {"ridge": (None, None)})
    unknown["leads"][0]["why"] = "unscored"
    assert ahead(sheet, unknown).word == "cannot be decided"


@pytest.mark.parametrize(
    ("ends", "more", "word", "said"),
    [
        ((0.05, 0.2), {}, "yes", "The model tells more than the text alone: logistic on dense activations minus word"),
        ((-0.2, -0.05), {}, "no", "The text alone tells more"),
        ((-0.01, 0.01), {}, "no", "The text alone does as well, within .02"),
        ((-0.01, 0.01), {"margin_is_seen": False}, "inconclusive", "The two cannot be told apart"),
        ((-0.1, 0.1), {}, "inconclusive", "The two cannot be told apart"),
        ((None, None), {"why": "inverted", "about": ["word_ngrams"]}, "cannot be decided", "word n-grams ranks the"),
        ((None, None), {"why": "constant", "about": ["logistic"]}, "cannot be decided", "gives every row one score"),
    ],
)
def test_whether_a_model_was_needed(sheet: Sheet, ends: tuple, more: dict[str, Any], word: str, said: str) -> None:
    answer = answers._model(sheet, entry(PRIMARY, model=[line("logistic", "word_ngrams", *ends, **more)]), FOUND)
    assert answer.word == word
    assert said in answer.sentence


def test_a_model_without_a_text_baseline_was_not_asked(sheet: Sheet) -> None:
    assert answers._model(sheet, entry(PRIMARY), FOUND).word == "not asked"


AHEAD, BEHIND, SAME, OPEN, NONE = (0.05, 0.1), (-0.1, -0.05), (-0.01, 0.01), (-0.1, 0.1), (None, None)


@pytest.mark.parametrize(
    ("dense", "control", "word", "said"),
    [
        ([AHEAD], [AHEAD], "yes", "and against the untrained encoder"),
        ([BEHIND, AHEAD], [OPEN, AHEAD], "yes", "+.075 [+.050, +.100]"),
        (
            [BEHIND],
            [AHEAD],
            "no",
            "A lead of .02 or more of any reader of latents over the same reader of dense activations is ruled out",
        ),
        ([SAME, BEHIND], [OPEN], "no", ".000 [−.010, +.010]"),
        ([AHEAD], [SAME], "no", "A dictionary whose encoder was never trained does as well"),
        ([OPEN, BEHIND], [AHEAD], "inconclusive", "Cannot be told"),
        ([AHEAD], [OPEN], "inconclusive", ".000 [−.100, +.100]"),
        ([AHEAD], [], "inconclusive", "no frozen-encoder control was run"),
        ([NONE], [AHEAD], "cannot be decided", "with 5 training sets"),
        ([BEHIND, NONE], [AHEAD], "cannot be decided", "with 5 training sets"),
        ([], [], "not asked", "It takes a dictionary at this site"),
    ],
)
def test_whether_the_dictionary_was_needed(sheet: Sheet, dense: list, control: list, word: str, said: str) -> None:
    found = entry(PRIMARY, dictionary=pairs("dense", "logistic", dense) + pairs("control", "k_sparse@control", control))
    answer = answers._dictionary(sheet, found, FOUND)
    assert answer.word == word
    assert said in answer.sentence


def test_untrained_controls_are_named_where_there_is_no_frozen_one(sheet: Sheet) -> None:
    found = entry(PRIMARY, dictionary=pairs("dense", "logistic", [AHEAD]))
    assert "what an untrained encoder gives is unknown" in answers._dictionary(sheet, found, FOUND).sentence
    control = sheet.rows.iloc[:1].assign(method="logistic@latents [untrained random encoder]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheet, "rows", pd.concat([sheet.rows, control]))
        said = answers._dictionary(sheet, found, FOUND).sentence
    assert "the rows of its untrained controls show what its width alone reads" in said


def pairs(against: str, than: str, found: list) -> list[dict[str, Any]]:
    why = [{"why": "" if pair[0] is not None else "seeds"} for pair in found]
    return [line("k_sparse@latents", than, *p, against=against, **w) for p, w in zip(found, why, strict=True)]


intervals = st.tuples(st.floats(-0.5, 0.5), st.floats(0, 0.2), st.booleans()).map(
    lambda x: {"lo": max(x[0] - x[1], -1.0), "hi": min(x[0] + x[1], 1.0), "margin_is_seen": x[2]}
) | st.tuples(st.floats(-0.03, 0.03), st.floats(0, 0.03), st.booleans()).map(
    lambda x: {"lo": x[0] - x[1], "hi": x[0] + x[1], "margin_is_seen": x[2]}
)


def planted(one: str, than: str, interval: dict[str, Any], **more: Any) -> dict[str, Any]:
    return line(one, than, interval["lo"], interval["hi"], margin_is_seen=interval["margin_is_seen"], **more)


@given(st.lists(intervals, min_size=1, max_size=4), st.floats(0.4, 0.95), st.floats(0.001, 0.2))
def test_the_word_of_a_lead_agrees_with_the_interval_printed(
    sheet: Sheet, leads: list[dict[str, Any]], top: float, half: float
) -> None:
    levels = [level("logistic", top, half)] + [level(m, top, half) for m in METHODS[1 : len(leads) + 1]]
    of = [planted("logistic", m, x) for m, x in zip(METHODS[1:], leads, strict=False)]
    answer = ahead(sheet, entry(PRIMARY, levels=levels, leader="logistic", leads=of))
    lo, hi = ends(answer)
    if answer.word == "nobody reads it well":
        assert hi < WELL
    elif answer.word == "ahead":
        assert lo > 0
        dense = {"ridge"} if "Readers of dense" in answer.sentence else set()
        assert all(x["lo"] > 0 for x in of if x["than"] not in dense), "ahead of all that it does not name"
    elif answer.word == "equivalent":
        assert max(abs(lo), abs(hi)) < MARGIN
        assert all(x["lo"] > 0 or x["margin_is_seen"] for x in of)
    elif answer.word == "not told apart":
        assert lo <= 0 <= hi
    else:
        assert answer.word == "cannot be decided"
        assert hi < 0


@given(intervals)
def test_the_word_about_the_model_agrees_with_the_interval_printed(sheet: Sheet, x: dict[str, Any]) -> None:
    answer = answers._model(sheet, entry(PRIMARY, model=[planted("logistic", "word_ngrams", x)]), FOUND)
    lo, hi = ends(answer)
    inside = max(abs(lo), abs(hi)) < MARGIN
    if answer.word == "yes":
        assert lo > 0
    elif answer.word == "no":
        assert hi < 0 or (inside and x["margin_is_seen"])
    else:
        assert answer.word == "inconclusive"
        assert lo <= 0 <= hi


@given(st.lists(intervals, min_size=1, max_size=3), st.lists(intervals, max_size=3))
def test_the_word_about_the_dictionary_agrees_with_the_interval_printed(
    sheet: Sheet, dense: list[dict[str, Any]], control: list[dict[str, Any]]
) -> None:
    lines = [planted("k_sparse@latents", "logistic", x, against="dense") for x in dense]
    lines += [planted("k_sparse@latents", "k_sparse@control", x, against="control") for x in control]
    answer = answers._dictionary(sheet, entry(PRIMARY, dictionary=lines), FOUND)
    lo, hi = ends(answer)
    if answer.word == "yes":
        assert lo > 0
        assert any(x["lo"] > 0 for x in control), "learned features must beat those of an untrained encoder"
    elif answer.word == "no":
        assert hi < MARGIN
        same = dense if answer.than == "logistic" else control
        assert all(x["hi"] < MARGIN for x in same), "one reader that may be ahead leaves it open"
    elif "no frozen-encoder control was run" in answer.sentence:
        assert lo > 0
        assert not control
    else:
        assert lo <= 0


def test_answers_open_the_page_the_terminal_and_a_cell_and_the_rest_folds(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = ranked(IN_DISTRIBUTION, LEVELS, {"ridge": (0.03, 0.2)}, model=[line("logistic", "word_ngrams", 0.1, 0.2)])
    shift = ranked(PRIMARY, LEVELS, {"ridge": (-0.03, 0.2)}, model=[line("logistic", "word_ngrams", -0.1, 0.2)])
    exploratory = [
        {
            "method": "ridge",
            "than": "logistic",
            "dataset": PRIMARY,
            "value": 0.0,
            "lo": -0.1,
            "hi": 0.1,
            "n": N,
            "n_groups": GROUPS,
            "verdict": "undecided",
            "needs": {},
            "p": 0.5,
            "metric": "auroc",
        }
    ]
    verdict = {"contrasts": [], "exploratory": exploratory}
    run = build(tmp_path, only=ROWS, answers=document(inside, shift), verdict=verdict, recipe={"quick": True})
    shown = Sheet(run)
    words = [(a.question, a.word) for a in answers.headline(shown)]
    assert words == [
        ("ahead", "ahead"),
        ("ahead", "not told apart"),
        ("model", "inconclusive"),
        ("dictionary", "not asked"),
        ("selection", "not asked"),
    ]
    assert answers.headline(shown)[2].detail.endswith("Elsewhere (exploratory): yes on the test rows (+.150).")
    assert [(a.dataset, a.word) for a in answers.elsewhere(shown)] == [(IN_DISTRIBUTION, "yes")]
    blocks = findings.verdict(shown).blocks
    assert [type(b).__name__ for b in blocks[:4]] == ["Text", "Answers", "Fold", "Fold"]
    assert blocks[0].words.startswith("Quick run")
    assert isinstance(blocks[1], Answers)
    folded = [b for fold in blocks if isinstance(fold, Fold) for b in fold.blocks]
    assert any(isinstance(b, Table) and b.caption.startswith("Exploratory") for b in folded)
    page = html.page(run)
    assert (
        page.index('class="answers"')
        < page.index("no contrast could be run")
        < page.index("<details>\n<summary>Exploratory")
    )
    assert "<script" not in page
    for answer in answers.headline(shown):
        assert f'<b class="word {answer.tone}">{answer.word}</b>' in page, "the word stands beside its colour"
    terminal.show(Result(run))
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("Quick run")
    assert "Who is ahead? (primary shift, jailbreak-wrapped) NOT TOLD APART. Logistic" in printed
    assert printed.index("Who is ahead?") < printed.index("no contrast could be run")
    report([tmp_path])
    again = " ".join(capsys.readouterr().out.split())
    assert again.startswith("Quick run")
    assert "NOT TOLD APART" in again.partition("wrote ")[0], "theodolite report opens with the same answers"
    assert "not told apart" in Result(run)._repr_html_()
    assert answers.answers_of(run) == answers.answers(shown)
    assert all(isinstance(a.n, int) and str(a).startswith(QUESTIONS[a.question]) for a in answers.answers_of(run))


def test_rows_that_were_given_are_asked_who_is_ahead_alone(build: Build, tmp_path: Path) -> None:
    found = document(ranked(IN_DISTRIBUTION, LEVELS, {"ridge": (0.03, 0.2)}))
    run = build(tmp_path, only=ROWS, answers=found, facts={"from_arrays": True}, recipe={"primary": IN_DISTRIBUTION})
    assert [a.question for a in answers.answers_of(run)] == ["ahead"]
    rules = answers.rules(Sheet(run))
    assert rules[0].startswith("Ahead: ")
    assert not [rule for rule in rules if rule.startswith(("A model was needed", "The dictionary", "Single"))]


def test_a_run_without_answers_has_none(build: Build, tmp_path: Path) -> None:
    run = build(tmp_path, only=ROWS)
    assert answers.answers_of(run) == []
    assert not any(isinstance(b, Answers) for b in findings.verdict(Sheet(run)).blocks)


def test_tables_and_figures_in_folds_are_numbered_through(build: Build, tmp_path: Path) -> None:
    sections = html._numbered([html.Section("A", [Fold("more", (Table("one", (), ()),)), Table("two", (), ())])])
    fold, second = sections[0].blocks
    assert (fold.blocks[0].number, second.number) == (1, 2)
    assert not isinstance(fold.blocks[0], Figure)


def test_every_word_has_a_colour() -> None:
    assert set(TONES.values()) == {"good", "bad", "even", "open", "none"} == set(terminal.TONES)
