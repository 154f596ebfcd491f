"""Semi-NMF finds planted nonnegative codes over a signed dictionary, and lowers its objective at every step."""

import numpy as np
import pytest
import torch
from planted_atoms import D, unit_rows

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.variants.semi_nmf import SemiNMF

ATOMS = 6


def planted(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Rows, codes and atoms; a fifth of the latents of a row, so that some rows show one atom alone."""
    atoms = unit_rows(ATOMS, D)
    rng = np.random.default_rng(seed)
    z = (rng.random((n, ATOMS)) < 0.2) * rng.uniform(0.5, 2, (n, ATOMS))
    return torch.tensor(z @ atoms, dtype=torch.float32), z, atoms


def fitted(seed: int = 0) -> SemiNMF:
    batches = [planted(512, s)[0] for s in range(10)]
    learner = SemiNMF(D, width=ATOMS, seed=seed)
    learner.start(torch.cat(batches[:4]))
    return learner.fit(batches[i % 10] for i in range(40))


@pytest.mark.parametrize("seed", [0, 1, 14])  # one start of k-means would miss an atom at 14
def test_recovers_planted_codes(seed: int) -> None:
    x, z, atoms = planted(1000, 999)
    found = fitted(seed).dictionary()
    assert mcc(found.W_dec.numpy(), atoms) > 0.9
    codes = found.encode(x).numpy()
    assert codes.min() >= 0
    correlation = np.corrcoef(codes.T, z.T)[:ATOMS, ATOMS:]
    assert correlation.max(0).min() > 0.9
    assert found.fvu(x) < 0.01


def test_the_dictionary_step_is_least_squares() -> None:
    """After one batch alone D is the minimum for the codes of that batch, up to the norms that went into the codes."""
    x = planted(300, 0)[0]
    learner = SemiNMF(D, width=ATOMS)
    learner.start(x)
    W = learner.parameters_["W_dec"].clone()
    scaled = x * learner.scale_
    z = learner._rule()(scaled @ W.T, W).double()
    learner.partial_fit(x)
    expected = torch.linalg.lstsq(z, scaled.double()).solution
    torch.testing.assert_close(
        learner.parameters_["W_dec"], torch.nn.functional.normalize(expected, dim=1).float(), atol=1e-5, rtol=0
    )
    norm = expected.norm(dim=1)
    torch.testing.assert_close(learner.buffers_["zz"], (z * norm).T @ (z * norm), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(learner.buffers_["zx"], (z * norm).T @ scaled.double(), rtol=1e-4, atol=1e-4)


def test_a_latent_without_a_code_keeps_its_row() -> None:
    """No row has anything along the third direction, so its latent is 0 and least squares says nothing about it."""
    x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.0])
    learner = SemiNMF(3, width=3)
    learner.start(x)
    learner.parameters_["W_dec"].copy_(torch.eye(3)[[2, 0, 1]])
    learner.partial_fit(x)
    torch.testing.assert_close(learner.parameters_["W_dec"], torch.eye(3)[[2, 0, 1]])
    assert learner.buffers_["zz"][0].count_nonzero() == 0


def test_fewer_rows_than_clusters_are_refused() -> None:
    with pytest.raises(UserError, match="3 rows to start from are less than 6"):
        SemiNMF(D, width=ATOMS).partial_fit(planted(3, 0)[0])
    with pytest.raises(UserError, match="iterations=0"):
        SemiNMF(D, width=ATOMS, iterations=0)
