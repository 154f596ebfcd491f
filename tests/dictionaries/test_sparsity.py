"""The coefficient: its warm-up, and the steering towards an L0."""

import math

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries import sparsity
from theodolite.dictionaries.variants.relu import ReLU


def steered(l0: float, **settings: object) -> float:
    """The factor by which one step with this L0 changes the coefficient."""
    fitted = ReLU(8, width=64, coefficient=0.5, **settings)
    fitted._start_penalty()
    fitted._steer({"l0": torch.tensor(l0)})
    return float(fitted.buffers_["coefficient"]) / 0.5


def test_the_coefficient_follows_l0_by_one_percent_a_step_at_most() -> None:
    assert steered(10.5, target_l0=10) == pytest.approx(1.05 ** (sparsity.RATE / sparsity.FAR))
    assert steered(10.0, target_l0=10) == 1.0
    assert steered(60.0, target_l0=10) == pytest.approx(math.exp(0.01))
    assert steered(0.0, target_l0=10) == pytest.approx(math.exp(-0.01))
    assert steered(60.0) == 1.0


def test_nothing_is_steered_while_the_coefficient_rises() -> None:
    assert steered(60.0, target_l0=10, steps=100, sparsity_warm_up=0.2) == 1.0
    fitted = ReLU(8, width=64, coefficient=0.5, steps=100, sparsity_warm_up=0.2)
    fitted._start_penalty()
    weights = []
    for fitted.step_ in (0, 9, 19, 20, 99):
        weights.append(fitted._weight())
    assert weights == pytest.approx([0.025, 0.25, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"coefficient": 0.0}, "coefficient=0.0"), ({"target_l0": 65}, "target_l0=65"), ({"target_l0": 0}, "target_l0=0")],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ReLU(8, width=64, **settings)
