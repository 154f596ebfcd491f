"""What a crosscoder must do: tell shared from one-sided latents, choose by both decoders' norms, keep a threshold."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from theodolite.core.errors import UserError
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.training.auxiliary import AuxK
from theodolite.dictionaries.variants import crosscoder
from theodolite.dictionaries.variants.crosscoder import Crosscoder

D, SHARED, ALONE = 20, 12, 8  # numbers per site; latents of both sites, of each site alone
N, F, K = 40, 23, 3


def atoms() -> np.ndarray:
    """Unit rows per site where the latent is at home, 0 where it is not."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((SHARED + 2 * ALONE, 2, D))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    rows[SHARED : SHARED + ALONE, 1] = 0
    rows[SHARED + ALONE :, 0] = 0
    return rows.reshape(-1, 2 * D)


ATOMS = atoms()


def joined(n: int, seed: int) -> torch.Tensor:
    """Sums of 3 of 28 atoms on average; the second site is 20 times as large, and both lie around large means."""
    rng = np.random.default_rng(seed)
    z = (rng.random((n, len(ATOMS))) < 3 / len(ATOMS)) * rng.uniform(1, 2, (n, len(ATOMS)))
    x = z @ ATOMS
    return torch.tensor(np.concatenate([x[:, :D] + 3, 20 * x[:, D:] - 100], axis=1), dtype=torch.float32)


def weights() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    return {"W_enc": draw(F, 8), "b_enc": draw(F) * 0.3, "W_dec": draw(F, 8), "b_dec": draw(8)}


def reference(w: dict[str, torch.Tensor], x: torch.Tensor, dead: torch.Tensor, k_aux: int) -> torch.Tensor:
    """The loss with dense tensors, for autograd; AuxK weighs .5."""
    weight = (w["W_dec"][:, :4].norm(dim=1) + w["W_dec"][:, 4:].norm(dim=1)).detach()
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    score = pre.relu() * weight
    z = pre.relu() * (score >= score.flatten().sort(descending=True).values[K * N - 1])
    x_hat = z @ w["W_dec"] + w["b_dec"]
    loss = (x - x_hat).square().sum() / (x - x.mean(0)).square().sum()
    if len(dead):
        e = (x - x_hat).detach()
        at = (pre * weight)[:, dead].topk(min(k_aux, len(dead)), dim=1).indices
        chosen = torch.zeros_like(pre[:, dead]).scatter(1, at, 1.0)
        e_hat = (pre[:, dead].relu() * chosen) @ w["W_dec"][dead]
        aux = (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()
        loss = loss + 0.5 * min(len(dead) / k_aux, 1) * aux
    return loss


@pytest.mark.parametrize("n_dead", [0, 2, 9])
def test_gradients_are_those_of_autograd(n_dead: int) -> None:
    w, dead = weights(), torch.arange(n_dead)
    x = torch.randn(N, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = w["W_dec"][:, :4].norm(dim=1) + w["W_dec"][:, 4:].norm(dim=1)
    done = crosscoder._step(w, x, weight, K, dead, AuxK(4, 0.5), True)
    tensors = {name: t.clone().requires_grad_() for name, t in w.items()}
    loss = reference(tensors, x, dead, 4)
    for name, expected in zip(w, torch.autograd.grad(loss, list(tensors.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    total = done.losses["fvu"] + 0.5 * min(n_dead / 4, 1) * done.losses["aux"]
    torch.testing.assert_close(total, loss.detach(), rtol=1e-12, atol=0)
    assert float(done.l0) == K
    assert "W_enc" not in crosscoder._step(w, x, weight, K, dead, AuxK(4, 0.5), False).gradients


def test_latents_are_chosen_by_both_decoder_norms() -> None:
    """Pre-activations 3 and 2 with norms 1 + 0 and 1 + 1: weighted 3 and 4, so that the second is kept, as 2."""
    w = {"W_enc": torch.eye(2, 4), "b_enc": torch.zeros(2), "b_dec": torch.zeros(4)}
    w["W_dec"] = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0]])
    found, lowest = crosscoder._kept(torch.tensor([[3.0, 2.0]]), torch.tensor([1.0, 2.0]), 1)
    assert (found.latent.tolist(), found.pre.tolist(), float(lowest)) == ([1], [2.0], 4.0)
    found, lowest = crosscoder._kept(torch.tensor([[-3.0, -2.0]]), torch.tensor([1.0, 2.0]), 1)
    assert (len(found.pre), float(lowest)) == (0, 0.0)


@pytest.fixture(scope="module")
def trained() -> Crosscoder:
    batches = [joined(512, seed) for seed in range(60)]
    fitted = Crosscoder(2 * D, width=40, k=3, lr=1e-2, steps=400, dead_after=5_000)
    return fitted.fit(batches[i % 60] for i in range(400))


def test_shared_and_one_sided_latents_are_told_apart(trained: Crosscoder) -> None:
    cosine = torch.nn.functional.normalize(trained.parameters_["W_dec"], dim=1).numpy()
    cosine = cosine @ (ATOMS / np.linalg.norm(ATOMS, axis=1, keepdims=True)).T
    latent, atom = linear_sum_assignment(-cosine)
    assert cosine[latent, atom].mean() > 0.9
    side = trained.relative_norm().numpy()[latent[atom.argsort()]]
    assert np.abs(side[:SHARED] - 0.5).max() < 0.2
    assert side[SHARED : SHARED + ALONE].max() < 0.2
    assert side[SHARED + ALONE :].min() > 0.8


def test_the_exported_threshold_gives_the_error_and_sparsity_of_training(trained: Crosscoder) -> None:
    x = joined(4096, 99_999)
    dictionary = trained.dictionary()
    x_hat = dictionary.reconstruct(x)
    for part in (slice(0, D), slice(D, 2 * D)):  # raw units of both sites
        y = x[:, part]
        assert (y - x_hat[:, part]).square().sum() < 0.15 * (y - y.mean(0)).square().sum()
    l0 = float((dictionary.encode(x) > 0).sum(1).float().mean())
    assert l0 == pytest.approx(3, rel=0.1)
    assert dictionary.info["scales"][0] == pytest.approx(20 * dictionary.info["scales"][1], rel=0.1)


def test_the_export_is_the_function_of_training() -> None:
    """The same rows, with the batch's own smallest kept score as threshold, give training's loss."""
    x = joined(512, 0)
    fitted = Crosscoder(2 * D, width=40, k=3, lr=1e-2).fit([x] * 5)
    scaled = fitted._scaled(x)
    done = fitted._step(scaled)
    fitted.buffers_["threshold"] = done.losses["lowest_kept"].double() * (1 - 1e-6)
    x_hat = fitted._scaled(fitted.dictionary().reconstruct(x))
    seen = (scaled - x_hat).square().sum() / (scaled - scaled.mean(0)).square().sum()
    assert float(seen) == pytest.approx(float(done.losses["fvu"]), rel=1e-4)


def test_the_threshold_follows_the_smallest_kept_score() -> None:
    fitted = Crosscoder(2 * D, width=40, k=3, lr=1e-3)
    lowest = [float(fitted.partial_fit(joined(64, s))["lowest_kept"]) for s in range(3)]
    expected = lowest[0] + 0.1 * (lowest[1] - lowest[0])
    expected += 0.1 * (lowest[2] - expected)
    assert float(fitted.buffers_["threshold"]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("frozen", ["", "encoder", "decoder", "soft_decoder"])
def test_going_on_from_a_state_is_bit_equal(frozen: str) -> None:
    how = {"width": 40, "k": 3, "lr": 1e-2, "steps": 20, "dead_after": 2000, "frozen": frozen}
    whole = Crosscoder(2 * D, **how).fit(joined(256, s) for s in range(20))
    half = Crosscoder(2 * D, **how).fit(joined(256, s) for s in range(10))
    resumed = Crosscoder(2 * D, **how).load_state({name: t.clone() for name, t in half.state().items()})
    resumed.fit(joined(256, s) for s in range(10, 20))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    start = seeded_rows(40, 2 * D, 0)
    assert torch.equal(whole.parameters_["W_enc"], start) == (frozen == "encoder")
    assert torch.equal(whole.parameters_["W_dec"], start) == (frozen == "decoder")
    info = whole.dictionary().info
    assert (info["frozen"], info["frozen_encoder"]) == (frozen, False)  # factors are folded into the exported encoder
    if frozen == "soft_decoder":
        cosine = torch.nn.functional.cosine_similarity(whole.parameters_["W_dec"], start)
        assert 0.8 - 1e-6 < cosine.min() < 0.99


def test_what_is_no_crosscoder_is_refused() -> None:
    with pytest.raises(UserError, match="d_in=7"):
        Crosscoder(7, width=10, k=2)
    with pytest.raises(UserError, match="k=0"):
        Crosscoder(8, width=10, k=0)
    with pytest.raises(UserError, match="not 8"):
        Crosscoder(2 * D, width=40, k=3).partial_fit(torch.randn(64, 8))
