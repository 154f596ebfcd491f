import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from toy_rows import frame_of, sentences

from theodolite.data.shortcuts import LEVEL, Candidates, Search, _found, _Tested, search, source_and_label, strata

N = 200
COMMON = [f"{word} word" for word in ("alpha", "beta", "gamma", "delta", "epsilon")]
LABELS = np.array([1, 0] * (N // 2))


def texts(seed: int) -> list[str]:
    """Rare words and, in every text, some of a few common ones, so that there is something to find by chance."""
    rng = np.random.default_rng(seed)
    return [" ".join([bare, *rng.choice(COMMON, 3)]) for bare in sentences(N, seed, words=4)]


def planted(seed: int, share: float = 0.3) -> pd.DataFrame:
    """A token in 30 % of the positives and nowhere else."""
    rng = np.random.default_rng(seed)
    marked = [f"{t} zzz" if y and rng.random() < share else t for t, y in zip(texts(seed), LABELS, strict=True)]
    return frame_of(marked, LABELS.tolist())


def names(found: Search, kind: str) -> list[str]:
    return [shortcut.name for shortcut in found.shortcuts if shortcut.kind == kind]


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_token_is_found_with_its_share(seed: int) -> None:
    found = search(planted(seed), seed, n_permutations=200)
    token = next(s for s in found.shortcuts if s.name == "zzz")
    assert found.shortcuts[0].name in {"zzz", "word zzz"}
    assert token.z > 5
    assert token.p == pytest.approx(1 / 201)
    assert token.share_positive == pytest.approx(0.3, abs=0.1)
    assert token.share_negative == 0
    assert token.n == round(token.share_positive * N / 2)


def test_where_nothing_is_planted_nothing_is_found() -> None:
    found = search(frame_of(texts(0), LABELS.tolist()), 0, n_permutations=200)
    assert found.shortcuts == []
    assert found.n_candidates > 20


@pytest.mark.slow
def test_the_whole_list_errs_at_its_level() -> None:
    false = [bool(search(frame_of(texts(s), LABELS.tolist()), s, n_permutations=200).shortcuts) for s in range(200)]
    assert np.mean(false) < LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 200)


def written(seed: int) -> list[str]:
    """Texts that differ in every kind of candidate, none of which knows the label."""
    rng = np.random.default_rng(seed)
    ends, forms = [".", "!", "", " 12"], [str, str.upper, str.capitalize]
    return [f"{forms[rng.integers(3)](text)}{rng.choice(ends)}" for text in texts(seed)]


@pytest.mark.slow
def test_the_whole_list_errs_at_its_level_over_every_kind() -> None:
    false = []
    for seed in range(100):
        labels = np.random.default_rng(seed).permutation(LABELS).tolist()
        source = np.random.default_rng(seed + 1000).choice(["a", "b"], N).tolist()
        found = search(frame_of(written(seed), labels, source), seed, n_permutations=300)
        false.append(bool(found.shortcuts))
        assert set(found.found) >= {"term", "surface", "characters"}
    assert np.mean(false) < LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 100)


def test_hundreds_of_words_do_not_drown_one_surface_feature() -> None:
    """29 of 40 in one class, 13 in the other: beyond chance for a kind of its own, whatever the number of words."""
    rng = np.random.default_rng(1)
    labels = np.array([1, 0] * 40)
    capital = np.isin(np.arange(80), [*np.flatnonzero(labels)[:29], *np.flatnonzero(labels == 0)[:13]])
    words = [" ".join(f"w{i}" for i in rng.integers(0, 300, 40)) for _ in labels]
    rows = [f"a {text}".capitalize() if c else f"a {text}" for text, c in zip(words, capital, strict=True)]
    found = search(frame_of(rows, labels.tolist()), 0, 500)
    assert found.n_candidates > 150
    assert "first letter is a capital" in names(found, "surface")
    assert names(found, "term") == []


def test_what_is_found_is_ranked_by_its_effect_and_equal_columns_are_one() -> None:
    found = search(planted(0, 0.5), 0, n_permutations=200)
    effects = [round(abs(s.effect), 9) for s in found.shortcuts]
    assert effects == sorted(effects, reverse=True)
    assert found.found["term"] == len(names(found, "term"))
    assert names(found, "term").count("word zzz") == 0  # every zzz stands behind a word, in the same rows
    token = next(s for s in found.shortcuts if s.name == "zzz")
    assert token.effect == pytest.approx(token.share_positive - token.share_negative)


def test_the_effect_is_mantel_and_haenszels_risk_difference() -> None:
    """Two sources of 40 and 80 rows, with shares of 15/20 against 5/20 and 10/20 against 10/60."""
    counts = [("a", 1, 20, 15), ("a", 0, 20, 5), ("b", 1, 20, 10), ("b", 0, 60, 10)]
    bare = iter(sentences(120, 11))
    rows = [
        (f"{next(bare)} zzz" if i < with_term else next(bare), label, source)
        for source, label, n, with_term in counts
        for i in range(n)
    ]
    text, label, source = (list(column) for column in zip(*rows, strict=True))
    found = search(frame_of(text, label, source), 0, n_permutations=500)
    weight = np.array([20 * 20 / 40, 20 * 60 / 80])
    by_hand = (weight * [15 / 20 - 5 / 20, 10 / 20 - 10 / 60]).sum() / weight.sum()
    assert next(s.effect for s in found.shortcuts if s.name == "zzz") == pytest.approx(by_hand)


def test_z_is_the_hypergeometric_one() -> None:
    """12 of 20 rows have the term, 10 of them among the 10 positives: E = 6, V = 10 * 10 / 19 * .6 * .4."""
    bare = sentences(20, 3)
    has = np.array([1] * 12 + [0] * 8)
    frame = frame_of([f"{t} zzz" if h else t for t, h in zip(bare, has, strict=True)], [1] * 10 + [0] * 10)
    found = search(frame, 0, n_permutations=100)
    assert next(s.z for s in found.shortcuts if s.name == "zzz") == pytest.approx(4 / np.sqrt(100 / 19 * 0.24))


def test_labels_are_permuted_inside_sources_of_both_classes_and_across_the_rest() -> None:
    frame = frame_of(list("abcdef"), [1, 0, 1, 1, 0, 0], ["mixed", "mixed", "harm", "harm", "ok", "ok"])
    assert strata(frame).tolist() == ["mixed", "mixed", "", "", "", ""]


def test_a_word_of_one_source_is_no_shortcut_inside_it_but_sources_of_one_class_are() -> None:
    bare = sentences(120, 4)
    source = ["mixed"] * 60 + ["harm"] * 30 + ["ok"] * 30
    marked = [f"{t} mark" if s == "mixed" else t for t, s in zip(bare, source, strict=True)]
    found = search(frame_of(marked, [1, 0] * 30 + [1] * 30 + [0] * 30, source), 0, n_permutations=200)
    assert "mark" not in names(found, "term")
    assert set(names(found, "source")) == {"harm", "ok"}


def test_copies_are_no_evidence() -> None:
    """Eleven copies of one marked row are one observation."""
    bare = sentences(100, 5)
    copies = [f"{bare[0]} zzz {i}" for i in range(11)]
    frame = frame_of([*copies, *bare[1:]], [1] * 11 + [1, 0] * 49 + [1], cluster=[0] * 11 + list(range(1, 100)))
    assert "zzz" not in names(search(frame, 0, n_permutations=200), "term")
    assert "zzz" in names(search(frame.assign(cluster=range(len(frame))), 0, n_permutations=200), "term")


def test_a_topic_that_goes_with_the_label_is_found_as_a_cluster() -> None:
    rng = np.random.default_rng(0)
    pools = [[f"{stem}{i}" for i in range(12)] for stem in ("cook", "sport")]
    rows = [" ".join(rng.choice(pools[y], 6, replace=False)) for y in LABELS]
    clusters = names(search(frame_of(rows, LABELS.tolist()), 0, n_permutations=200), "cluster")
    assert any("cook" in name for name in clusters)
    assert any("sport" in name for name in clusters)


def test_latents_join_in_row_order() -> None:
    rng = np.random.default_rng(0)
    fires = rng.random((N, 6)) < 0.3
    fires[:, 4] = LABELS & (rng.random(N) < 0.5)
    order = rng.permutation(N)
    frame = frame_of(texts(0), LABELS.tolist()).iloc[order].reset_index(drop=True)
    latents = sparse.csr_matrix(fires[order].astype(np.float32) * 0.1)
    found = search(frame, 0, 200, latents, [f"l{i}" for i in range(6)])
    assert names(found, "latent") == ["l4"]


def test_texts_without_a_repeated_word_have_no_clusters() -> None:
    assert search(frame_of(sentences(40, 8), [1, 0] * 20), 0, 100).shortcuts == []


def marked_source(bare: list[str]) -> list[str]:
    return [f"ZQX says {text}".upper() for text in bare]


@pytest.mark.parametrize("third", [False, True], ids=["one", "two of one class"])
def test_what_marks_a_source_of_one_class_is_found_with_the_source(third: bool) -> None:
    """Beside a mixed source, labels inside sources of the same class cannot move: no candidate varies there."""
    parts = [("a", texts(0)[:100], [1, 0] * 50), ("b", marked_source(texts(1)[:100]), [1] * 100)]
    parts += [("c", texts(2)[:100], [1] * 100)] if third else []
    rows = [t for _, part, _ in parts for t in part]
    found = search(
        frame_of(rows, [y for *_, part in parts for y in part], [n for n, *p in parts for _ in p[0]]), 0, 500
    )
    assert {"a", "b"} <= set(names(found, "source"))
    assert {s.kind for s in found.shortcuts} == {"source"}
    beside = {(s.kind, s.name): s for s in found.with_source}
    assert ("term", "zqx") in beside
    assert {"surface", "characters"} <= {kind for kind, _ in beside}
    mark = beside["term", "zqx"]
    assert mark.effect == pytest.approx(mark.share_positive - mark.share_negative)


def test_a_source_that_nearly_decides_the_label_is_found_and_so_is_what_marks_it() -> None:
    labels = [1] * 95 + [0] * 5 + [1] * 5 + [0] * 95
    rows = [t.upper() if i < 100 else t for i, t in enumerate(texts(0))]
    found = search(frame_of(rows, labels, ["a"] * 100 + ["b"] * 100), 0, 500)
    assert set(names(found, "source")) == {"a", "b"}
    assert "first letter is a capital" in {
        s.name for s in (*found.shortcuts, *found.with_source) if s.kind == "surface"
    }
    assert not {(s.kind, s.name) for s in found.shortcuts} & {(s.kind, s.name) for s in found.with_source}
    assert found.source.cramers_v == pytest.approx(0.9)
    assert (found.source.n_sources, found.source.decided, found.source.commoner) == (2, 0.95, 0.5)


def test_where_the_source_says_nothing_of_the_label_nothing_goes_with_it() -> None:
    """Every mark of source b stands beside as many labels of either class as in a."""
    rows = [*texts(0)[:100], *marked_source(texts(1)[:100])]
    found = search(frame_of(rows, LABELS.tolist(), ["a"] * 100 + ["b"] * 100), 0, 500)
    assert (found.shortcuts, found.with_source, found.source.cramers_v) == ([], [], 0)


def test_what_is_found_inside_sources_is_not_said_to_go_with_the_source() -> None:
    """A word of the positives of a, and sources of unlike balance."""
    label = [1] * 50 + [0] * 50 + [1] * 100
    rows = [f"{t} zzz" if i < 40 else t for i, t in enumerate(texts(0))]
    found = search(frame_of(rows, label, ["a"] * 100 + ["b"] * 100), 0, 500)
    assert "zzz" in {w for name in names(found, "term") for w in name.split()}
    assert "zzz" not in {w for s in found.with_source if s.kind == "term" for w in s.name.split()}


def test_one_source_tells_nothing() -> None:
    table = source_and_label(frame_of(texts(0), LABELS.tolist()))
    assert (table.n_sources, table.cramers_v, table.decided) == (1, 0, 0.5)


@pytest.mark.parametrize("seed", range(2))
def test_a_word_is_found_from_the_share_of_positives_that_is_called_detectable(seed: int) -> None:
    """Three positives to a negative: a word needs more rows than the ten that make a candidate."""
    bare, labels = texts(seed), [1] * 150 + [0] * 50
    detectable = search(frame_of(bare, labels), seed, 500).detectable
    assert detectable is not None
    rows = round(detectable * 150)
    assert rows > 15

    def seen(n: int) -> bool:
        # in the place of a word as long, so that no other kind sees it: one more that holds something raises the level
        marked = [re.sub(r" \w{6} ", " zozozo ", t, count=1) if i < n else t for i, t in enumerate(bare)]
        return any("zozozo" in name for name in names(search(frame_of(marked, labels), seed, 500), "term"))

    assert seen(rows + 2)
    assert not seen(rows - 2)


def test_nothing_is_detectable_in_few_rows_or_by_few_permutations() -> None:
    assert search(frame_of(texts(0)[:14], [1, 0] * 7), 0, 500).detectable is None  # 7 positives, and a word needs 10
    assert search(planted(0), 0, n_permutations=5).detectable is None


def test_without_a_word_in_ten_rows_the_only_word_would_have_to_be_beyond_chance_itself() -> None:
    """Ten of 100 positives would be a candidate, but with 20 negatives to 100 positives no evidence."""
    found = search(frame_of(sentences(120, 8), [1] * 100 + [0] * 20), 0, 500)
    assert "term" not in found.found
    assert found.detectable is not None
    assert 0.2 < found.detectable < 0.4


def found_of(p: dict[str, list[float]]) -> set[tuple[str, float]]:
    """Kind and p of what is found where the candidates of every family have these p-values, made by hand."""
    y, has = np.array([1, 0]), sparse.csc_matrix(np.ones((2, 1)))
    families = [
        Candidates(k, [f"{k}{i}" for i in range(len(v))], sparse.hstack([has] * len(v), "csc")) for k, v in p.items()
    ]
    tests = [_Tested(np.ones(len(v)), np.ones(len(v)), np.array(v), np.zeros(1)) for v in p.values()]
    shortcuts, passed = _found(families, tests, y)
    assert {s.kind for s in shortcuts} == {kind for kind, holds in passed.items() if holds}
    return {(s.kind, s.p) for s in shortcuts}


def test_inside_a_family_found_the_level_is_the_share_of_families_found() -> None:
    """Benjamini and Bogomolov (2014): of five families one is found, so that its candidates have .05 * 1 / 5 each."""
    null = {kind: [0.5, 0.9] for kind in ("surface", "characters", "cluster", "source")}
    assert found_of({"term": [0.004, 0.01, 0.011, 0.04]} | null) == {("term", 0.004), ("term", 0.01)}
    # a second one by Benjamini and Hochberg's step, .02 <= .05 * 2 / 5, and .02 is the level of both
    two = {"term": [0.004, 0.01, 0.011, 0.04]} | null | {"source": [0.02, 0.021]}
    assert found_of(two) == {("term", 0.004), ("term", 0.01), ("term", 0.011), ("source", 0.02)}
    assert found_of({"term": [0.011, 0.5]} | null) == set(), "beyond .05, but not beyond .05 / 5"
    assert found_of({"term": [0.05, 0.06]}) == {("term", 0.05)}, "one family alone has the whole level"


def test_the_expected_share_of_families_with_a_false_find_is_kept() -> None:
    """One family of six has something: over the families found, five in 100 may hold a false find, in expectation."""
    rng, kinds = np.random.default_rng(0), ("term", "surface", "characters", "cluster", "source", "latent")
    rates = []
    for _ in range(600):
        # of a family's nulls the smallest family-wise p is uniform, or nearly so
        p = {kind: [min(1.0, float(20 * rng.uniform(size=20).min()))] for kind in kinds}
        found = found_of(p | {"term": [1e-4, *p["term"]]})
        rates.append(len({kind for kind, value in found if value != 1e-4}) / len({kind for kind, _ in found}))
    assert np.mean(rates) < LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 600)
