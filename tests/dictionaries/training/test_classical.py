"""Laws that every baseline without gradients must meet, and the sums they share."""

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.training.classical import Classical, principal, remembered
from theodolite.dictionaries.variants.fista import Fista
from theodolite.dictionaries.variants.ica import ICA
from theodolite.dictionaries.variants.kmeans import KMeans
from theodolite.dictionaries.variants.pca import PCA
from theodolite.dictionaries.variants.semi_nmf import SemiNMF

EVERY = {PCA: {}, ICA: {"reservoir": 150, "iterations": 20}, KMeans: {}, SemiNMF: {}, Fista: {"dead_after": 200}}
D, WIDTH = 6, 5


def rows(seed: int, n: int = 64) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, D, generator=g) ** 3 @ mixing + 3


def made(cls: type[Classical]) -> Classical:
    return cls(D, WIDTH, **EVERY[cls])


every = pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)


@every
def test_going_on_from_a_state_is_bit_equal(cls: type[Classical]) -> None:
    whole = made(cls).fit(rows(s) for s in range(9))
    half = made(cls).fit(rows(s) for s in range(5))
    half.dictionary()  # looking at it changes nothing
    stored = {name: t.clone() for name, t in half.state().items()}
    other = made(cls).fit([rows(50)])
    other.dictionary()  # a learner of another past: nothing of it may stay
    resumed = other.load_state(stored)
    assert resumed.dictionary().fingerprint() == half.dictionary().fingerprint()
    resumed.fit(rows(s) for s in range(5, 9))
    assert resumed.state().keys() == whole.state().keys()
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    assert resumed.dictionary().fingerprint() == whole.dictionary().fingerprint()
    assert half.dictionary().fingerprint() != whole.dictionary().fingerprint()


@every
def test_nan_rows_leave_everything_as_it_was(cls: type[Classical]) -> None:
    fitted = made(cls).fit([rows(0), rows(1)])
    before = {name: t.clone() for name, t in fitted.state().items()}
    bad = rows(2)
    bad[3, 1] = torch.nan
    with pytest.raises(UserError, match="step 2: 1 of 64 rows"):
        fitted.partial_fit(bad)
    for name, expected in before.items():
        assert torch.equal(fitted.state()[name], expected), name


@every
def test_options_of_gradient_training_are_refused(cls: type[Classical]) -> None:
    for option in ({"frozen": "encoder"}, {"lr": 0.1}, {"weight_decay": 0.1}):
        with pytest.raises(UserError, match=f"{next(iter(option))}=.*{cls.__name__} follows no gradient"):
            cls(D, WIDTH, **option)


@every
def test_its_own_options_make_the_same_again(cls: type[Classical]) -> None:
    options = made(cls).options()
    assert "lr" not in options
    assert cls(**options).options() == options


@every
def test_the_dictionary_on_raw_rows_gives_the_loss_of_training(cls: type[Classical]) -> None:
    """The loss of a batch is that of what earlier batches taught: here the first, after which all have solved."""
    fitted = made(cls).fit([rows(0)])
    dictionary = fitted.dictionary()
    x = rows(1)
    losses = fitted.partial_fit(x)
    assert dictionary.fvu(x) == pytest.approx(float(losses["fvu"]), rel=1e-4)
    assert float((dictionary.encode(x) != 0).sum(1).float().mean()) == pytest.approx(float(losses["l0"]), abs=0.1)


@every
def test_more_rows_lower_the_loss_or_keep_it(cls: type[Classical]) -> None:
    fitted = made(cls)
    fitted.start(rows(0))
    first = fitted.dictionary().fvu(rows(7, 500))
    last = fitted.fit(rows(s) for s in range(30)).fvu(rows(7, 500))
    assert last < first


def test_what_is_remembered_of_early_batches() -> None:
    """The first leaves nothing but what it has; batch s of t weighs s/t, nearly, until t reaches the batch size."""
    assert remembered(0, 50) == pytest.approx(1 / 51)
    assert remembered(3, 50) == pytest.approx((4 * 50 + 1 - 50) / (4 * 50 + 1))
    weight = 1.0
    for step in range(4, 10):  # of the batch at step 3, seen after ten batches
        weight *= remembered(step, 1000)
    assert weight == pytest.approx(4 / 10, rel=0.01)
    assert remembered(10_000, 50) == pytest.approx((50**2 + 10_001 - 50 + 1 - 50) / (50**2 + 10_001 - 50 + 1))


def test_principal_directions_by_hand() -> None:
    """(1, 1) has variance 3, (1, -1) has 1; the sign makes the largest entry positive."""
    found = principal(torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64), 1)
    torch.testing.assert_close(found, torch.full((1, 2), 0.5**0.5, dtype=torch.float64))
    rows_fd = principal((x := rows(0).double()).T @ x, D)
    assert torch.equal(rows_fd.amax(1), rows_fd.abs().amax(1))
