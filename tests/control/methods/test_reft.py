"""Rank-1 ReFT: the edit is its formula, training raises the likelihood of new positive texts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from theodolite.control.control import Control
from theodolite.control.material import Material
from theodolite.control.method import control_method
from theodolite.control.rank_one import RankOneControl
from theodolite.core.errors import UserError
from theodolite.models.model import Model

SPEC = "reft(steps=24, every=8, rate=0.02)"


@pytest.fixture(scope="module")
def fitted(make_material: Callable[..., Material]) -> tuple[Material, Control]:
    return make_material(), control_method(SPEC).fit(make_material())


def loss(material: Material, control: Control, strength: float, label: int) -> float:
    texts = material.development.of_class(label)
    return material.model.loss(texts, positions="all[1:]", interventions=control.at(strength).interventions).mean_loss


def test_the_edit_is_its_formula_at_every_strength(model: Model) -> None:
    draw = np.random.default_rng(0)
    r, w, b = draw.normal(size=32), draw.normal(size=32).astype(np.float32), 0.7
    r = (r / np.linalg.norm(r)).astype(np.float32)
    control = RankOneControl(model, "reft", "blocks.1.resid_post", r, w, b)
    tokens = model.tokens(["a text", "another one"], format="raw")
    h = model.run(tokens, capture="blocks.1.resid_post")["blocks.1.resid_post"]
    for strength in (1.0, -0.5, 3.0):
        expected = h + strength * (h @ torch.tensor(w) + b - h @ torch.tensor(r)).unsqueeze(2) * torch.tensor(r)
        changed = model.run(tokens, capture="blocks.1.resid_post", interventions=control.at(strength).interventions)
        torch.testing.assert_close(
            changed["blocks.1.resid_post"][tokens.mask], expected[tokens.mask], atol=1e-4, rtol=1e-4
        )
    assert control.at(0.0).interventions == ()
    with pytest.raises(UserError, match="beyond its cap"):
        control.at(11.0)
    with pytest.raises(UserError, match="writes along a vector of length 1"):
        RankOneControl(model, "reft", "blocks.1.resid_post", 2 * r, w, b)


def test_training_raises_the_likelihood_of_positive_texts_that_it_did_not_see(
    fitted: tuple[Material, Control],
) -> None:
    material, control = fitted
    assert loss(material, control, 1.0, label=1) < loss(material, control, 0.0, label=1) - 0.02
    # the other way the edit makes positive texts less likely
    assert loss(material, control, -1.0, label=1) > loss(material, control, 0.0, label=1)


def test_neither_the_order_of_rows_nor_negative_texts_play_a_role(
    fitted: tuple[Material, Control], make_material: Callable[..., Material]
) -> None:
    _, control = fitted
    again = control_method(SPEC).fit(make_material(order=np.random.default_rng(0).permutation(24)))
    np.testing.assert_array_equal(again.read, control.read)
    assert again.bias == control.bias
    other = control_method(SPEC).fit(make_material(seed=1))
    assert np.abs(other.write - control.write).max() > 1e-3


def test_the_model_is_as_it_was_and_the_costs_are_counted(make_material: Callable[..., Material]) -> None:
    material = make_material()
    before = [p.detach().clone() for p in material.model.network.module.parameters()]
    method = control_method("reft(steps=5, every=5, batch=4)")
    method.fit(material)
    assert all(torch.equal(a, b) for a, b in zip(before, material.model.network.module.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in material.model.network.module.parameters())
    assert (method.passes_, method.n_fits_) == (3 * 5 * 4 + 2 * 6, 1)
    assert method.describe()["parameters"] == 2 * 32 + 1


def test_the_best_edit_on_development_texts_is_kept_and_training_stops(
    make_material: Callable[..., Material],
) -> None:
    method = control_method("reft(steps=60, every=1, rate=1e-12, patience=2)")  # so slow that nothing gets better
    control = method.fit(make_material())
    assert method.describe()["steps"] == 2
    assert loss(make_material(), control, 1.0, 1) <= loss(make_material(), control, 0.0, 1) + 0.05
    with pytest.raises(UserError, match="numbers above 0"):
        control_method("reft(steps=0)").fit(make_material())


def test_it_trains_at_a_site_before_every_block_too(make_material: Callable[..., Material]) -> None:
    material = replace(make_material(), site="blocks.0.resid_pre")
    method = control_method("reft(steps=2, every=2)")
    assert method.fit(material).site == material.site
