"""Surface features of a text, whatever it says: casing, digits, punctuation, white space, scripts, length.

Word n-grams, here as in most baselines, are counted in lower case and between spaces; a label that goes with a capital
letter, a final stop or a no-break space is invisible to them and plain to any language model.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

START, END = "\2", "\3"  # stand before the first and behind the last character in character n-grams
_MARKS = ".,!?:;'\"()-/"
_TYPOGRAPHIC = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026"
_QUOTES = "'\"`\u2018\u2019\u201c\u201d\u00ab"
_WORD, _NUMBER = re.compile(r"\S+"), re.compile(r"\d+")
_LETTERS, _TWO_SPACES = re.compile(r"[^\W\d_]+"), re.compile(r"  +")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _of_words(text: str) -> dict[str, float]:
    words = _WORD.findall(text)
    cased = [word for word in _LETTERS.findall(text) if word[0].upper() != word[0].lower()]
    letters = sum(map(len, cased))
    first = next((c for c in text if c.isalpha()), "")
    return {
        "characters": np.log1p(len(text)),
        "words": np.log1p(len(words)),
        "characters per word": np.log1p(_share(len(text), len(words))),
        "first letter is a capital": float(first.isupper()),
        "words that begin with a capital": _share(sum(word[0].isupper() for word in cased), len(cased)),
        "words in capitals": _share(sum(len(word) > 1 and word.isupper() for word in cased), len(cased)),
        "capital letters": _share(sum(c.isupper() for word in cased for c in word), letters),
        "digits": _share(sum(map(len, _NUMBER.findall(text))), len(text)),
        "numbers": np.log1p(len(_NUMBER.findall(text))),
    }


def _of_punctuation(text: str) -> dict[str, float]:
    last, first = text.rstrip()[-1:], text.lstrip()[:1]
    known = Counter(text)
    other = sum(n for c, n in known.items() if c.isascii() and not c.isalnum() and not c.isspace() and c not in _MARKS)
    return {
        **{f"mark {mark}": np.log1p(known[mark]) for mark in _MARKS},
        "other ASCII marks": np.log1p(other),
        "typographic quotes and dashes": np.log1p(sum(known[c] for c in _TYPOGRAPHIC)),
        "ends with a mark": float(bool(last) and not last.isalnum()),
        "ends with a full stop": float(last == "."),
        "begins with a quotation mark": float(bool(first) and first in _QUOTES),
        "begins with a digit": float(first.isdigit()),
    }


def _of_white_space(text: str) -> dict[str, float]:
    return {
        "line breaks": np.log1p(text.count("\n")),
        "tabs": np.log1p(text.count("\t")),
        "spaces in a row": np.log1p(len(_TWO_SPACES.findall(text))),
        "other white space, such as no-break spaces": np.log1p(sum(c.isspace() and c not in " \n\r\t" for c in text)),
        "begins with white space": float(text[:1].isspace()),
        "ends with white space": float(text[-1:].isspace()),
    }


def _of_unicode(text: str) -> dict[str, float]:
    beyond = [] if text.isascii() else [c for c in text if not c.isascii()]
    kinds = Counter(unicodedata.category(c) for c in beyond)
    foreign = sum(c.isalpha() and not unicodedata.name(c, "").startswith("LATIN") for c in beyond)
    return {
        "non-ASCII characters": _share(len(beyond), len(text)),
        "letters outside the Latin script": _share(foreign, len(text)),
        "emoji and other symbols": np.log1p(kinds["So"] + kinds["Sk"]),
        "invisible characters": np.log1p(kinds["Cf"] + kinds["Cc"]),
        "combining marks": np.log1p(kinds["Mn"] + kinds["Mc"]),
        "not in Unicode's composed form (NFC)": float(bool(beyond) and not unicodedata.is_normalized("NFC", text)),
    }


_PARTS: tuple[Callable[[str], dict[str, float]], ...] = (_of_words, _of_punctuation, _of_white_space, _of_unicode)
NAMES = tuple(name for part in _PARTS for name in part(""))


def features(texts: Iterable[str]) -> np.ndarray:
    """One row per text, one column per name in `NAMES`: counts as log(1 + n), shares of characters, letters or words.

    >>> row = dict(zip(NAMES, features(["Pay 20 EUR now!"])[0].tolist()))
    >>> row["first letter is a capital"], round(row["words in capitals"], 2), row["ends with a full stop"]
    (1.0, 0.33, 0.0)
    """
    rows = [[value for part in _PARTS for value in part(str(text)).values()] for text in texts]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(NAMES))


def log_lengths(texts: Iterable[str]) -> np.ndarray:
    """Return log(1 + n) of the characters and of the words of each text, (n, 2).

    >>> log_lengths(["", "two words"]).round(2).tolist()
    [[0.0, 0.0], [2.3, 1.1]]
    """
    return np.log1p([[len(text), len(text.split())] for text in texts])


def character_ngrams(text: str, longest: int = 4) -> list[str]:
    """The pieces of 1 to `longest` characters as they stand: in their case, with all white space, and both ends marked.

    >>> [gram.replace(START, "^").replace(END, "$") for gram in character_ngrams("Ab", longest=2)]
    ['^', 'A', 'b', '$', '^A', 'Ab', 'b$']
    """
    marked = f"{START}{text}{END}"
    return [marked[i : i + k] for k in range(1, longest + 1) for i in range(len(marked) - k + 1)]
