"""The length of the text: the shortcut that most often passes for a concept."""

import numpy as np

from theodolite.core.surface import log_lengths
from theodolite.readers._text import TextReader


class Length(TextReader):
    """Logistic regression on the logarithms of the numbers of characters and of words.

    >>> reader = Length().fit(["short", "brief", "a much longer text", "rather a long one"], [0, 0, 1, 1])
    >>> reader.predict(["x", "y " * 9])
    array([0, 1])
    """

    standardise = True

    def _features(self, texts: np.ndarray) -> np.ndarray:
        return log_lengths(texts)
