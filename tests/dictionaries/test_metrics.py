"""FVU, its interval and cross-entropy recovered, against values worked by hand or simulated."""

import numpy as np
import pytest
import torch

from theodolite.dictionaries.activations import ReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.metrics import ce_recovered, quality


def keeps_first_coordinate() -> Dictionary:
    return Dictionary(
        torch.tensor([[1.0, 0.0]]), torch.zeros(1), torch.tensor([[1.0, 0.0]]), torch.zeros(2), TopKRule(1)
    )


def test_fvu_by_hand() -> None:
    """Rows (1, 1), (3, 2), (5, 6): errors 1, 4, 36 sum to 41; variance about the mean (3, 3) is 8 + 14 = 22."""
    x = torch.tensor([[1.0, 1.0], [3.0, 2.0], [5.0, 6.0]])
    q = quality(keeps_first_coordinate(), x, torch.tensor([4, 4, 9]), chunk=2)
    assert q["fvu"]["value"] == pytest.approx(41 / 22)
    assert (q["l0"], q["n"], q["n_groups"]) == (1.0, 3, 2)


def test_perfect_dictionary_and_the_mean() -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) + 3
    documents = torch.arange(50)
    exact = Dictionary(torch.eye(2), torch.zeros(2), torch.eye(2), torch.full((2,), -9.0), ReluRule())
    assert quality(exact, x, documents)["fvu"]["value"] < 1e-10
    silent = Dictionary(torch.eye(2), torch.full((2,), -99.0), torch.eye(2), x.mean(0), ReluRule())
    assert quality(silent, x, documents)["fvu"]["value"] == pytest.approx(1, abs=1e-6)
    assert quality(silent, x, documents)["l0"] == 0


def test_equal_rows_have_no_fvu() -> None:
    assert quality(keeps_first_coordinate(), torch.ones(4, 2), torch.arange(4))["fvu"] is None


def test_interval_covers_the_population_value_and_grows_with_document_size() -> None:
    """Rows of one document share an error size: 20 documents of 50 rows say less than 1,000 single rows do."""
    rng = np.random.default_rng(0)
    covered, widths = 0, {True: [], False: []}
    for _ in range(100):
        size = np.exp(rng.normal(size=20))
        x = torch.tensor(np.c_[rng.normal(size=1000), rng.normal(size=1000) * np.repeat(size, 50)], dtype=torch.float32)
        clustered = quality(keeps_first_coordinate(), x, torch.arange(20).repeat_interleave(50), n_boot=200)["fvu"]
        single = quality(keeps_first_coordinate(), x, torch.arange(1000), n_boot=200)["fvu"]
        covered += clustered["lo"] <= np.e**2 / (1 + np.e**2) <= clustered["hi"]
        widths[True].append(clustered["hi"] - clustered["lo"])
        widths[False].append(single["hi"] - single["lo"])
    assert 70 <= covered <= 99  # 20 heavy-tailed documents: the bootstrap runs short, as it must be allowed to
    assert np.median(widths[True]) > 2 * np.median(widths[False])


def test_cross_entropy_recovered() -> None:
    """Two texts of one token; a loss of 3 minus half the norm of what it is given: untouched 2, zeroed 3, then 2.25."""
    x = torch.tensor([[1.5, 0.0], [0.0, 2.5]])

    def ce(replace) -> np.ndarray:
        nats = 3 - (x if replace is None else replace(x)).norm(dim=1) / 2
        return np.stack([nats.numpy(), np.ones(2)], axis=1)

    weights = torch.eye(2), torch.zeros(2), torch.diag(torch.tensor([1.0, 0.6])), torch.zeros(2)
    got = ce_recovered(ce, Dictionary(*weights, ReluRule()), n_boot=20_000)
    assert got["untouched"] == pytest.approx(2)
    assert got["zeroed"] == pytest.approx(3)
    assert (got["recovered"], got["lost"]) == (pytest.approx(0.75), pytest.approx(0.25))
    assert (got["n"], got["n_groups"]) == (2, 2)
    # w of the weight is on the first text, uniform for two: zeroed - untouched 1.25 - 0.5 w, lost 0.5 (1 - w)
    w = np.array([0.025, 0.975])
    lost, recovered = 0.5 * (1 - w), 1 - 0.5 * (1 - w) / (1.25 - 0.5 * w)
    assert (got["recovered_lo"], got["recovered_hi"]) == pytest.approx(tuple(recovered), abs=0.005)
    assert (got["lost_hi"], got["lost_lo"]) == pytest.approx(tuple(lost), abs=0.005)
