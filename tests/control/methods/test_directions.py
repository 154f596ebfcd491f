"""Directions: what was planted is found, the direction that reads steers, and formulas agree with their authors'."""

from collections.abc import Callable

import numpy as np
import pytest

from theodolite.control.control import VectorControl
from theodolite.control.material import Material
from theodolite.control.method import control_method
from theodolite.control.methods.leace import Leace
from theodolite.control.methods.pca import Pca, cross_label_pairs
from theodolite.control.methods.reader_direction import ReaderDirection
from theodolite.core.code_hash import closure
from theodolite.core.errors import UserError
from theodolite.models.model import Model
from theodolite.readers.difference_in_means import DifferenceInMeans
from theodolite.readers.lat import Lat
from theodolite.toys.planted_direction import Planted, ordered_pairs_centred, plant


def planted(model: Model, toy: Planted, paired: bool = True) -> Material:
    n = len(toy.positive_pd)
    groups = [*range(n), *range(n)] if paired else [f"g{i}" for i in range(2 * n)]
    texts = [f"text {i}" for i in range(2 * n)]
    return Material(model, "blocks.1.resid_post", texts, toy.labels, groups, toy.rows)


def vector(spec: str, material: Material) -> np.ndarray:
    control = control_method(spec).fit(material)
    assert isinstance(control, VectorControl)
    return control.vector


@pytest.mark.parametrize(("spec", "module"), [("lat", "readers.lat"), ("pca", "control.methods.pca")])
def test_the_code_that_makes_a_control_is_known(spec: str, module: str) -> None:
    """Methods and readers are found by name, which no import shows: what is kept of them would outlive an edit."""
    assert f"theodolite.{module}" in closure(*control_method(spec).made_by()).modules


@pytest.mark.parametrize("spec", ["difference_in_means", "leace", "pca", "lat", "lda", "logistic"])
def test_a_planted_direction_is_found_and_points_to_the_positive_class(spec: str, model: Model) -> None:
    toy = plant(d=96, strength=8.0)
    assert vector(spec, planted(model, toy)) @ toy.direction_d > (0.5 if spec in ("lda", "logistic") else 0.9)


def test_pca_agrees_with_the_simulation_where_the_ordered_centred_recipe_fails(model: Model) -> None:
    """d = 576, 128 pairs: |cos| .25 at strength 1, .95 at 2; ordered and centred differences stay at .03."""
    weak, strong = (plant(strength=s) for s in (1.0, 2.0))
    found = [toy.cosine(vector("pca", planted(model, toy))) for toy in (weak, strong)]
    assert found[0] < 0.5 < 0.9 < found[1]
    assert strong.cosine(ordered_pairs_centred(strong)) < 0.2
    by_hand = np.linalg.svd((strong.positive_pd - strong.negative_pd) / 2, full_matrices=False)[2][0]
    assert abs(by_hand @ vector("pca", planted(model, strong))) > 1 - 1e-6


def test_pairs_stay_in_their_group_and_each_text_is_in_one_pair_at_most(model: Model) -> None:
    toy = plant(pairs=20, d=8)
    rows = planted(model, toy).training
    assert sorted(cross_label_pairs(rows, 3)) == [(i, i + 20) for i in range(20)]
    alone = planted(model, toy, paired=False).training
    pairs = cross_label_pairs(alone, 3)
    assert len({i for pair in pairs for i in pair}) == 40
    assert all(alone.labels[a] == 1 and alone.labels[b] == 0 for a, b in pairs)
    assert pairs != cross_label_pairs(alone, 4)


@pytest.mark.parametrize("pairs", [8, 80])
def test_leace_writes_along_the_formula_of_its_authors_which_is_the_difference_in_means(
    pairs: int, model: Model
) -> None:
    """W = Sigma_xx^(-1/2), U = svd(W Sigma_xz), P = I - W^+ U U^T W; with fewer texts than dimensions, too."""
    toy = plant(pairs=pairs, d=24, strength=2.0)
    x, z = toy.rows.astype(np.float32).astype(np.float64), toy.labels.astype(float)
    centred, z = x - x.mean(0), z - z.mean()
    sigma_xx, sigma_xz = centred.T @ centred / len(x), centred.T @ z[:, None] / len(x)
    values, vectors = np.linalg.eigh(sigma_xx)
    kept = values > values[-1] * len(values) * np.finfo(float).eps
    whitener = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    u = np.linalg.svd(whitener @ sigma_xz, full_matrices=False)[0]
    eraser = np.eye(24) - np.linalg.pinv(whitener) @ u @ u.T @ whitener
    write = vector("leace", planted(model, toy))
    # what the eraser takes from any state is a multiple of the write vector, and it takes all of Sigma_xz
    taken = np.eye(24) - eraser
    np.testing.assert_allclose(taken, np.outer(write, write @ taken), atol=1e-6)
    np.testing.assert_allclose(eraser @ sigma_xz, 0, atol=1e-8)
    means = toy.positive_pd.mean(0) - toy.negative_pd.mean(0)
    np.testing.assert_allclose(write, means / np.linalg.norm(means), atol=1e-6)


def test_the_direction_that_reads_is_the_direction_that_steers(material: Material) -> None:
    rows = material.training
    for spec, reader in (("difference_in_means", DifferenceInMeans()), ("lat", Lat(seed=0)), ("lat(seed=3)", Lat(3))):
        read = reader.fit(rows.rows, rows.labels).direction_
        np.testing.assert_allclose(vector(spec, material), read, atol=1e-6)


def test_a_readers_settings_are_chosen_on_development_rows_alone(make_material: Callable[..., Material]) -> None:
    method = ReaderDirection("logistic")
    method.fit(make_material())
    assert method.n_fits_ == 12
    assert set(method.describe()["settings"]) == {"C"}
    fixed = ReaderDirection("logistic(C=0.1)")
    fixed.fit(make_material())
    assert fixed.n_fits_ == 1
    assert fixed.passes_ == 0
    method.fit(make_material(development=None))
    assert method.n_fits_ == 1
    assert method.describe()["settings"] == {}


def test_strengths_have_the_scale_of_the_class_means(material: Material) -> None:
    rows = material.training
    distance = np.linalg.norm(rows.rows[rows.labels == 1].mean(0) - rows.rows[rows.labels == 0].mean(0))
    for method in (Leace(), Pca(), ReaderDirection("lda")):
        assert method.fit(material).cap == pytest.approx(10 * distance, rel=1e-5)


def test_what_has_no_direction_is_refused(material: Material, model: Model) -> None:
    for spec in ("mlp", "k_sparse", "word_ngrams"):
        with pytest.raises(UserError, match="has no direction in the state"):
            control_method(spec)  # before any model is read
    with pytest.raises(UserError, match=r"did you mean 'latent_set'.*known: (?!.*word_ngrams).*\blda\b"):
        control_method("latentset")
    with pytest.raises(UserError, match="a control has no view"):
        control_method("latent_set@control")
    equal = Material(model, "blocks.1.resid_post", list("abcd"), [0, 0, 1, 1], list("ghij"), np.ones((4, 3)))
    for spec in ("difference_in_means", "leace", "pca"):
        with pytest.raises(UserError, match=r"no direction|equal"):
            control_method(spec).fit(equal)
