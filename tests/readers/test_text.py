"""Text baselines: what they count, against scikit-learn's own pipeline."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from theodolite.core import surface
from theodolite.core.errors import UserError
from theodolite.core.metrics import auroc
from theodolite.readers.cased_ngrams import CasedNgrams
from theodolite.readers.char_ngrams import CharNgrams
from theodolite.readers.length import Length
from theodolite.readers.surface import Surface
from theodolite.readers.word_ngrams import WordNgrams


def texts_of(n: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    words = np.array(["how", "make", "cake", "bomb", "tell", "me", "a", "story", "of", "poison"])
    return [" ".join(rng.choice(words[label : 8 + 2 * label], rng.integers(4, 12))) for label in y], y


@pytest.mark.parametrize(
    ("reader", "analyzer", "lengths"), [(WordNgrams, "word", (1, 2)), (CharNgrams, "char_wb", (2, 5))]
)
def test_ngrams_are_scikit_learns_pipeline(reader: type, analyzer: str, lengths: tuple[int, int]) -> None:
    texts, y = texts_of(80)
    fresh = ["how to poison a story", "unseen things entirely", ""]
    reference = make_pipeline(
        TfidfVectorizer(analyzer=analyzer, ngram_range=lengths, sublinear_tf=True, min_df=2),
        LogisticRegression(C=5.0, tol=1e-10, max_iter=1000),
    ).fit(texts, y)
    found = reader(C=5.0).fit(texts, y).decision_function(fresh)
    np.testing.assert_allclose(found, reference.decision_function(fresh), atol=1e-4)


def test_words_seen_in_one_text_only_do_not_count() -> None:
    reader = WordNgrams().fit(["red cat", "red dog", "blue cat", "blue fox"], [1, 1, 0, 0])
    assert reader.terms_ == ["blue", "cat", "red"]
    with pytest.raises(UserError, match="no n-gram occurs in two texts"):
        WordNgrams().fit(["one", "two", "three"], [0, 1, 0])


def test_the_path_shares_its_vocabulary() -> None:
    texts, y = texts_of(40)
    weak, strong = WordNgrams().fit_path(texts, y, [{"C": 0.01}, {"C": 100.0}])
    assert weak.terms_ == strong.terms_
    assert abs(weak.coef_).max() < abs(strong.coef_).max()


def test_length_sees_length_alone() -> None:
    """log(1 + characters) and log(1 + words) by hand, and nothing of what is said."""
    np.testing.assert_allclose(Length()._features(np.array(["ab cd", ""])), [[np.log(6), np.log(3)], [0, 0]])
    texts = ["x" * n for n in (1, 2, 3, 40, 50, 60)]
    reader = Length().fit(texts, [0, 0, 0, 1, 1, 1])
    same = reader.decision_function(["aaaaa bbbbb", "zzzzz yyyyy"])
    assert same[0] == same[1]
    assert reader.predict(["y", "y" * 99]).tolist() == [0, 1]


@pytest.mark.parametrize("reader", [WordNgrams(), Length()])
def test_what_is_not_a_text_is_refused_by_its_place(reader: WordNgrams) -> None:
    with pytest.raises(UserError, match="row 1 is float, not a text"):
        reader.fit(["a text", float("nan")], [0, 1])


PLANTED = {
    "a capital": lambda text: text[0].upper() + text[1:],
    "capitals": str.upper,
    "a capital inside": lambda text: text[:-1] + text[-1].upper(),
    "a full stop": lambda text: f"{text}.",
    "a leading quote": lambda text: f'"{text}',
    "two spaces": lambda text: text.replace(" ", "  ", 1),
    "a line break": lambda text: text.replace(" ", "\n", 1),
    "a tab": lambda text: text.replace(" ", "\t", 1),
    "a no-break space": lambda text: text.replace(" ", "\u00a0", 1),
    "a zero-width space": lambda text: f"{text}\u200b",
    "an emoji": lambda text: f"{text} \U0001f600",
    "decomposed letters": lambda text: text.replace("e", "e\u0301", 1),
    "another script": lambda text: text.replace("a", "\u0430", 1),
    "a dash": lambda text: text.replace(" ", " \u2014 ", 1),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_the_surface_reader_sees_how_a_text_is_written(planted: str) -> None:
    """Rows of both classes say the same; one is written otherwise."""
    texts, _ = texts_of(400)
    y = np.arange(400) % 2
    rows = [PLANTED[planted](f"tea {text}") if label else f"tea {text}" for text, label in zip(texts, y, strict=True)]
    score = Surface().fit(rows[:200], y[:200]).decision_function(rows[200:])
    assert auroc(y[200:], score) > 0.99, planted


@pytest.mark.parametrize("planted", ["a capital", "two spaces", "a full stop", "a no-break space"])
def test_cased_ngrams_keep_case_white_space_and_the_ends_which_the_other_ngrams_do_not(planted: str) -> None:
    texts, _ = texts_of(400)
    y = np.arange(400) % 2
    rows = [PLANTED[planted](text) if label else text for text, label in zip(texts, y, strict=True)]
    found = {
        reader: auroc(y[300:], reader().fit(rows[:300], y[:300]).decision_function(rows[300:]))
        for reader in (CasedNgrams, WordNgrams)
    }
    assert found[CasedNgrams] > 0.95
    assert found[WordNgrams] < 0.7


def test_surface_features_by_hand() -> None:
    row = dict(zip(surface.NAMES, surface.features(['Ab CD 12,  "x"\n'])[0].tolist(), strict=True))
    assert row["characters"] == pytest.approx(np.log(16))
    assert row["words"] == pytest.approx(np.log(5))
    assert row["words that begin with a capital"] == pytest.approx(2 / 3)  # Ab and CD, not x
    assert row["words in capitals"] == pytest.approx(1 / 3)
    assert row["capital letters"] == pytest.approx(3 / 5)
    assert row["digits"] == pytest.approx(2 / 15)
    assert row['mark "'] == pytest.approx(np.log(3))
    assert (row["spaces in a row"], row["line breaks"]) == (pytest.approx(np.log(2)), pytest.approx(np.log(2)))
    assert (row["ends with white space"], row["ends with a mark"], row["ends with a full stop"]) == (1, 1, 0)


def test_surface_features_of_nothing_are_finite() -> None:
    assert np.isfinite(surface.features(["", " ", "\u200b"])).all()
    assert surface.features([]).shape == (0, len(surface.NAMES))
