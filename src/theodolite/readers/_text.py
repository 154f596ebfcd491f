"""Logistic regression on features of the text itself."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from theodolite.core.errors import UserError
from theodolite.readers._path import PathReader, half_decades
from theodolite.readers._span import Span
from theodolite.readers.logistic import penalised


class TextReader(PathReader):
    """Define `_learn(texts)`, which returns the training features and the names that `_features(texts)` needs later.

    `standardise` says whether columns are scaled; centring alone changes nothing, the intercept being free.
    """

    view = "text"
    log_odds = True
    standardise: ClassVar[bool] = False

    coef_: np.ndarray
    intercept_: float

    def __init__(self, C: float = 10.0) -> None:
        self.C = C

    @classmethod
    def grid(cls, **fixed: Any) -> list[dict[str, Any]]:
        """Twelve values of C, half a decade apart, the strongest penalty first; wider than for standardised columns."""
        return [{}] if "C" in fixed else [{"C": C} for C in half_decades(-2)]

    def _fit_path(self, readers: Sequence[Any], rows: Any, target_n: np.ndarray) -> None:
        features, learnt = self._learn(rows)
        span = Span.of(features, None if self.standardise else np.ones(features.shape[1]))
        coef_dk, intercept_k = penalised(span, target_n, [reader.C for reader in readers])
        for k, reader in enumerate(readers):
            vars(reader).update(learnt)
            reader.coef_, reader.intercept_ = coef_dk[:, k].copy(), float(intercept_k[k])

    def _scores(self, rows: Any) -> np.ndarray:
        return self._features(rows) @ self.coef_ + self.intercept_

    def _learn(self, texts: np.ndarray) -> tuple[Any, dict[str, Any]]:
        return self._features(texts), {}

    def _features(self, texts: np.ndarray) -> Any:
        raise TypeError(f"{type(self).__name__} must define _features(texts)")


class NgramReader(TextReader):
    """TF-IDF of the n-grams of one `analyzer` that occur in at least two texts, log term counts, unit rows."""

    analyzer: ClassVar[str]
    lengths: ClassVar[tuple[int, int]]

    terms_: list[str]
    idf_: np.ndarray

    def _learn(self, texts: np.ndarray) -> tuple[Any, dict[str, Any]]:
        vectoriser = self._vectoriser(min_df=2)
        try:
            features = vectoriser.fit_transform(texts)
        except ValueError as error:  # scikit-learn's words for it: an empty vocabulary, or no terms left
            raise UserError(f"{type(self).__name__}: no n-gram occurs in two texts ({error})") from None
        return features, {"terms_": vectoriser.get_feature_names_out().tolist(), "idf_": vectoriser.idf_}

    def _features(self, texts: np.ndarray) -> sp.csr_array:
        vectoriser = self._vectoriser(vocabulary=self.terms_)
        vectoriser.idf_ = self.idf_
        return vectoriser.transform(texts)

    def blank(self, texts: Sequence[str]) -> np.ndarray:
        """Return which texts hold none of the n-grams that were learnt, (n,): all of these get one score, the
        intercept.

        >>> from theodolite.readers.word_ngrams import WordNgrams
        >>> reader = WordNgrams().fit(["a bomb now", "the bomb", "a cake now", "the cake"], [1, 1, 0, 0])
        >>> reader.blank(["one cake", "42"]).tolist()
        [False, True]
        """
        return np.asarray(self._features(np.asarray(texts, dtype=object)).sum(axis=1)).ravel() == 0

    def _vectoriser(self, **options: Any) -> TfidfVectorizer:
        return TfidfVectorizer(analyzer=self.analyzer, ngram_range=self.lengths, sublinear_tf=True, **options)
