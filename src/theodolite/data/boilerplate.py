"""Text that many rows of a data set share, such as a prompt template: found, and left out where likeness is measured.

Four hundred questions in one template of a hundred characters are, as whole texts, near-duplicates of each other: the
template outweighs what differs, whatever the inverse document frequencies (a 4-gram in every row still weighs 1, and
there are many of them). Then one cluster holds all rows, nothing can be split, and an audit of one row per cluster
sees nothing. What tells such rows apart is what is left when the template is taken out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from theodolite.data.near_duplicates import canonical

LENGTH = 16  # characters: shorter pieces are common English, and too light to make rows near-duplicates
SHARE = 0.1  # of the rows: a phrase of fewer is a family of near copies, which must stay one cluster
# Of a text: a smaller part cannot make two texts near-duplicates, since its 4-grams weigh less than all others:
# cosine .7 takes .7 of the weight. Ordinary texts, whose common phrases are short, are thereby left as they are.
MOSTLY = 0.5
_FEWEST_ROWS = 20
_SAMPLE = 5000  # rows looked at; enough to see what every tenth row has
_BLOCK = 2000  # rows held as arrays at a time
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no character of a piece is lost modulo 2**64


@dataclass(frozen=True)
class Boilerplate:
    """Pieces of `LENGTH` characters by their hash, ascending, and the number of rows that hold each."""

    piece: np.ndarray
    n_rows: np.ndarray

    def shares(self, texts: Sequence[str]) -> np.ndarray:
        """Share of each text's characters that is boilerplate (canonical form: lower case, single spaces)."""
        if not len(self.piece):
            return np.zeros(len(texts))
        return np.array([covered.mean() if len(covered) else 0.0 for _, covered in self._covered(texts)])

    def stripped(self, texts: Sequence[str]) -> list[str]:
        """Return the rest of each text that is mostly boilerplate; others, and those that are nothing else, stay whole.

        >>> rows = [f"Answer with one word only. Question: {q}" for q in map(str, range(1000, 1040))]
        >>> find(rows).stripped(["Answer with one word only. Question: what is tin?", "Tin is a metal."])
        ['what is tin?', 'Tin is a metal.']
        """
        if not len(self.piece):
            return list(texts)
        return [_left(text, *seen) for text, seen in zip(texts, self._covered(texts), strict=True)]

    def fills(self, texts: Sequence[str]) -> np.ndarray:
        """Return which texts are mostly boilerplate, so that their likeness is measured on the rest."""
        return self.shares(texts) >= MOSTLY

    def _covered(self, texts: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Each text in canonical form, and which of its characters lie in boilerplate."""
        for start in range(0, len(texts), _BLOCK):
            forms = [canonical(text) for text in texts[start : start + _BLOCK]]
            code, first = _codes(forms)
            yield from zip(forms, np.split(self._positions(code), first[1:-1]), strict=True)

    def _positions(self, code: np.ndarray) -> np.ndarray:
        piece = _pieces(code)
        at = np.searchsorted(self.piece, piece).clip(max=len(self.piece) - 1)
        n_rows = np.where(self.piece[at] == piece, self.n_rows[at], 0)
        # "...template apple" is in the rows whose slot begins with "apple", "...template " in all: of pieces that
        # overlap, only those that as many rows share (within a factor of two) are the template itself
        own = (n_rows > 0) & (2 * n_rows >= maximum_filter1d(n_rows, 2 * LENGTH - 1, mode="constant"))
        ends = np.zeros(len(code) + 1, np.int64)
        np.add.at(ends, np.flatnonzero(own), 1)
        np.add.at(ends, np.flatnonzero(own) + LENGTH, -1)
        return np.cumsum(ends[:-1]) > 0


def find(texts: Sequence[str]) -> Boilerplate:
    """The pieces that at least a tenth of the texts, and at least 20, share; the first 5,000 texts are looked at.

    A data set's rows stand in the order of their hashes, so that its first rows are a random sample of it.
    """
    texts = [canonical(text) for text in texts[:_SAMPLE]]
    code, first = _codes(texts)
    piece, row = _pieces(code), np.repeat(np.arange(len(texts)), np.diff(first))[: max(len(code) - LENGTH + 1, 0)]
    inside = np.arange(len(piece)) + LENGTH <= first[1:][row]  # not into the next text
    order = np.lexsort((row[inside], piece[inside]))
    piece, row = piece[inside][order], row[inside][order]
    new = np.ones(len(piece), bool)
    new[1:] = (piece[1:] != piece[:-1]) | (row[1:] != row[:-1])  # a piece twice in one row counts once
    known, n_rows = np.unique(piece[new], return_counts=True)
    often = n_rows >= max(_FEWEST_ROWS, SHARE * len(texts))
    return Boilerplate(known[often], n_rows[often])


def joined(*parts: Boilerplate) -> Boilerplate:
    """The pieces of all parts; the larger count where two know a piece."""
    piece, n_rows = np.concatenate([p.piece for p in parts]), np.concatenate([p.n_rows for p in parts])
    order = np.lexsort((-n_rows, piece))
    known, at = np.unique(piece[order], return_index=True)
    return Boilerplate(known, n_rows[order][at])


def _left(text: str, form: str, covered: np.ndarray) -> str:
    if not len(covered) or covered.mean() < MOSTLY:
        return text
    kept = "".join(c if keep else "\0" for c, keep in zip(form, ~covered, strict=True))
    left = " ".join(piece.strip() for piece in kept.split("\0") if piece.strip())
    return left if any(c.isalnum() for c in left) else text


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Characters of all texts under each other as numbers, and where each text begins (and the last ends)."""
    codes = [np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32) for text in texts]
    first = np.concatenate([[0], np.cumsum([len(code) for code in codes], dtype=np.int64)])
    return np.concatenate([*codes, np.zeros(0, np.uint32)]).astype(np.uint64), first


def _pieces(code: np.ndarray) -> np.ndarray:
    """Hash of the piece that begins at each character: a polynomial modulo 2**64."""
    n = max(len(code) - LENGTH + 1, 0)
    piece = np.zeros(n, np.uint64)
    for k in range(LENGTH):
        piece = piece * _BASE + (code[k : k + n] + np.uint64(1)) * _BASE
    return piece ^ (piece >> np.uint64(29))
