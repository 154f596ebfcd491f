"""Matching pursuit: gradients through all steps, planted atoms, ties between training and the trained dictionary."""

import pytest
import torch
from planted_atoms import ATOMS, D, mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.variants.matching_pursuit import MatchingPursuit


def test_gradients_are_those_of_autograd_through_all_steps() -> None:
    """Positive atoms, 7 steps: latents are taken twice, and rows whose remainder is negative find no atom."""
    fitted = MatchingPursuit(6, width=20, k=7)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    fitted.start(x)
    fitted.parameters_ = {name: t.double() for name, t in fitted.parameters_.items()}
    fitted.parameters_["W_dec"] = torch.nn.functional.normalize(fitted.parameters_["W_dec"].abs(), dim=1)
    x = x.double()
    w = {name: t.clone().requires_grad_() for name, t in fitted.parameters_.items()}
    left, z = x - w["b_dec"], torch.zeros(40, 20, dtype=torch.float64)
    none_taken = 0
    for _ in range(7):
        val, idx = (left @ w["W_dec"].T).max(1)
        none_taken += int((val <= 0).sum())
        z = z.scatter_add(1, idx[:, None], val.relu()[:, None])
        left = x - w["b_dec"] - z @ w["W_dec"]
    loss = left.square().sum() / (x - x.mean(0)).square().sum()
    done = fitted._step(x)
    assert none_taken > 0
    assert (z > 0).sum(1).double().mean() < 6.5
    torch.testing.assert_close(done.losses["fvu"], loss.detach())
    for name, expected in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-7, atol=1e-10)
    assert float(done.l0) == pytest.approx(float((z > 0).sum() / 40))
    assert torch.equal(done.fired, (z > 0).any(0))


def test_recovers_planted_atoms_and_its_dictionary_gives_the_loss_of_training() -> None:
    fitted = MatchingPursuit(D, width=ATOMS, k=3, lr=4e-2, steps=150)
    batches = [mixtures(512, s)[0] for s in range(30)]
    fitted.fit(batches[i % 30] for i in range(150))
    x, atoms = mixtures(1000, 999)
    found = fitted.dictionary()
    assert mcc(found.W_dec.numpy(), atoms) > 0.9
    torch.testing.assert_close(found.W_dec.norm(dim=1), torch.ones(ATOMS))
    assert found.fvu(x) < 0.1
    assert found.fvu(x) == pytest.approx(float(fitted._step(x * fitted.scale_).losses["fvu"]), rel=1e-4)


@pytest.mark.parametrize("frozen", ["", "decoder", "soft_decoder"])
def test_going_on_from_a_state_is_bit_equal(frozen: str) -> None:
    settings = {"width": 64, "k": 3, "lr": 1e-2, "steps": 20, "frozen": frozen}
    whole = MatchingPursuit(D, **settings).fit(mixtures(128, s)[0] for s in range(20))
    half = MatchingPursuit(D, **settings).fit(mixtures(128, s)[0] for s in range(9))
    stored = {name: t.clone() for name, t in half.state().items()}
    resumed = MatchingPursuit(D, **settings).load_state(stored).fit(mixtures(128, s)[0] for s in range(9, 20))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    cosine = (whole.parameters_["W_dec"] * seeded_rows(64, D, 0)).sum(1)
    assert float(cosine.min()) < 0.99 if not frozen else float(cosine.min()) > 0.79


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="one matrix for both"):
        MatchingPursuit(D, frozen="encoder")
    with pytest.raises(UserError, match="k=0"):
        MatchingPursuit(D, k=0)
