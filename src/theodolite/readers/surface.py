"""A reader of surface features alone: how the text is written, whatever it says."""

import numpy as np

from theodolite.core import surface
from theodolite.readers._text import TextReader


class Surface(TextReader):
    """Logistic regression on casing, digits, punctuation, white space, scripts and length (`core/surface.py`).

    What separates the classes here is the form of the data set, not the concept: a method that does no better may have
    read nothing else.

    >>> reader = Surface().fit(["The cat", "A dog", "the cow", "a hen"], [1, 1, 0, 0])
    >>> reader.predict(["One fox", "one fox"])
    array([1, 0])
    """

    standardise = True

    def _features(self, texts: np.ndarray) -> np.ndarray:
        return surface.features(texts)
