"""Feature spaces put rows where they say: by hand-made views and a reader with known coefficients."""

import numpy as np
import pytest
from scipy import sparse

from theodolite.readers.logistic import Logistic
from theodolite.readers.word_ngrams import WordNgrams
from theodolite.selection import spaces

SITE, BLOCKS = "blocks.1.resid_post", ("blocks.0.resid_post", "blocks.1.resid_post")
RNG = np.random.default_rng(0)
LABEL = np.arange(300) % 2
STATE = {block: RNG.normal(size=(300, 20)) + 2 * LABEL[:, None] * np.eye(20)[at] for at, block in enumerate(BLOCKS)}
LATENTS = sparse.csr_matrix(np.maximum(RNG.normal(size=(300, 30)), 0))
ERROR = RNG.normal(size=(300, 20))


def rows(view: str, site: str):
    return {"state": STATE.get(site), "latents": LATENTS, "error": ERROR}[view]


READER = Logistic().fit(STATE[SITE], LABEL)


def fitted(name: str) -> spaces.FeatureSpace:
    return spaces.fit(name, rows, LABEL, READER, "state", SITE, BLOCKS)


def test_the_state_is_what_it_is_and_serves_both() -> None:
    assert fitted("state").similarity(rows) == pytest.approx(STATE[SITE], rel=1e-6)
    assert fitted("state").distance(rows) is None


def test_repe_is_one_standardised_coordinate_per_block_along_the_planted_axis() -> None:
    near = fitted("repe").similarity(rows)
    assert near.shape == (300, 2)
    assert near.mean(0) == pytest.approx([0, 0], abs=1e-6)
    assert near.std(0) == pytest.approx([1, 1], abs=1e-6)
    for at, block in enumerate(BLOCKS):
        assert np.corrcoef(near[:, at], STATE[block][:, at])[0, 1] > 0.9


def test_pls_keeps_what_goes_with_the_label() -> None:
    near = fitted("pls").similarity(rows)
    assert near.shape == (300, 8)
    assert abs(np.corrcoef(near[:, 0], LABEL)[0, 1]) > 0.65


def test_latents_keep_their_distances_where_no_component_is_left_out() -> None:
    near, X = fitted("latents").similarity(rows), LATENTS.toarray()
    assert np.linalg.norm(near[0] - near[1]) == pytest.approx(np.linalg.norm(X[0] - X[1]), rel=1e-5)


def test_dual_measures_similarity_in_the_readers_input_and_distance_in_the_state() -> None:
    dual = fitted("dual")
    assert dual.similarity(rows).sum(1) + READER.intercept_ == pytest.approx(
        READER.decision_function(STATE[SITE]), abs=1e-4
    )
    assert dual.distance(rows) == pytest.approx(STATE[SITE])
    with_error = fitted("dual+error").distance(rows)
    assert with_error.shape == (300, 21)
    assert with_error[:, 20].var() == pytest.approx(STATE[SITE].var(0).sum(), rel=1e-4)
    assert np.corrcoef(with_error[:, 20], np.linalg.norm(ERROR, axis=1))[0, 1] == pytest.approx(1)


def test_only_spaces_that_can_be_made_are_offered() -> None:
    assert spaces.names(READER, True) == ["state", "pls", "latents", "repe", "dual", "dual+error"]
    assert spaces.names(READER, False) == ["state", "pls", "repe", "dual"]
    assert spaces.names(WordNgrams(), True) == ["state", "pls", "latents", "repe"]
