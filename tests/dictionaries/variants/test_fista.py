"""Sparse coding recovers planted atoms; its dictionary step is Mairal's, worked by hand."""

import pytest
import torch
from planted_atoms import D, mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.fista import Fista, minimise_atoms

ATOMS = 32


@pytest.mark.parametrize("positive", [False, True])
def test_recovers_planted_atoms(positive: bool) -> None:
    batches = [mixtures(512, s, ATOMS)[0] for s in range(15)]
    fitted = Fista(D, width=48, lam=0.2, positive=positive, iterations=50)
    fitted.fit(batches[i % 15] for i in range(30))
    x, atoms = mixtures(1000, 999, ATOMS)
    found = fitted.dictionary()
    assert mcc(found.W_dec.numpy(), atoms) > 0.9
    assert mcc(seeded_rows(48, D, 1).numpy(), atoms) < 0.6
    assert bool((found.encode(x) < 0).any()) != positive
    torch.testing.assert_close(found.W_dec.norm(dim=1), torch.ones(48))


def test_each_atom_is_the_best_given_those_already_changed() -> None:
    """Coordinate descent on tr(W'AW)/2 - tr(W'B): no unit row in its place does better, all others as they were."""
    g = torch.Generator().manual_seed(0)
    z, x = torch.randn(40, 4, generator=g).double(), torch.randn(40, 3, generator=g).double()
    zz, zx = z.T @ z, z.T @ x
    W = torch.nn.functional.normalize(torch.randn(4, 3, generator=g).double(), dim=1)
    before = W.clone()
    minimise_atoms(W, zz, zx)
    others = torch.nn.functional.normalize(torch.randn(500, 3, generator=g).double(), dim=1)
    cost = lambda V: (V * (zz @ V)).sum(dim=(-2, -1)) / 2 - (V * zx).sum(dim=(-2, -1))  # noqa: E731
    for latent in range(4):
        V = torch.cat([W[: latent + 1], before[latent + 1 :]])
        tried = V.repeat(500, 1, 1)
        tried[:, latent] = others
        assert (cost(tried) >= cost(V) - 1e-9).all()


def test_an_atom_without_use_becomes_a_row() -> None:
    """The last atom is orthogonal to all rows; after `dead_after` rows it is one of them, and is used at once."""
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.0])
    fitted = Fista(3, width=3, lam=0.3, dead_after=200)
    fitted.start(x)
    fitted.parameters_["b_dec"].zero_()
    fitted.parameters_["W_dec"].copy_(torch.eye(3))
    for _ in range(2):
        fitted.partial_fit(x)
    assert torch.equal(fitted.parameters_["W_dec"][2], torch.eye(3)[2])
    fitted.buffers_["zz"][2, 2] = 1e-3  # as if a much earlier batch had used it
    fitted.partial_fit(x)
    replaced = fitted.parameters_["W_dec"][2]
    assert float((torch.nn.functional.normalize(x, dim=1) @ replaced).max()) > 0.9999
    assert fitted.unused_for_.tolist() == [0, 0, 100]  # it has a time of its own to prove itself
    assert fitted.buffers_["zz"][2].count_nonzero() == fitted.buffers_["zz"][:, 2].count_nonzero() == 0
    fitted.partial_fit(x)
    assert fitted.unused_for_.tolist() == [0, 0, 0]


def test_an_empty_penalty_is_refused() -> None:
    with pytest.raises(UserError, match=r"lam=0.*weight above 0"):
        Fista(D, width=ATOMS, lam=0)
