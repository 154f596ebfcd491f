import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize
from toy_rows import frame_of, sentences

from theodolite.data.dataset import Count, Dataset
from theodolite.data.leakage import Seen, counted, leaks, without_leaks
from theodolite.data.near_duplicates import gram_counts, inverse_frequency

TRAIN, FRESH, CORPUS = sentences(40, 0), sentences(30, 1), sentences(50, 2)
IDF = inverse_frequency(gram_counts(TRAIN))
SHIFT = [TRAIN[3].upper(), CORPUS[7] + "!", TRAIN[0].rsplit(" ", 1)[0], *FRESH]


def test_each_cause_finds_its_own_rows() -> None:
    found = leaks(SHIFT, {"train": TRAIN, "corpus": iter(CORPUS), "nothing": []}, IDF)
    assert {cause: np.flatnonzero(rows).tolist() for cause, rows in found.items()} == {
        "train": [0, 2],
        "corpus": [1],
        "nothing": [],
    }


def test_what_is_left_is_near_nothing_seen_and_the_rest_is_counted() -> None:
    frame = frame_of(SHIFT, [0, 1] * 16 + [0])
    left = without_leaks(
        {"a": Dataset("a", frame), "b": Dataset("b", frame[3:])}, [Seen("t", TRAIN), Seen("c", CORPUS)], IDF
    )
    assert left["a"].counts == (Count("a", "t", 2), Count("a", "c", 1))
    assert left["b"].counts == ()
    assert left["a"].texts == left["b"].texts == FRESH
    assert not np.any(list(leaks(left["a"].texts, {"t": TRAIN, "c": CORPUS}, IDF).values()))


def test_a_row_with_two_causes_is_counted_under_the_first() -> None:
    left = without_leaks({"a": Dataset("a", frame_of(TRAIN[:2], [0, 1]))}, [Seen("t", TRAIN), Seen("c", TRAIN)], IDF)
    assert left["a"].counts == (Count("a", "t", 2),)


def test_a_row_leaks_from_cosine_point_seven_on() -> None:
    """By exact 4-grams and the training rows' weights; the texts are training rows with ever more words replaced."""
    rng, fresh = np.random.default_rng(0), iter(sentences(2000, 7, words=1))
    texts = [
        " ".join(next(fresh) if rng.random() < rate else word for word in text.split())
        for rate in np.linspace(0.05, 0.4, 8)
        for text in TRAIN
    ]
    grams = CountVectorizer(analyzer="char", ngram_range=(4, 4)).fit([*TRAIN, *texts])
    train, rows = (grams.transform(part).astype(float) for part in (TRAIN, texts))
    weight = np.log((1 + len(TRAIN)) / (1 + train.getnnz(axis=0))) + 1
    train, rows = (normalize(counts.multiply(weight).tocsr()) for counts in (train, rows))
    cosine = (rows @ train.T).toarray().max(axis=1)
    clear = np.abs(cosine - 0.7) > 0.02  # two 4-grams in one hashed column move a cosine by less
    assert (leaks(texts, {"t": TRAIN}, IDF)["t"] == (cosine >= 0.7))[clear].all()
    assert ((cosine > 0.72) & (cosine < 0.78)).sum() > 5
    assert ((cosine > 0.62) & (cosine < 0.68)).sum() > 5


def test_more_texts_than_one_block(monkeypatch: object) -> None:
    import theodolite.data.leakage as leakage

    monkeypatch.setattr(leakage, "_BLOCK", 7)
    assert np.flatnonzero(leaks(SHIFT, {"c": iter(CORPUS)}, IDF)["c"]).tolist() == [1]


@pytest.mark.parametrize(
    ("rule", "left", "near"),
    [
        ("drop-same", [1, 3, 4, 5], {1: "t of the other label", 3: "t of the other label"}),
        ("drop-all", [4, 5], {}),
        ("keep-all", [0, 1, 2, 3, 4, 5], {0: "t", 1: "t of the other label", 2: "t", 3: "t of the other label"}),
    ],
)
def test_the_rule_says_which_near_copies_leave(rule: str, left: list[int], near: dict[int, str]) -> None:
    """Row 0 copies a text of its label, row 1 one of the other; of two labels row 2 is nearer to its own, row 3 not."""
    texts = [*TRAIN[:2], TRAIN[2], TRAIN[2] + " too", TRAIN[3], TRAIN[3] + " too"]
    seen = Seen("t", texts, [1, 1, 0, 1, 1, 0])
    frame = frame_of([*(text + "!" for text in TRAIN[:4]), *FRESH[:2]], [1, 0, 0, 0, 1, 0])
    found = without_leaks({"a": Dataset("a", frame)}, [seen], IDF, rule)["a"]
    assert found.frame["cluster"].tolist() == left
    assert found.frame["near"].tolist() == [near.get(row, "") for row in left]
    kept = counted(found).kept
    assert sum(count.n for count in kept) == len(near)
    assert {count.cause for count in kept} == set(near.values())
    assert sum(count.n for count in (*found.counts, *kept)) == 4


@pytest.mark.parametrize("block", [1, 7])
def test_labels_go_with_their_texts_in_every_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Of 40 seen texts in blocks, one row copies each, with its own label and with the other."""
    import theodolite.data.leakage as leakage

    monkeypatch.setattr(leakage, "_BLOCK", block)
    labels = np.random.default_rng(0).integers(0, 2, len(TRAIN))
    for copied, word in ((labels, "t"), (1 - labels, "t of the other label")):
        shift = {"a": Dataset("a", frame_of([text + "!" for text in TRAIN], copied.tolist()))}
        found = without_leaks(shift, [Seen("t", TRAIN, labels.tolist())], IDF, "keep-all")["a"]
        assert found.frame["near"].tolist() == [word] * len(TRAIN)


def test_of_equal_copies_with_both_labels_the_same_label_decides() -> None:
    seen = Seen("t", [TRAIN[0], TRAIN[0]], [0, 1])
    left = without_leaks({"a": Dataset("a", frame_of(TRAIN[:1], [1]))}, [seen], IDF)["a"]
    assert left.counts == (Count("a", "t", 1),)


def test_what_has_no_label_is_a_copy_whatever_the_rows() -> None:
    left = without_leaks({"a": Dataset("a", frame_of(TRAIN[:2], [0, 1]))}, [Seen("read", TRAIN)], IDF)["a"]
    assert left.counts == (Count("a", "read", 2),)


def test_no_shifts() -> None:
    assert without_leaks({}, [Seen("t", TRAIN)], IDF) == {}
