"""K-means finds the centroids of separated blobs that scikit-learn finds, and its latent names the nearest."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans

from theodolite.core.errors import UserError
from theodolite.dictionaries.variants.kmeans import KMeans


def blobs(n: int = 600, seed: int = 0) -> torch.Tensor:
    centres = 10 * np.random.default_rng(7).standard_normal((6, 4))
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(0, 6, n)] + 0.3 * rng.standard_normal((n, 4))
    return torch.tensor(x, dtype=torch.float32)


def test_centroids_are_those_of_scikit_learn() -> None:
    x = blobs()
    fitted = KMeans(4, width=6)
    fitted.start(x)
    found = fitted.fit(x.split(100)).dictionary()
    expected = SklearnKMeans(6, n_init=10, random_state=0).fit(x.numpy())
    centroids = (found.W_dec + found.b_dec).numpy()
    order, theirs = np.lexsort(centroids.T), np.lexsort(expected.cluster_centers_.T)
    np.testing.assert_allclose(centroids[order], expected.cluster_centers_[theirs], atol=1e-4)


def test_the_latent_is_one_for_the_nearest_centroid() -> None:
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)) * 3 + 20
    found = KMeans(4, width=9).fit([x]).dictionary()
    nearest = torch.cdist(x, found.decode(torch.eye(9))).argmin(1)
    assert torch.equal(found.encode(x), torch.nn.functional.one_hot(nearest, 9).float())


def test_a_centroid_is_the_mean_of_all_rows_that_chose_it() -> None:
    """By hand, in the scale of the rows: two batches of 2 and 1 rows for the left one."""
    fitted = KMeans(1, width=2)
    fitted.start(torch.tensor([[0.0], [10.0]]))
    fitted.partial_fit(torch.tensor([[0.0], [2.0], [10.0]]))
    fitted.partial_fit(torch.tensor([[4.0], [10.0]]))
    assert sorted(fitted.decode(torch.eye(2)).flatten().tolist()) == pytest.approx([2.0, 10.0])
    assert sorted(fitted.buffers_["counts"].tolist()) == [2, 3]


def test_fewer_rows_than_clusters_are_refused() -> None:
    with pytest.raises(UserError, match="5 rows to start from are less than 6 clusters"):
        KMeans(4, width=6).partial_fit(blobs(5))
