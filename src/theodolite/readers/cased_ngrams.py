"""A bag of character n-grams as they stand."""

from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer

from theodolite.core.surface import character_ngrams
from theodolite.readers._text import NgramReader


class CasedNgrams(NgramReader):
    """Logistic regression on TF-IDF of 1 to 4 characters in their case, with white space and the text's two ends.

    `word_ngrams` and `char_ngrams` read lower case inside words: what goes with a capital letter, a double space or the
    last character is theirs to miss.

    >>> reader = CasedNgrams().fit(["the cat", "a cat", "the Cat", "a Cat"], [0, 0, 1, 1])
    >>> reader.predict(["my cat", "my Cat"])
    array([0, 1])
    """

    def _vectoriser(self, **options: Any) -> TfidfVectorizer:
        return TfidfVectorizer(analyzer=character_ngrams, sublinear_tf=True, **options)
