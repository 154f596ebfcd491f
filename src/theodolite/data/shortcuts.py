"""Candidate shortcuts: what goes with the label more than chance allows, in words, in writing, in topic or in source.

A candidate is something a row has or has not. Its kinds: words and pairs of words (in lower case), runs of characters
that those cannot see (capitals, marks, white space, the text's two ends), the surface form, k-means clusters of texts,
sources, and a dictionary's latents. Its statistic is the stratified difference of its counts between the classes in
standard deviations (Mantel and Haenszel 1959, without continuity correction); its p-value is the share of label
permutations in which *any* candidate of its kind reaches it (the maximum statistic of Westfall and Young 1993). Kinds
are families: those that hold anything are found at a false-discovery rate of 5 % by the p of their best candidate
(Benjamini and Hochberg 1995), and inside a family found, at 5 % times the share of families found (Benjamini and
Bogomolov 2014). Where no label goes with anything, 95 of 100 searches therefore find nothing at all, and ten thousand
n-grams cannot drown the one capital letter that decides.

What is found is ranked by its effect, the stratified difference between the classes' shares (Mantel and Haenszel's
risk difference), since in a large data set any trifle is beyond chance.

Labels are permuted inside every source that has both classes. Sources of one class are permuted together: there,
whatever marks a source marks the label, and is found as the shortcut that it is. Sources themselves are tested over
all rows, since inside a source they say nothing. Where they go with the label, all other kinds are tested a second time
over all rows, by the same rules, and what is found only there is told apart: it goes with the label through the source.
That second search is made only behind a finding, so that it adds no error where no label goes with anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import norm
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from theodolite.core import surface
from theodolite.core.seeds import child_seed, generator
from theodolite.data.splits import one_of_each_cluster
from theodolite.data.text_baselines import WORD

LEVEL = 0.05
KINDS = ("term", "surface", "characters", "cluster", "source", "latent")
_MIN_ROWS = 10  # a rarer candidate could not be told from chance, and would be no shortcut worth taking
_K_CLUSTERS = 20
_TOPICS = 50
_LONGEST = 3  # characters of a run: enough for a boundary, a capital and its neighbour


@dataclass(frozen=True)
class Shortcut:
    """A candidate beyond chance: effect > 0 and z > 0 go with label 1; shares are of the rows of each class.

    effect: share among the positives minus share among the negatives, averaged over strata. p: within its kind.
    """

    kind: str
    name: str
    z: float
    p: float
    share_positive: float
    share_negative: float
    n: int
    effect: float


@dataclass(frozen=True)
class Candidates:
    """Candidates of one kind by row: (rows, candidates) of 0 and 1."""

    kind: str
    name: list[str]
    has: sparse.csc_matrix


@dataclass(frozen=True)
class SourceAndLabel:
    """Strength with which the source tells the label, over rows of one near-duplicate cluster each.

    cramers_v: 0 to 1 (Cramer 1946). decided: share of rows whose label is the commoner one of their source.
    commoner: share of rows with the commoner label of all, which `decided` is where the sources say nothing.
    """

    n_sources: int
    cramers_v: float
    decided: float
    commoner: float


@dataclass(frozen=True)
class Search:
    """All shortcuts found, the largest effect first, and how many candidates and permutations that took.

    found: number of shortcuts of each kind that had any candidate, 0 among them. with_source: what goes with the label
    over all rows and not inside sources; its effects are over all rows. detectable: the smallest share of the positives
    in which a word that no negative holds would have been found; None if no share would do.
    """

    shortcuts: list[Shortcut]
    n_candidates: int
    n_permutations: int
    n_rows: int
    found: dict[str, int]
    with_source: list[Shortcut]
    source: SourceAndLabel
    detectable: float | None


def search(
    frame: pd.DataFrame,
    seed: int = 0,
    n_permutations: int = 500,
    latents: sparse.csr_matrix | None = None,
    latent_names: Sequence[str] | None = None,
) -> Search:
    """The shortcuts in a data set; `latents` (rows, width) adds a dictionary's latents, present where positive.

    Of every near-duplicate cluster one row takes part (copies are not independent evidence): the one with the smallest
    hash.
    """
    rows = one_of_each_cluster(frame, np.arange(len(frame)))
    chosen = frame.iloc[rows]
    families = [_distinct(family) for family in candidates(chosen, seed)]
    if latents is not None:
        families.append(_distinct(_latents(latents[rows], latent_names)))
    families = [family for family in families if family.name]
    y, stratum = chosen["label"].to_numpy(), strata(chosen)
    inside = _null(y, stratum, seed, n_permutations)
    over_all = _null(y, np.zeros(len(y)), seed, n_permutations) if len(np.unique(stratum)) > 1 else inside
    tests = [(over_all if family.kind == "source" else inside).test(family) for family in families]
    shortcuts, passed = _found(families, tests, y)
    found = {family.kind: sum(s.kind == family.kind for s in shortcuts) for family in families}
    with_source: list[Shortcut] = []
    if over_all is not inside and found.get("source"):
        others = [family for family in families if family.kind != "source"]
        known = {(s.kind, s.name) for s in shortcuts}
        again, _ = _found(others, [over_all.test(family) for family in others], y)
        with_source = [s for s in again if (s.kind, s.name) not in known]
    return Search(
        shortcuts,
        sum(len(family.name) for family in families),
        n_permutations,
        len(chosen),
        found,
        with_source,
        source_and_label(chosen),
        _detectable(inside, {family.kind: test for family, test in zip(families, tests, strict=True)}, passed),
    )


def source_and_label(frame: pd.DataFrame) -> SourceAndLabel:
    """Measure how far the source of a row tells its label; V is 0 where there is one source or one label.

    >>> source_and_label(pd.DataFrame({"source": list("aabb"), "label": [1, 1, 0, 1]}))
    SourceAndLabel(n_sources=2, cramers_v=0.577..., decided=0.75, commoner=0.75)
    """
    table = pd.crosstab(frame["source"], frame["label"]).to_numpy(dtype=float)
    n, rows, columns = table.sum(), table.sum(axis=1), table.sum(axis=0)
    expected = np.outer(rows, columns) / n
    smaller = min(table.shape) - 1
    v = float(np.sqrt(((table - expected) ** 2 / expected).sum() / (n * smaller))) if smaller else 0.0
    return SourceAndLabel(len(rows), v, float(table.max(axis=1).sum() / n), float(columns.max() / n))


def candidates(frame: pd.DataFrame, seed: int) -> Iterator[Candidates]:
    """Surface form, words and pairs of words, runs of characters, k-means clusters of the texts, and the sources."""
    texts = frame["text"].tolist()
    yield _surface(texts)
    terms = CountVectorizer(ngram_range=(1, 2), binary=True, token_pattern=WORD, dtype=np.float64)
    yield _counted("term", terms, texts)
    runs = CountVectorizer(analyzer=_runs, binary=True, dtype=np.float64)
    found = _counted("characters", runs, texts)
    yield Candidates(found.kind, [_quoted(name) for name in found.name], found.has)
    yield _text_clusters(texts, seed)
    yield Candidates("source", *_indicators(frame["source"].to_numpy(dtype=str)))


def strata(frame: pd.DataFrame) -> np.ndarray:
    """The set inside which each row's label may be swapped: its source, or all sources of one class together."""
    both = frame.groupby("source")["label"].transform("nunique") == 2
    return frame["source"].where(both, "").to_numpy(dtype=str)


def _column_means(has: sparse.csc_matrix) -> np.ndarray:
    return np.asarray(has.mean(axis=0)).ravel()


@dataclass(frozen=True)
class _Tested:
    """Tests of a family's candidates: z, effect and family-wise p; `highest`: the largest |z| of each permutation."""

    z: np.ndarray
    effect: np.ndarray
    p: np.ndarray
    highest: np.ndarray


@dataclass(frozen=True)
class _Null:
    """The labels, the rows inside which they may be swapped, and their permutations, the same for every family."""

    y: np.ndarray
    members: list[np.ndarray]
    orders: list[np.ndarray]

    def test(self, family: Candidates) -> _Tested:
        """Every candidate of one family against these permutations."""
        expected, scale = _moments(family.has, self.y, self.members)
        pairs = sum(self.y[at].sum() * (len(at) - self.y[at].sum()) / len(at) for at in self.members)
        beyond = self.y @ family.has - expected
        z = beyond * scale
        highest = np.array([np.abs((order @ family.has - expected) * scale).max(initial=0) for order in self.orders])
        reached = (highest[:, None] >= np.abs(z) - 1e-9).sum(axis=0)
        return _Tested(z, beyond / max(pairs, 1e-9), (1 + reached) / (1 + len(self.orders)), highest)


def _null(y: np.ndarray, stratum: np.ndarray, seed: int, n_permutations: int) -> _Null:
    rng = generator(seed, "permutations")
    members = [np.flatnonzero(stratum == name) for name in np.unique(stratum)]
    return _Null(y, members, [_permuted(y, members, rng) for _ in range(n_permutations)])


def _moments(has: sparse.csc_matrix, y: np.ndarray, members: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Expected count among the positives of each candidate, and one over its standard deviation."""
    expected, variance = np.zeros(has.shape[1]), np.zeros(has.shape[1])
    for rows in members:
        n, positive = len(rows), y[rows].sum()
        share = _column_means(has[rows])
        expected += positive * share
        variance += positive * (n - positive) / max(n - 1, 1) * share * (1 - share)
    return expected, np.where(variance > 1e-9, 1 / np.sqrt(np.maximum(variance, 1e-9)), 0)  # a constant says nothing


def _permuted(y: np.ndarray, members: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    shuffled = y.astype(float)
    for rows in members:
        shuffled[rows] = rng.permutation(shuffled[rows])
    return shuffled


def _found(families: list[Candidates], tests: list[_Tested], y: np.ndarray) -> tuple[list[Shortcut], dict[str, bool]]:
    """The shortcuts beyond chance, the largest effect first, and which kinds hold any."""
    passed = _passed([test.p.min() for test in tests])
    level = LEVEL * sum(passed) / max(len(families), 1)
    shortcuts = [
        shortcut
        for family, test, holds in zip(families, tests, passed, strict=True)
        if holds
        for shortcut in _beyond(family, y, test, level)
    ]
    shortcuts.sort(key=lambda s: (-round(abs(s.effect), 9), KINDS.index(s.kind), s.name))
    return shortcuts, {family.kind: holds for family, holds in zip(families, passed, strict=True)}


def _passed(p: Sequence[float]) -> list[bool]:
    """Return which families hold a shortcut, by Benjamini and Hochberg's rule on the p of their best candidates."""
    ordered = sorted(p)
    steps = [value for rank, value in enumerate(ordered, start=1) if value <= LEVEL * rank / len(ordered)]
    return [bool(steps) and value <= steps[-1] for value in p]


def _beyond(family: Candidates, y: np.ndarray, test: _Tested, level: float) -> Iterator[Shortcut]:
    negative, positive = (family.has[y == label].getnnz(axis=0) / max((y == label).sum(), 1) for label in (0, 1))
    n = family.has.getnnz(axis=0)
    for c in np.flatnonzero(test.p <= level).tolist():
        z, p, effect = float(test.z[c]), float(test.p[c]), float(test.effect[c])
        yield Shortcut(family.kind, family.name[c], z, p, float(positive[c]), float(negative[c]), int(n[c]), effect)


def _detectable(null: _Null, tests: dict[str, _Tested], passed: dict[str, bool]) -> float | None:
    """The smallest share of positives, alike in every stratum, in which a word of positives alone passes as a term.

    The level is that at which the word's family would join those found. Where no word is frequent enough to be a
    candidate, it would be the only one, and the normal quantile decides instead of the other words' largest z.
    """
    n, families = len(null.orders), len({*tests, "term"})
    level = LEVEL * (sum(passed.values()) + (not passed.get("term", False))) / families
    may_reach = int(level * (1 + n) + 1e-9) - 1  # permutations may reach the word's z: p is (1 + reached) / (1 + n)
    if may_reach < 0:
        return None
    needed = float(norm.isf(level / 2))
    if "term" in tests:
        needed = max(needed, float(np.sort(tests["term"].highest)[-1 - may_reach]))
    rows = np.array([len(at) for at in null.members], dtype=float)
    ones = np.array([null.y[at].sum() for at in null.members], dtype=float)
    share = np.arange(_MIN_ROWS, ones.sum() + 1)[:, None] / max(ones.sum(), 1)
    has = share * ones / rows
    variance = ones * (rows - ones) / np.maximum(rows - 1, 1) * has * (1 - has)
    with np.errstate(invalid="ignore", divide="ignore"):  # no stratum of both classes: 0 / 0, which passes nothing
        z = (share * ones - ones * has).sum(axis=1) / np.sqrt(variance.sum(axis=1))
    enough = np.flatnonzero(z > needed)
    return float(share[enough[0], 0]) if len(enough) else None


def _counted(kind: str, vectoriser: CountVectorizer, texts: list[str]) -> Candidates:
    """Candidates that the vectoriser finds in enough rows."""
    try:
        has = vectoriser.fit_transform(texts).tocsc()
    except ValueError:  # scikit-learn's word for "not one term"
        return Candidates(kind, [], sparse.csc_matrix((len(texts), 0)))
    often = np.flatnonzero(has.getnnz(axis=0) >= _MIN_ROWS)
    return Candidates(kind, vectoriser.get_feature_names_out()[often].tolist(), has[:, often])


def _runs(text: str) -> list[str]:
    """Runs of characters that no word in lower case shows: with a capital, a mark, odd white space, or an end."""
    return [
        run
        for run in surface.character_ngrams(text, _LONGEST)
        if any(c.isupper() or not (c.isalnum() or c == " ") for c in run) or "  " in run
    ]


def _quoted(run: str) -> str:
    place = "at the start " if surface.START in run else "at the end " if surface.END in run else ""
    return f"{place}{run.strip(surface.START + surface.END)!r}"


def _surface(texts: list[str]) -> Candidates:
    """Candidates of surface features: whether the text has one at all, and whether it has more than the median text."""
    values = surface.features(texts)
    names, has = [], []
    for name, column in zip(surface.NAMES, values.T, strict=True):
        for label, threshold in ((name, 0.0), (f"{name}: above the median", float(np.median(column)))):
            row = column > threshold
            if _MIN_ROWS <= row.sum() <= len(texts) - _MIN_ROWS:
                names.append(label)
                has.append(row)
    matrix = np.array(has, dtype=np.float64).reshape(len(has), len(texts)).T
    return Candidates("surface", names, sparse.csc_matrix(matrix))


def _text_clusters(texts: list[str], seed: int) -> Candidates:
    """k-means on the leading singular vectors of tf-idf; a cluster is named by the words that weigh most in it."""
    none = Candidates("cluster", [], sparse.csc_matrix((len(texts), 0)))
    vectoriser = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"\w\w+")
    try:
        tfidf = vectoriser.fit_transform(texts)
    except ValueError:  # scikit-learn's word for "no term occurs twice"
        return none
    topics = min(_TOPICS, min(tfidf.shape) - 1)
    if topics < 1:
        return none
    reduced = TruncatedSVD(topics, random_state=child_seed(seed, "topics")).fit_transform(tfidf)
    k = min(_K_CLUSTERS, len(texts) // _MIN_ROWS, len(np.unique(reduced.round(6), axis=0)))
    label = KMeans(max(k, 1), n_init=3, random_state=child_seed(seed, "k-means")).fit_predict(reduced)
    words = vectoriser.get_feature_names_out()
    numbers, has = _indicators(label)
    centres = [np.asarray(tfidf[label == int(c)].mean(axis=0)).ravel() for c in numbers]
    names = [" ".join(words[np.argsort(-centre, kind="stable")[:5]]) for centre in centres]
    return Candidates("cluster", names, has)


def _indicators(values: np.ndarray) -> tuple[list[str], sparse.csc_matrix]:
    """One column per value; none where all rows share one value."""
    names, code = np.unique(values, return_inverse=True)
    if len(names) < 2:
        return [], sparse.csc_matrix((len(values), 0))
    ones = np.ones(len(values))
    return [str(name) for name in names], sparse.csc_matrix((ones, (np.arange(len(values)), code)))


def _latents(latents: sparse.csr_matrix, names: Sequence[str] | None) -> Candidates:
    has = sparse.csc_matrix(latents > 0, dtype=np.float64)
    often = np.flatnonzero(has.getnnz(axis=0) >= _MIN_ROWS).tolist()
    return Candidates("latent", [names[c] if names is not None else f"latent {c}" for c in often], has[:, often])


def _distinct(family: Candidates) -> Candidates:
    """The plainest of the candidates that the same rows have, such as a word and the pair it always stands in."""
    first: dict[bytes, int] = {}
    has = family.has.sorted_indices()
    plainest = (lambda c: (0, c)) if family.kind == "surface" else (lambda c: (len(family.name[c]), c))
    for c in sorted(range(len(family.name)), key=plainest):
        first.setdefault(has.indices[has.indptr[c] : has.indptr[c + 1]].tobytes(), c)
    kept = sorted(first.values())
    return Candidates(family.kind, [family.name[c] for c in kept], has[:, kept])
