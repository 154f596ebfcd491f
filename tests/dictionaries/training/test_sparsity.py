"""The coefficient: its warm-up, and the steering towards an L0."""

import math

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.variants.relu import ReLU


def steered(*l0: float, **settings: object) -> float:
    """The factor by which the last of steps with these L0 changes the coefficient."""
    fitted = ReLU(8, width=64, coefficient=0.5, **settings)
    fitted._start_penalty()
    for one in l0:
        before = float(fitted.buffers_["coefficient"])
        fitted._steer({"l0": torch.tensor(one)})
    return float(fitted.buffers_["coefficient"]) / before


def test_the_coefficient_follows_l0_and_where_l0_is_going() -> None:
    assert steered(10.5, target_l0=10) == pytest.approx(1.05 ** (1 / 8))
    assert steered(10.0, target_l0=10) == 1.0
    assert steered(60.0, target_l0=10) == pytest.approx(math.exp(0.3 / 8))
    assert steered(0.0, target_l0=10) == pytest.approx(math.exp(-0.3 / 8))
    assert steered(60.0) == 1.0
    assert steered(10.7, 10.5, target_l0=10) == pytest.approx(1.05 ** (1 / 8) * (10.5 / 10.7) ** 2)
    assert steered(60.0, 10.0, target_l0=10) == pytest.approx(math.exp(-2 * 0.3))


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
