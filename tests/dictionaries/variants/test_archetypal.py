"""Archetypal dictionaries: gradients, atoms in the hull, and what a shared start does to agreement between seeds."""

import numpy as np
import pytest
import torch
from planted_atoms import D, mixtures
from scipy.optimize import linprog

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.archetypal import Archetypal

ATOMS = 32


def started(**options: object) -> Archetypal:
    fitted = Archetypal(D, width=12, k=3, **options)
    fitted.start(mixtures(300, 0, ATOMS)[0])
    return fitted


@pytest.mark.parametrize("relaxed", [False, True])
def test_gradients_are_those_of_autograd(relaxed: bool) -> None:
    """Dead latents included: their auxiliary loss reaches W, Λ and m too."""
    fitted = started(relaxed=relaxed, points=30, aux=0.5, dead_after=100)
    fitted.unused_for_[:4] = 100
    fitted.parameters_ = {name: t.double() for name, t in fitted.parameters_.items()}
    fitted.buffers_["points"] = fitted.buffers_["points"].double()
    if relaxed:
        fitted.parameters_["relaxation"] += 0.1 * seeded_rows(12, D, 5)
        fitted.parameters_["log_scale"] += 0.3
    x = mixtures(100, 1, ATOMS)[0].double() * fitted.scale_
    w = {name: t.clone().requires_grad_() for name, t in fitted.parameters_.items()}
    atoms = w["mixture"] @ fitted.buffers_["points"]
    if relaxed:
        atoms = (atoms + w["relaxation"]) * w["log_scale"].exp()
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    val, idx = pre.topk(3, dim=1)
    error = x - torch.zeros_like(pre).scatter(1, idx, val.relu()) @ atoms - w["b_dec"]
    loss = error.square().sum() / (x - x.mean(0)).square().sum()
    e, dead = error.detach(), pre[:, :4].relu()
    loss = loss + 0.5 * 4 / 12 * (e - dead @ atoms[:4]).square().sum() / (e - e.mean(0)).square().sum()
    gradients = fitted._step(x).gradients
    assert gradients.keys() == w.keys()
    for name, expected in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        torch.testing.assert_close(gradients[name], expected, rtol=1e-6, atol=1e-9)


def outside(point: np.ndarray, points: np.ndarray) -> bool:
    """No convex combination of the points gives this one."""
    rows = np.vstack([points.T, np.ones(len(points))])
    return linprog(np.zeros(len(points)), A_eq=rows, b_eq=[*point, 1]).status == 2


def test_atoms_lie_in_the_hull_of_the_points() -> None:
    fitted = started(relaxed=False, points=40, lr=4e-2).fit(mixtures(300, s, ATOMS)[0] for s in range(40))
    W, C = fitted.parameters_["mixture"], fitted.buffers_["points"]
    assert (W >= 0).all()
    torch.testing.assert_close(W.sum(1), torch.ones(12))
    found = fitted.dictionary().W_dec.double().numpy()  # on scaled rows, as the points are: TopK keeps the matrices
    weights = W.double() / W.double().sum(1, keepdim=True)
    np.testing.assert_allclose(found, weights @ C.double(), atol=1e-5)
    assert not any(outside(row, C.double().numpy()) for row in weights.numpy() @ C.double().numpy() * (1 - 1e-6))
    assert outside(3 * C[0].double().numpy(), C.double().numpy())
    assert not torch.equal(W, started(relaxed=False, points=40).parameters_["mixture"])


def test_relaxed_atoms_stay_within_delta_of_the_hull() -> None:
    fitted = started(delta=0.2, lr=4e-2).fit(mixtures(300, s, ATOMS)[0] for s in range(40))
    W, C = fitted.parameters_["mixture"], fitted.buffers_["points"]
    apart = (fitted.dictionary().W_dec / fitted.parameters_["log_scale"].exp() - W @ C).norm(dim=1)
    assert apart.max() <= 0.2 + 1e-5
    assert apart.max() > 0.19  # the bound is reached
    assert fitted.parameters_["log_scale"] != 0


def test_points_are_rows_of_the_start_about_its_centre() -> None:
    x = mixtures(300, 0, ATOMS)[0]
    for centred in (True, False):
        fitted = started(centred=centred)
        raw = (fitted.buffers_["points"] + fitted.parameters_["b_dec"]) / fitted.scale_
        assert float((raw[:, None] - x).norm(dim=2).amin(1).max()) < 1e-4
        assert bool(fitted.parameters_["b_dec"].any()) == centred


def test_a_shared_start_makes_seeds_agree_before_the_first_step() -> None:
    """2606.02061: the agreement of two runs at step 0 is 1 by construction, whatever the constraint does."""
    shared = [started(seed=seed, independent_init=False) for seed in (0, 1)]
    assert torch.equal(shared[0].atoms(), shared[1].atoms())
    assert torch.equal(shared[0].atoms(), shared[0].buffers_["points"])
    assert not torch.equal(shared[0].parameters_["W_enc"], shared[1].parameters_["W_enc"])
    own = [started(seed=seed) for seed in (0, 1)]
    assert not torch.equal(own[0].buffers_["points"], own[1].buffers_["points"])
    assert mcc(own[0].atoms().numpy(), own[1].atoms().numpy()) < 0.8
    assert torch.equal(own[0].atoms(), started(seed=0).atoms())
    lengths = own[0].atoms().norm(dim=1) / own[0].buffers_["points"].norm(dim=1).mean()
    assert float(lengths.mean()) > 0.5  # few points are mixed: atoms are not all near the centre


@pytest.mark.parametrize("independent_init", [False, True])
def test_recovers_planted_atoms(independent_init: bool) -> None:
    batches = [mixtures(512, s, ATOMS)[0] for s in range(30)]
    settings = {"width": 48, "k": 3, "lr": 3e-2, "steps": 250, "dead_after": 5_000}
    fitted = Archetypal(D, **settings, independent_init=independent_init)
    fitted.start(torch.cat(batches[:4]))
    fitted.fit(batches[i % 30] for i in range(250))
    x, atoms = mixtures(1000, 999, ATOMS)
    assert mcc(fitted.dictionary().W_dec.numpy(), atoms) > 0.9
    assert fitted.fvu(x) < 0.1


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("frozen", ["", "encoder"])
def test_going_on_from_a_state_is_bit_equal(relaxed: bool, frozen: str) -> None:
    settings = {"width": 12, "k": 3, "relaxed": relaxed, "frozen": frozen, "steps": 20, "dead_after": 600}
    whole = Archetypal(D, **settings).fit(mixtures(128, s, ATOMS)[0] for s in range(20))
    half = Archetypal(D, **settings).fit(mixtures(128, s, ATOMS)[0] for s in range(9))
    stored = {name: t.clone() for name, t in half.state().items()}
    resumed = Archetypal(D, **settings).load_state(stored).fit(mixtures(128, s, ATOMS)[0] for s in range(9, 20))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    assert torch.equal(whole.parameters_["W_enc"], seeded_rows(12, D, 0)) == (frozen == "encoder")


def test_what_cannot_be_started_is_refused() -> None:
    with pytest.raises(UserError, match="frozen='soft_decoder'"):
        Archetypal(D, width=12, k=3, frozen="soft_decoder")
    with pytest.raises(UserError, match="points=5: every latent"):
        started(points=5, independent_init=False)
    with pytest.raises(UserError, match="points=0: give at least 1"):
        started(points=0)
    with pytest.raises(UserError, match="300 rows to start from are less than 400 points"):
        started(points=400)
    with pytest.raises(UserError, match=r"delta=-1"):
        started(delta=-1.0)
