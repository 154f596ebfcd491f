import numpy as np
import pytest
from toy_rows import sentences

from theodolite.data import boilerplate
from theodolite.data.near_duplicates import clusters

LONG = "Read the text between the marks with care and say in one word what its author felt. <<< {} >>> Your one word:"
BARE = sentences(60, 0, words=4)


@pytest.mark.parametrize("n", [60, 5000])
def test_only_what_differs_is_left(n: int) -> None:
    bare = sentences(n, 1, words=4)
    texts = [LONG.format(text) for text in bare]
    assert boilerplate.find(texts).stripped(texts[:60]) == bare[:60]


def test_a_template_of_a_tenth_of_the_rows_is_found_and_the_others_stay_as_they_are() -> None:
    plain = sentences(540, 2)
    texts = [*map(LONG.format, BARE), *plain]
    found = boilerplate.find(texts)
    assert found.stripped(texts) == [*BARE, *plain]
    assert found.fills(texts).tolist() == [True] * 60 + [False] * 540
    assert not len(boilerplate.find([*texts, *sentences(10, 3)]).piece)  # under a tenth: a family of near copies


def test_two_templates_are_two() -> None:
    other = "{} -- is what the customer wrote to us last week; was the customer content with what we had sold?"
    texts = [*map(LONG.format, BARE), *map(other.format, BARE)]
    assert boilerplate.find(texts).stripped(texts) == [*BARE, *BARE]


def test_a_word_that_begins_many_slots_is_no_part_of_the_template() -> None:
    """Every fourth slot begins with the same word; pieces with it are in a quarter of the rows, the template in all."""
    bare = [f"apple {text}" if i % 4 == 0 else text for i, text in enumerate(BARE)]
    texts = [LONG.format(text) for text in bare]
    assert boilerplate.find(texts).stripped(texts) == bare


def test_copies_inside_a_template_are_still_copies() -> None:
    texts = [LONG.format(text) for text in [*BARE, BARE[0].upper(), BARE[1] + "!"]]
    found = clusters(boilerplate.find(texts).stripped(texts))
    assert len(np.unique(found)) == 60
    assert (found[60], found[61]) == (found[0], found[1])


def test_a_row_that_is_nothing_but_the_template_stays_whole() -> None:
    texts = [LONG.format(text) for text in BARE]
    empty = LONG.format("")
    assert boilerplate.find(texts).stripped([empty]) == [empty]


@pytest.mark.parametrize("texts", [[], [""], ["a"], ["short"] * 50, sentences(200, 4)], ids=str)
def test_where_nothing_long_is_shared_nothing_changes(texts: list[str]) -> None:
    found = boilerplate.find(texts)
    assert found.stripped(texts) == texts
    assert not found.fills(texts).any()


def test_joined_knows_the_templates_of_both() -> None:
    first, second = [LONG.format(text) for text in BARE], [f"{'x y ' * 20}{text}" for text in BARE]
    both = boilerplate.joined(boilerplate.find(first), boilerplate.find(second))
    assert both.stripped([first[0], second[0]]) == [BARE[0], BARE[0]]
