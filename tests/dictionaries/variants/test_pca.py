"""PCA by batches is scikit-learn's PCA of all rows."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA

from theodolite.core.errors import UserError
from theodolite.dictionaries.variants.pca import PCA


def rows(n: int = 700, far: float = 50.0) -> torch.Tensor:
    """Eight dimensions of different variance, turned, around a mean that is large beside them."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    x = rng.standard_normal((n, 8)) * [5, 4, 3, 2, 1, 0.5, 0.2, 0.1]
    return torch.tensor(x @ turn + far, dtype=torch.float32)


@pytest.mark.parametrize("sizes", [700, 100, [300, 3, 397]])
def test_components_mean_and_loss_are_those_of_scikit_learn(sizes: int | list[int]) -> None:
    x = rows()
    found = PCA(8, width=3).fit(x.split(sizes)).dictionary()
    expected = SklearnPCA(3).fit(x.double().numpy())
    sign = np.sign((found.W_dec.numpy() * expected.components_).sum(1, keepdims=True))
    np.testing.assert_allclose(found.W_dec * sign, expected.components_, atol=1e-5)
    np.testing.assert_allclose(found.b_dec, expected.mean_, rtol=1e-6)
    np.testing.assert_allclose(found.encode(x) * sign.T, expected.transform(x.double().numpy()), atol=1e-3)
    assert found.fvu(x) == pytest.approx(1 - expected.explained_variance_ratio_.sum(), rel=1e-3)


def test_rows_of_the_start_are_not_counted_twice() -> None:
    x = rows(200)
    fitted = PCA(8, width=3)
    fitted.start(x[:50])
    fitted.fit(x.split(50))
    torch.testing.assert_close(fitted.dictionary().b_dec, x.mean(0))
    assert int(fitted.buffers_["n"]) == 200


def test_all_components_reconstruct_every_row() -> None:
    x = rows(100, far=2.0)
    assert PCA(8, width=8).fit([x]).fvu(x) < 1e-9


def test_more_components_than_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="width=9: there are only 8 components"):
        PCA(8, width=9)
