"""Concept classifiers: what they learn, what they report of themselves, and the effect on what was written."""

import numpy as np
import pytest
from scipy.special import expit

from theodolite.control.classifiers import ConceptClassifier, fit_classifiers, written_effect
from theodolite.core.errors import UserError

GLAD, SAD = ["glad", "merry", "happy"], ["sad", "gloomy", "unhappy"]
PLACES = ["garden", "kitchen", "street", "office", "school", "train", "river", "market", "hotel", "museum"]
TEXTS = [f"they feel {mood} in the {place}" for place in PLACES for mood in (*GLAD, *SAD)]
LABELS = np.tile([1, 1, 1, 0, 0, 0], len(PLACES))
GROUPS = np.repeat(np.arange(len(PLACES)), 6)


def toy_embed(texts: list[str]) -> np.ndarray:
    """Two columns: whether a glad word stands there as a word of its own, and the length of the text."""
    glad = [float(any(f" {word} " in f" {text} " for word in GLAD)) for text in texts]
    noise = np.random.default_rng(0).normal(size=4096)
    # a rounding that depends on the batch, as that of a real embedder does
    return np.array([[g, len(t), noise[len(t)] + 1e-9 * len(texts)] for g, t in zip(glad, texts, strict=True)])


@pytest.fixture(scope="module")
def fitted() -> tuple[ConceptClassifier, ConceptClassifier]:
    return fit_classifiers(TEXTS, LABELS, GROUPS, embed=toy_embed)


def test_both_tell_the_concept_in_new_places(fitted: tuple[ConceptClassifier, ConceptClassifier]) -> None:
    for one in fitted:
        glad, sad = one.score(["we are happy at home", "we are gloomy at home"])
        assert glad > sad
        assert one.quality.auroc.value > 0.9
        assert one.quality.auroc.lo <= one.quality.auroc.value <= one.quality.auroc.hi <= 1
        assert one.quality.auroc.lo <= 1 - 0.30  # ten groups without an error may hide a rate of .31
        assert (one.quality.auroc.n, one.quality.auroc.n_groups) == (60, 10)
    assert [one.name for one in fitted] == ["ngrams", "sentence"]
    assert fitted[0].method.split("(")[0] in ("word_ngrams", "char_ngrams")
    assert fitted[1].method.startswith("sentence(C=")


def test_a_score_is_the_calibrated_log_odds(fitted: tuple[ConceptClassifier, ConceptClassifier]) -> None:
    for one in fitted:
        rows = toy_embed(TEXTS) if one.embed else TEXTS
        assert expit(one.score(TEXTS)) == pytest.approx(one.tuned.probability(rows), abs=1e-6)
        assert 0 <= one.quality.ece.lo <= one.quality.ece.hi <= 1


def test_labels_without_a_concept_give_a_classifier_at_chance() -> None:
    labels = np.random.default_rng(0).permutation(LABELS)
    ngrams, _ = fit_classifiers(TEXTS, labels, GROUPS, embed=toy_embed)
    assert ngrams.quality.auroc.lo < 0.5
    assert abs(ngrams.score(["they feel glad"])[0]) < 1.5  # the sigmoid says that the score means little


def test_a_text_left_as_it_was_has_no_effect(fitted: tuple[ConceptClassifier, ConceptClassifier]) -> None:
    default = ["a sad day", "a long day", "a happy day"]
    for one in fitted:
        effect = written_effect(one.score, ["a happy day", "a long day", "a happy day"], default)
        assert effect[0] > 0
        assert effect[1:].tolist() == [0, 0]


def test_samples_are_averaged_opening_by_opening() -> None:
    def length(texts: list[str]) -> np.ndarray:
        return np.array([float(len(t)) for t in texts])

    steered = [["aaaa", "b"], ["aa", "bbb"]]  # two samples of two openings: means 3 and 2
    assert written_effect(length, steered, ["a", "b"]).tolist() == [2, 1]
    with pytest.raises(UserError, match="1 steered and 2 default"):
        written_effect(length, ["a"], ["a", "b"])


def test_the_order_of_the_texts_does_not_matter(fitted: tuple[ConceptClassifier, ConceptClassifier]) -> None:
    order = np.random.default_rng(1).permutation(len(TEXTS))
    again, _ = fit_classifiers([TEXTS[i] for i in order], LABELS[order], GROUPS[order], embed=toy_embed)
    asked = ["we are happy", "a gloomy day"]
    assert again.score(asked) == pytest.approx(fitted[0].score(asked), rel=1e-6)
    assert again.method == fitted[0].method


def test_few_texts_are_refused() -> None:
    with pytest.raises(UserError, match="20 texts of each class, and one has 2"):
        fit_classifiers(TEXTS[:5], LABELS[:5], GROUPS[:5], embed=toy_embed)
    with pytest.raises(UserError, match="equally many"):
        fit_classifiers(TEXTS, LABELS[:5], GROUPS, embed=toy_embed)
    assert written_effect(lambda t: np.zeros(len(t)), [], []).tolist() == []
