"""One clipped Adam step: the kernels against torch's Adam, idle rows included."""

import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.dictionaries.training import adam
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.variants.topk import TopK

SHAPES = {"W_dec": (9, 5), "W_skip": (3, 4), "b": (9,), "gain": (), "W_3": (4, 2, 3)}


def drawn(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for name, shape in SHAPES.items()}


def after(steps: int, dtype: torch.dtype, *, clip: float) -> dict[str, torch.Tensor]:
    """Parameters and moments; in float64 these are torch's."""
    w = drawn(0, dtype)
    optimizer = torch.optim.Adam(w.values(), lr=1e-2, betas=(0.8, 0.99), eps=6.25e-10)
    for seed in range(1, steps + 1):
        gradients = drawn(seed, dtype)
        gradients["W_dec"][2:5] = 0.0  # idle: their momentum moves them all the same
        norm, taken = adam.gradient_norm(gradients, {"W_dec": w["W_dec"]})
        adam.step(optimizer, w, gradients, min(1.0, clip / norm), taken)
        adam.normalise_rows(w["W_dec"])
    moments = {f"{name}.{key}": optimizer.state[w[name]][key] for name in w for key in adam.KEYS}
    return w | moments


@pytest.mark.parametrize("clip", [0.1, 1e9])
def test_steps_are_those_of_torch(clip: float) -> None:
    found, expected = after(6, torch.float32, clip=clip), after(6, torch.float64, clip=clip)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=2e-5, atol=1e-7)


def test_the_norm_is_that_of_what_is_followed() -> None:
    w, g = drawn(0, torch.float32), drawn(1, torch.float32)
    norm, _ = adam.gradient_norm(g, {"W_dec": w["W_dec"]})
    left = g | {"W_dec": g["W_dec"] - (g["W_dec"] * w["W_dec"]).sum(1, keepdim=True) * w["W_dec"]}
    assert norm == pytest.approx(float(torch.cat([t.flatten() for t in left.values()]).norm()), rel=1e-6)


def test_an_infinite_gradient_stops_the_training_and_leaves_it_as_it_was() -> None:
    """A finite loss can have one; clipped by an infinite norm it would be NaN in every parameter."""

    class Steep(TopK):
        def _step(self, x_nd: torch.Tensor) -> Step:
            done = super()._step(x_nd)
            if self.step_:
                done.gradients["b_enc"][0] = torch.inf
            return done

    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    fitted = Steep(6, width=12, k=2)
    fitted.partial_fit(x)
    before = {name: t.clone() for name, t in fitted.state().items()}
    with pytest.raises(UserError, match="step 1: the gradients' norm is"):
        fitted.partial_fit(x)
    for name, tensor in fitted.state().items():
        assert torch.equal(tensor, before[name]), name
