"""What a TopK dictionary must do: find planted atoms, revive the dead, stop at NaN, go on exactly where it stopped."""

import pytest
import torch
from planted_atoms import ATOMS, D, mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.seeded import digest, seeded_rows
from theodolite.dictionaries.training.learner import geometric_median
from theodolite.dictionaries.variants.topk import TopK


def test_recovers_the_atoms_of_a_synthetic_dictionary() -> None:
    fitted = TopK(D, width=ATOMS, k=3, lr=4e-2, steps=300, dead_after=5_000)
    batches = [mixtures(512, seed)[0] for seed in range(60)]
    fitted.fit(batches[i % 60] for i in range(300))
    x, atoms = mixtures(4096, 99_999)
    dictionary = fitted.dictionary()
    assert mcc(dictionary.W_dec.numpy(), atoms) > 0.9
    assert mcc(seeded_rows(ATOMS, D, 1).numpy(), atoms) < 0.6
    assert dictionary.fvu(x) < 0.1


def test_auxk_revives_dead_latents_and_its_absence_does_not() -> None:
    dead, batches = {}, [mixtures(512, seed)[0] for seed in range(20)]
    for aux in (0.0, 1 / 32):
        fitted = TopK(D, width=64, k=3, lr=5e-3, aux=aux, dead_after=1024)
        fitted.start(mixtures(512, 0)[0])
        fitted.parameters_["b_enc"][:32] = -0.5  # half of the latents never come among the first 3
        for i in range(200):
            losses = fitted.partial_fit(batches[i % 20])
        dead[aux] = int(losses["dead"])
    assert dead[0.0] >= 25
    assert dead[1 / 32] <= 12


def test_decoder_rows_keep_norm_one_and_learning_lowers_fvu() -> None:
    x, _ = mixtures(512, 0)
    fitted = TopK(D, width=64, k=3, lr=1e-2)
    first = float(fitted.partial_fit(x)["fvu"])
    last = [float(fitted.partial_fit(x)["fvu"]) for _ in range(100)][-1]
    assert last < 0.6 * first
    torch.testing.assert_close(fitted.parameters_["W_dec"].norm(dim=1), torch.ones(64))


def test_decoder_gradients_have_no_component_along_their_row() -> None:
    x, _ = mixtures(512, 0)
    fitted = TopK(D, width=64, k=3, lr=1e-2)
    fitted.partial_fit(x)
    first_moment = fitted.state()["W_dec.exp_avg"]
    along = (first_moment * seeded_rows(64, D, 0)).sum(1)
    assert first_moment.abs().max() > 1e-6
    assert along.abs().max() < 1e-5 * first_moment.abs().max()


def test_folding_the_input_scale_changes_nothing() -> None:
    """The dictionary on raw rows gives the loss that training saw on scaled rows."""
    x, _ = mixtures(512, 0)
    fitted = TopK(D, width=64, k=3).fit([x] * 5)
    assert fitted.scale_ != pytest.approx(1, abs=0.1)
    seen = float(TopK(D, width=64, k=3).load_state(fitted.state()).partial_fit(x)["fvu"])
    assert fitted.dictionary().fvu(x) == pytest.approx(seen, rel=1e-5)


def test_the_control_keeps_its_seeded_encoder() -> None:
    control = TopK(D, width=64, k=3, seed=7, frozen="encoder", lr=1e-2)
    control.fit(mixtures(512, s)[0] for s in range(20))
    assert torch.equal(control.parameters_["W_enc"], seeded_rows(64, D, 7))
    assert not torch.equal(control.parameters_["W_dec"], seeded_rows(64, D, 7))
    assert control.parameters_["b_enc"].abs().max() > 0


def test_seeded_rows_are_the_same_on_every_machine() -> None:
    assert digest(seeded_rows(4096, 576, 0)) == "3a532d2a9def98933aa2b335d682d501465cedea8abb234c0bc7b7cc6d874818"


@pytest.mark.parametrize("frozen", ["", "encoder", "decoder", "soft_decoder"])
def test_going_on_from_a_state_is_bit_equal(frozen: str) -> None:
    settings = {"width": 64, "k": 3, "lr": 1e-2, "steps": 30, "dead_after": 2000, "frozen": frozen}
    whole = TopK(D, **settings).fit(mixtures(512, s)[0] for s in range(30))
    half = TopK(D, **settings).fit(mixtures(512, s)[0] for s in range(15))
    stored = {name: t.clone() for name, t in half.state().items()}
    resumed = TopK(D, **settings).load_state(stored).fit(mixtures(512, s)[0] for s in range(15, 30))
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name


def test_nan_rows_stop_the_training_and_leave_it_as_it_was() -> None:
    x, _ = mixtures(64, 0)
    fitted = TopK(D, width=64, k=3).fit([x, x])
    before = fitted.dictionary().W_dec
    bad = x.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(UserError, match="step 2: 1 of 64 rows"):
        fitted.partial_fit(bad)
    assert torch.equal(fitted.dictionary().W_dec, before)
    with pytest.raises(UserError, match="step 0: 1 of 64"):
        TopK(D, width=64, k=3).partial_fit(bad)


def test_learning_rate_rises_stays_and_falls_to_nothing() -> None:
    fitted = TopK(D, lr=1.0, steps=100)
    rates = []
    for fitted.step_ in range(101):
        rates.append(fitted.learning_rate())
    assert rates[0] == pytest.approx(0.2)
    assert rates[10] == rates[79] == 1.0
    assert rates[90] == pytest.approx(0.5)
    assert rates[100] == 0.0


def test_geometric_median_ignores_an_outlier() -> None:
    """Of points 0, 0, 0 and 1000 on a line the median is 0, the mean 250."""
    x = torch.tensor([[0.0], [0.0], [0.0], [1000.0]])
    assert abs(float(geometric_median(x, rounds=200))) < 1


def test_rows_of_one_number_revive_one_latent_at_a_time() -> None:
    x = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    fitted = TopK(1, width=4, k=1, dead_after=100).fit([x] * 5)
    assert all(torch.isfinite(t).all() for t in fitted.parameters_.values())
