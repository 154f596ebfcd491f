"""LEACE by its theorem: on the rows of the fit class means coincide, and no linear classifier is left."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from theodolite.core.errors import UserError
from theodolite.core.leace import Leace

RANDOM = np.random.default_rng(0)


def _rows(n: int = 400, d: int = 12, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Correlated rows whose classes differ along random directions."""
    labels = np.arange(n) % classes
    mixing, means = RANDOM.normal(size=(d, d)), RANDOM.normal(size=(classes, d)) * 2
    return RANDOM.normal(size=(n, d)) @ mixing + means[labels] + 5, labels


@pytest.mark.parametrize("shrinkage", [True, False])
@pytest.mark.parametrize(("n", "d", "classes"), [(400, 12, 2), (300, 12, 4), (30, 60, 2)])
def test_class_means_coincide_and_a_refitted_classifier_is_at_chance(
    n: int, d: int, classes: int, shrinkage: bool
) -> None:
    rows, labels = _rows(n, d, classes)
    leace = Leace.fit(rows, labels, shrinkage=shrinkage)
    erased = leace(rows)
    means = np.stack([erased[labels == c].mean(0) for c in range(classes)])
    np.testing.assert_allclose(means, np.tile(rows.mean(0), (classes, 1)), atol=2e-4)
    assert len(leace.write_kd) == classes - 1
    before, after = (
        roc_auc_score(labels == 0, LogisticRegression(max_iter=2000).fit(x, labels == 0).decision_function(x))
        for x in (rows - rows.mean(0), erased - rows.mean(0))
    )
    assert before > 0.8
    assert abs(after - 0.5) < 0.05
    p = np.eye(d) - leace.write_kd.T @ leace.read_kd
    np.testing.assert_allclose(p @ p, p, atol=1e-4)  # an oblique projection


def test_it_is_the_authors_formula() -> None:
    """P = I - W^-1 U U^T W with W = Sigma^-1/2 and U the column of W Sigma_xz, by other means than the code's."""
    rows, labels = _rows()
    sigma, difference = np.cov(rows.T, bias=True), rows[labels == 1].mean(0) - rows[labels == 0].mean(0)
    # for two classes U U^T = W m m^T W / (m^T Sigma^-1 m) with m the difference of the class means
    inverse = np.linalg.inv(sigma)
    expected = np.eye(12) - np.outer(difference, inverse @ difference) / (difference @ inverse @ difference)
    leace = Leace.fit(rows, labels, shrinkage=False)
    np.testing.assert_allclose(np.eye(12) - leace.write_kd.T @ leace.read_kd, expected, atol=1e-4)


def test_the_intervention_is_the_eraser() -> None:
    rows, labels = _rows()
    leace = Leace.fit(rows, labels)
    change = leace.intervention("blocks.1.resid_post")
    z = leace.basis.encode(torch.from_numpy(rows.astype(np.float32)))
    mean = leace.basis.encode(torch.from_numpy(leace.mean_d[None]))
    found = torch.from_numpy(rows.astype(np.float32)) + leace.basis.decode(mean - z)
    np.testing.assert_allclose(found.numpy(), leace(rows), atol=1e-3)
    assert type(change).from_json(change.to_json()).to_json() == change.to_json()


def test_what_cannot_be_erased_is_refused() -> None:
    rows, labels = _rows()
    with pytest.raises(UserError, match="two classes or more"):
        Leace.fit(rows, labels * 0)
    with pytest.raises(UserError, match="one label for each row"):
        Leace.fit(rows, labels[:-1])
    with pytest.raises(UserError, match="coincide already"):
        Leace.fit(np.concatenate([rows, rows]), np.repeat([0, 1], len(rows)))
    with pytest.raises(UserError, match="NaN"):
        Leace.fit(np.where(rows > 20, np.nan, rows) * np.nan, labels)
