import numpy as np
from toy_rows import frame_of, sentences

from theodolite.data.matching import LENGTH_BIN, length_matched, likest_pairs


def test_counterparts_find_each_other_and_the_rest_stays_single() -> None:
    harmful = sentences(12, 0)
    benign = [text.rsplit(" ", 2)[0] + " instead" for text in harmful] + sentences(5, 9)
    order = np.random.default_rng(0).permutation(len(benign))
    frame = frame_of([*harmful, *(benign[i] for i in order)], [1] * 12 + [0] * 17)
    assert {(p, int(order[n - 12])) for p, n in likest_pairs(frame)} == {(i, i) for i in range(12)}


def test_matched_classes_have_equal_lengths() -> None:
    rng = np.random.default_rng(0)
    lengths = np.concatenate([rng.integers(20, 60, 200), rng.integers(40, 90, 200)])
    frame = frame_of([f"{i:03d}" + "x" * (n - 3) for i, n in enumerate(lengths)], [1] * 200 + [0] * 200)
    left = length_matched(frame, 0)
    bins = left["text"].str.len() // LENGTH_BIN
    positive, negative = (bins[left["label"] == label].value_counts().sort_index() for label in (1, 0))
    assert positive.equals(negative)
    assert len(positive) == 5  # lengths 40 to 59
    assert left["text"].tolist() == sorted(left["text"])  # in their order
    assert not left["text"].equals(length_matched(frame, 1)["text"])
