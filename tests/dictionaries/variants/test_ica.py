"""ICA finds independent sources, reconstructs as PCA does, and samples rows without favour."""

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.variants.ica import ICA
from theodolite.dictionaries.variants.pca import PCA


def mixed(n: int = 4000) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Rows mixed of three heavy-tailed sources, the sources, and the unit rows that mix them."""
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(n, 3)) * [1, 2, 3]
    mixing = rng.standard_normal((3, 5))
    mixing /= np.linalg.norm(mixing, axis=1, keepdims=True)
    return torch.tensor(sources @ mixing + 1, dtype=torch.float32), sources, mixing


def test_recovers_independent_sources_where_pca_does_not() -> None:
    x, sources, mixing = mixed()
    found = ICA(5, width=3).fit(x.split(500)).dictionary()
    z = found.encode(x).numpy()
    correlation = np.abs(np.corrcoef(z.T, sources.T)[:3, 3:])
    assert correlation.max(0).min() > 0.99
    assert mcc(found.W_dec.numpy(), mixing) > 0.99
    assert mcc(PCA(5, width=3).fit([x]).dictionary().W_dec.numpy(), mixing) < 0.9
    torch.testing.assert_close(found.W_dec.norm(dim=1), torch.ones(3))
    assert found.info["converged"]


def test_reconstructs_as_principal_components_do() -> None:
    x = mixed()[0]
    fitted = ICA(5, width=2).fit([x])
    principal = PCA(5, width=2).fit([x]).fvu(x)
    assert 0.01 < principal < 0.9
    assert fitted.fvu(x) == pytest.approx(principal, rel=1e-4)


def test_every_row_so_far_has_the_same_chance_to_be_in_the_reservoir() -> None:
    """Row t holds the number t. Of 2,000 rows 200 stay: about 20 of each tenth of the stream, sd 4."""
    kept = np.zeros(10)
    for seed in range(20):
        stream = torch.arange(2000.0)[:, None].expand(-1, 2) + torch.tensor([[0.0, 0.5]])
        fitted = ICA(2, width=1, reservoir=200, seed=seed).fit(stream.split(130))
        rows = fitted.buffers_["rows"][:, 0] / fitted.scale_
        assert len(rows.round().unique()) == 200
        kept += np.histogram(rows.numpy(), bins=10, range=(0, 2000))[0]
    assert (np.abs(kept / 20 - 20) < 4).all()  # four and a half standard errors


def test_no_convergence_is_told() -> None:
    assert not ICA(5, width=5, iterations=1).fit([mixed(200)[0]]).dictionary().info["converged"]


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(UserError, match="reservoir=3 rows"):
        ICA(5, width=3, reservoir=3)
    with pytest.raises(UserError, match="width=6: there are only 5"):
        ICA(5, width=6)
    with pytest.raises(UserError, match="3 rows do not tell 3"):
        ICA(5, width=3).fit([mixed(3)[0]]).dictionary()
