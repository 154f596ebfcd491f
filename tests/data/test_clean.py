import numpy as np
import pandas as pd
import pytest
from toy_rows import frame_of, sentences

from theodolite.core.errors import UserError
from theodolite.data.clean import clean, require_classes
from theodolite.data.dataset import Count, Dataset, content_hash


def test_every_fault_is_counted_once_and_the_rest_keeps_its_order() -> None:
    texts = ["one", "  ", None, "ONE", "two", "two ", "three", "four", "four"]
    labels = [1, 1, 0, 1, 0, 1, 0, np.nan, 1]
    kept, counts = clean(pd.DataFrame({"text": texts, "label": labels}), "toy")
    assert kept["text"].tolist() == ["one", "three", "four"]
    assert kept["label"].tolist() == [1, 0, 1]
    assert counts == [
        Count("toy", "no label", 1),
        Count("toy", "no text", 2),
        Count("toy", "conflicting labels", 2),
        Count("toy", "duplicate", 1),
    ]


def test_texts_that_differ_in_case_and_in_the_label_stay() -> None:
    """There, case may be the concept; the same text with both labels, and copies of one label, go as ever."""
    texts = ["hello there", "Hello there", "HELLO there", "same", "same"]
    kept, counts = clean(pd.DataFrame({"text": texts, "label": [0, 1, 1, 0, 1]}), "toy")
    assert kept["text"].tolist() == ["hello there", "Hello there"]
    assert counts == [Count("toy", "conflicting labels", 2), Count("toy", "duplicate", 1)]


def test_labels_other_than_0_and_1_are_named() -> None:
    with pytest.raises(UserError, match=r"labels other than 0 and 1: 2; .*`positive`"):
        clean(pd.DataFrame({"text": ["a", "b"], "label": [1, 2]}), "toy")


@pytest.mark.parametrize(("positives", "problem"), [(0, "0 usable rows of label 1"), (19, "19 usable rows of label 1")])
def test_too_few_rows_of_a_class_are_refused_with_what_was_lost(positives: int, problem: str) -> None:
    frame = frame_of(sentences(40, 0), [1] * positives + [0] * (40 - positives))
    dataset = Dataset("toy", frame, counts=(Count("toy", "duplicate", 7),))
    with pytest.raises(UserError, match=f"'toy' has {problem}.*rows left out: duplicate: 7"):
        require_classes(dataset)


def test_one_class_is_enough_where_it_is_asked_for_and_none_is_not() -> None:
    frame = frame_of(sentences(20, 0), [0] * 20)
    require_classes(Dataset("edgy", frame), one_class=True)
    with pytest.raises(UserError, match="0 usable rows"):
        require_classes(Dataset("edgy", frame[:0]), one_class=True)


def test_a_row_leaves_with_its_unit() -> None:
    frame = frame_of(["a", "b", "c"], [1, 0, 1]).assign(unit=["u", "u", "v"])
    left = Dataset("toy", frame).without(np.array([True, False, False]), "why")
    assert left.texts == ["c"]
    assert left.counts == (Count("toy", "why", 2),)


def test_ids_are_the_source_and_the_text() -> None:
    first, second = frame_of(["a"], [1], "s"), frame_of(["b", "a"], [0, 1], "s")
    assert first["id"].tolist() == [second["id"].tolist()[1]] == [f"s:{content_hash('a')}"]
