"""Untrained controls: matched in what they keep, and a known answer for a planted and for a random dictionary."""

import numpy as np
import pytest
import torch
from torch import Tensor

from theodolite.core.bootstrap import bootstrap_weights
from theodolite.core.metrics import auroc
from theodolite.dictionaries.activations import (
    Activation,
    GatedRule,
    JumpReluRule,
    MatchingPursuitRule,
    ReluRule,
    TopKRule,
)
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.opening import self_check
from theodolite.dictionaries.seeded import seeded_rows
from theodolite.dictionaries.untrained import KINDS, untrained_controls
from theodolite.readers.k_sparse import KSparse

D, F = 48, 96
RULES = [
    TopKRule(6),
    JumpReluRule(torch.full((F,), 0.6)),
    ReluRule(),
    GatedRule(torch.ones(F), torch.full((F,), 0.1)),
]


def codes(n: int, seed: int) -> Tensor:
    """Sparse magnitudes of planted features."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(n, F, generator=draw) < 0.05) * (1 + torch.rand(n, F, generator=draw))


FEATURES = seeded_rows(F, D, seed=7)
MEAN = 3 * seeded_rows(1, D, seed=9)[0]  # long, as in language models


def rows(z_nf: Tensor, seed: int) -> Tensor:
    return z_nf @ FEATURES + MEAN + 0.05 * torch.randn(len(z_nf), D, generator=torch.Generator().manual_seed(seed))


def dictionary(directions: Tensor, rule: Activation = RULES[0]) -> Dictionary:
    return Dictionary(directions, torch.full((F,), -0.2), directions.clone(), MEAN.clone(), rule)


X = rows(codes(2000, 1), 2)


def l0(d: Dictionary) -> float:
    return float((d.encode_sparse(X)[1] != 0).sum(1).double().mean())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_control_keeps_width_norms_and_how_many_latents_are_active(rule: Activation) -> None:
    d = dictionary(FEATURES * torch.linspace(0.5, 2, F)[:, None], rule)
    found = untrained_controls(d, X, seed=0)
    assert tuple(found) == KINDS
    for kind, control in found.items():
        assert l0(control) == pytest.approx(l0(d), rel=0.02), kind
        for one, other in ((control.W_enc, d.W_enc), (control.W_dec, d.W_dec)):
            torch.testing.assert_close(one.norm(dim=1), other.norm(dim=1))
        assert control.info["untrained"] == kind
    random, permuted, decoder = found.values()
    assert torch.equal(permuted.W_enc.sort(1).values, d.W_enc.sort(1).values)
    assert not torch.equal(permuted.W_enc.sort(0).values, d.W_enc.sort(0).values)  # whole rows would only be renamed
    assert torch.equal(random.W_dec, d.W_dec)
    assert torch.equal(decoder.encode(X), d.encode(X))
    assert not torch.equal(decoder.W_dec, d.W_dec)
    assert len({d.fingerprint(), *(control.fingerprint() for control in found.values())}) == 4


def test_the_seed_decides_and_nothing_else() -> None:
    d = dictionary(FEATURES)
    torch.manual_seed(1)
    one = {kind: c.fingerprint() for kind, c in untrained_controls(d, X, seed=3).items()}
    torch.manual_seed(2)
    assert {kind: c.fingerprint() for kind, c in untrained_controls(d, X, seed=3).items()} == one
    assert not set(one.values()) & {c.fingerprint() for c in untrained_controls(d, X, seed=4).values()}


def test_a_rule_that_reads_the_decoder_gets_one_control_that_is_both() -> None:
    found = untrained_controls(dictionary(FEATURES, MatchingPursuitRule(3)), X, seed=0)
    assert list(found) == ["random encoder"]
    control = found["random encoder"]
    assert torch.equal(control.W_enc, control.W_dec)


def test_it_is_not_refused_for_the_bad_fit_that_it_is_meant_to_have() -> None:
    for control in untrained_controls(dictionary(FEATURES), X, seed=0).values():
        assert self_check(control, {"blocks.0.resid_post": X}, "blocks.0.resid_post")["fvu"] > 0.3


def difference(d: Dictionary, control: Dictionary, feature: int) -> tuple[float, float]:
    """95 % interval of the AUROC of k_sparse on a dictionary's latents less that on its control's, on new rows."""
    z_train, z_test = codes(1500, 3), codes(1500, 4)
    y_train, y_test = ((z[:, feature] > 0).numpy().astype(int) for z in (z_train, z_test))
    scores = []
    for each in (d, control):
        train, test = (to_csr(*each.encode_sparse(rows(z, 5)), F) for z in (z_train, z_test))
        scores.append(KSparse(k=4).fit(train, y_train).decision_function(test))
    weights = bootstrap_weights(np.arange(len(y_test)), n_boot=400, seed=0)
    one, other = (auroc(y_test, score, weights) for score in scores)
    low, high = np.quantile(np.asarray(one) - np.asarray(other), [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("feature", [5, 40])
def test_a_planted_dictionary_beats_both_encoders(feature: int) -> None:
    d = dictionary(FEATURES)
    found = untrained_controls(d, X, seed=0)
    for kind in KINDS[:2]:
        assert difference(d, found[kind], feature)[0] > 0, kind
    assert difference(d, found["random decoder"], feature) == (0, 0)  # the same latents


def test_a_planted_dictionary_reconstructs_better_than_all_three() -> None:
    d = dictionary(FEATURES)
    for kind, control in untrained_controls(d, X, seed=0).items():
        assert control.fvu(X) > 2 * d.fvu(X), kind


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_random_dictionary_is_equal_to_its_controls(kind: str) -> None:
    """On average over features: each of two random sets of directions is nearer to some of them."""
    d = dictionary(seeded_rows(F, D, seed=11))
    control = untrained_controls(d, X, seed=0)[kind]
    intervals = np.array([difference(d, control, feature) for feature in range(0, F, 8)])
    middle = intervals.mean(1)
    assert abs(middle.mean()) < 2 * middle.std(ddof=1) / len(middle) ** 0.5
    assert (intervals[:, 0] < 0).any()
    assert (intervals[:, 1] > 0).any()
