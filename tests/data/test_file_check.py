"""The check of a concept: each thing that can be wrong with one is found, by its level and in words."""

from dataclasses import replace

import numpy as np
import pytest
from toy_rows import sentences

from theodolite.core.errors import UserError
from theodolite.data.concept_fields import ConceptFields
from theodolite.data.concept_file import ConceptFile, LabelledTexts
from theodolite.data.file_check import Finding, check_concept, refuse_seen

TEXTS = sentences(80, seed=5)
OPENINGS = sentences(30, seed=6, words=4)


def rows_of(texts: list[str], labels: list[int] | None = None, groups: list[str] | None = None) -> LabelledTexts:
    return LabelledTexts(
        texts,
        np.array(labels or [1, 0] * (len(texts) // 2)),
        np.array(groups or [f"g{i // 2}" for i in range(len(texts))], dtype=object),
    )


def concept(**given: object) -> ConceptFile:
    fields = {
        "name": "toy",
        "title": "Toy",
        "positive": "up",
        "negative": "down",
        "texts": {"rows": []},
        "targets": {"positive": [" qua"], "negative": [" que"]},
        "unseen_targets": {"positive": [" qui"], "negative": [" quo"]},
    }
    own = {k: given.pop(k) for k in ("targets", "unseen_targets", "choices") if k in given}
    built = ConceptFile(ConceptFields.model_validate({**fields, **own}), rows_of(TEXTS), None, None, OPENINGS)
    return replace(built, **given)  # type: ignore[arg-type]


def choices(*asked: tuple[str, str, str]) -> list[dict[str, str]]:
    """A sound question, and these: question, positive and negative answer."""
    return [
        dict(zip(("question", "positive", "negative"), one, strict=True)) for one in (("Which?", "up", "down"), *asked)
    ]


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    return [(f.level, f.words) for f in found if f.level != "note"]


def test_a_sound_concept_has_notes_alone() -> None:
    found = check_concept(concept())
    assert wrong(found) == []
    assert [f.words for f in found] == [
        "texts: 40 up, 40 down, 40 groups",
        "40 of 40 groups hold both classes, the largest group has 2 texts",
        "30 openings",
        "targets: 1 positive, 1 negative",
        "unseen_targets: 1 positive, 1 negative",
    ]


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        ({"texts": rows_of(TEXTS, [1] * 80)}, "error", "texts: one class only, no text has label 0 (down)"),
        ({"texts": rows_of([*TEXTS[:78], " ", TEXTS[79]])}, "error", "1 of 80 texts are empty, the first in row 78"),
        ({"texts": rows_of([*TEXTS[:78], TEXTS[0], TEXTS[0]])}, "error", "3 rows hold a text that has both labels"),
        ({"texts": rows_of([*TEXTS[:79], TEXTS[1].upper()])}, "warning", "texts: 1 texts occur more than once"),
        ({"texts": rows_of(TEXTS[:30])}, "error", "15 texts of one class, and 20 are needed"),
        ({"texts": rows_of(TEXTS, groups=[f"{i % 2} {i % 3}" for i in range(80)])}, "warning", "no group holds both"),
        ({"texts": rows_of(TEXTS, groups=["a", "b"] * 40)}, "error", "all texts of label 1 are one group"),
        ({"shift": rows_of([TEXTS[4] + "!", *sentences(59, seed=8)])}, "error", "shift: 1 texts are near-copies"),
        ({"classifier": rows_of([TEXTS[4], *sentences(59, seed=8)])}, "error", "classifier: 1 texts are near-copies"),
        ({"openings": [*OPENINGS, TEXTS[9].rsplit(" ", 2)[0].title()]}, "error", "1 openings stand in a text"),
        ({"openings": [*OPENINGS[1:], OPENINGS[0] + " "]}, "warning", "1 openings end in a space"),
        ({"openings": OPENINGS[:5]}, "error", "5 openings, and 20 are needed"),
        ({"openings": [*OPENINGS, "They say qua"]}, "warning", "1 targets occur in an opening"),
        ({"targets": {"positive": ["qua"], "negative": [" que"]}}, "warning", "targets: 1 do not begin with a space"),
        (
            {"targets": {"positive": [" quit"], "negative": [" que"]}},
            "error",
            "1 targets are the beginning of one of the unseen targets, or the other way round",
        ),
        (
            {"unseen_targets": {"positive": [f" {TEXTS[3].split()[2]}"], "negative": [" quo"]}},
            "error",
            "unseen_targets: 1 share their word with a text",
        ),
        (
            {"choices": choices((" ", "a", "b"), ("Where?", "a", "\n"))},
            "error",
            "choices: 2 of 3 have an empty question",
        ),
        ({"choices": choices(("Where?", "here", " here"))}, "error", "choices: 1 of 2 have two equal answers"),
        ({"choices": choices(("Which?", "down", "up"))}, "error", "2 of 2 occur with their answers exchanged"),
        ({"choices": choices(("Which?", "up", "down"))}, "warning", "choices: 2 of 2 occur more than once"),
    ],
)
def test_each_fault_is_found_and_said(given: dict[str, object], level: str, words: str) -> None:
    found = wrong(check_concept(concept(**given)))
    assert any(one == level and words in said for one, said in found), found


def test_with_a_tokenizer_unseen_targets_may_not_begin_with_a_token_of_the_texts() -> None:
    by_pairs = lambda texts: [[int(t[i : i + 2].encode().hex(), 16) for i in range(0, len(t), 2)] for t in texts]  # noqa: E731
    inside = TEXTS[0][:2]
    shares = concept(unseen_targets={"positive": [inside + "zz"], "negative": [" quo"]})
    assert not any("first token" in words for _, words in wrong(check_concept(shares)))
    found = wrong(check_concept(shares, by_pairs))
    assert ("error", "unseen_targets: 1 share their first token with a text: choose others") in found


def test_letters_that_a_tokenizer_does_not_know_cannot_answer_a_question() -> None:
    asked = concept(choices=choices(("Where?", "here", "there")))
    assert "choices: 2 questions" in [f.words for f in check_concept(asked)]
    for tokens, said in (
        (lambda texts: [[0] for _ in texts], True),
        (lambda texts: [[ord(t[0])] for t in texts], False),
    ):
        found = wrong(check_concept(asked, tokens))
        assert (("error", "choices: this tokenizer does not tell the letters A and B apart") in found) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"classifier": rows_of([TEXTS[4], *sentences(59, seed=8)])}, "classifier: 1 texts are near-copies"),
        ({"openings": [*OPENINGS, TEXTS[9].rsplit(" ", 2)[0].title()]}, "1 openings stand in a text"),
        ({"unseen_targets": {"positive": [f" {TEXTS[3].split()[2]}"], "negative": [" quo"]}}, "1 share their word"),
        ({"choices": choices(("Where?", "here", "here"))}, "1 of 2 have two equal answers"),
    ],
)
def test_a_comparison_refuses_what_it_would_call_unseen(given: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=f"concept 'toy': .*{said}.*theodolite data check"):
        refuse_seen(concept(**given))
    refuse_seen(concept(shift=rows_of([TEXTS[4], *sentences(59, seed=8)])))  # a comparison of control reads no shift
