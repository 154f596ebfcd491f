"""A patch of the code that a pass runs, made for a whole class or module, is another model with the same weights."""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.activations import SiLUActivation
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from theodolite.models.model import Model
from theodolite.models.pass_code import code_digest
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

Patch = Callable[[pytest.MonkeyPatch], None]


def scaled(function: Callable[..., Any], by: float) -> Callable[..., Any]:
    return lambda *args, **options: function(*args, **options) * by


def class_forward(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modeling_llama.LlamaMLP, "forward", lambda self, x: x * 0)


def class_method(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modeling_llama.LlamaRMSNorm, "forward", scaled(modeling_llama.LlamaRMSNorm.forward, 2.0))


def activation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SiLUActivation, "forward", lambda self, x: x.relu())


def linear(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nn.Linear, "forward", lambda self, x: x @ self.weight.T * 2)


def module_function(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin: (q, k))


def attention(patch: pytest.MonkeyPatch) -> None:
    true = ALL_ATTENTION_FUNCTIONS["sdpa"]
    patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", lambda *a, **o: (true(*a, **o)[0] * 3, None))


def functional(patch: pytest.MonkeyPatch) -> None:
    true = nn.functional.scaled_dot_product_attention
    patch.setattr(nn.functional, "scaled_dot_product_attention", lambda *a, **o: true(*a, **o) * 3)


def torch_function(patch: pytest.MonkeyPatch) -> None:
    true = torch.rsqrt
    patch.setattr(torch, "rsqrt", lambda x: true(x) * 2)


def tensor_method(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.Tensor, "pow", lambda self, exponent: self * self * 2)


@pytest.mark.parametrize(
    "patch",
    [
        class_forward,
        class_method,
        activation,
        linear,
        module_function,
        attention,
        functional,
        torch_function,
        tensor_method,
    ],
)
def test_a_patched_class_or_function_is_another_identity_until_it_is_undone(patch: Patch) -> None:
    model = Model(tiny_model(), byte_tokenizer(), name="tiny")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before, hash, identity = model.network.module(ids).logits, model.hash, model.identity
        with pytest.MonkeyPatch.context() as monkeypatch:
            patch(monkeypatch)
            assert not torch.equal(model.network.module(ids).logits, before)
            assert model.identity != identity
            assert model.hash == hash  # dictionaries name it
    assert model.identity == identity


def test_what_a_patch_closes_over_or_calls_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, true = Model(tiny_model(), byte_tokenizer(), name="tiny"), modeling_llama.LlamaMLP.forward
    found = set()
    for by in (2.0, 3.0):
        monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", scaled(true, by))
        found.add(model.fingerprint()["code"])
    for inner in (scaled(true, 2.0), scaled(scaled(true, 2.0), 1.0)):
        monkeypatch.setitem(globals(), "called", inner)
        monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", lambda self, x: called(self, x))  # noqa: F821
        found.add(model.fingerprint()["code"])
    assert len(found) == 4


TRUE, SDPA = modeling_llama.LlamaMLP.forward, ALL_ATTENTION_FUNCTIONS["sdpa"]


class Scaler(nn.Module):
    """A user's own object that scales the attention."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by
        self.register_buffer("vector", torch.full((8,), by))

    def __call__(self, *args: Any, **options: Any) -> Any:
        return SDPA(*args, **options)[0] * self.by, None

    def method(self, *args: Any, **options: Any) -> Any:
        return SDPA(*args, **options)[0] * self.vector, None


@dataclass(slots=True)
class Settings:
    """What a user's own code may be set by."""

    by: Any


def wrapped(by: float) -> Any:
    @functools.wraps(TRUE)
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return TRUE(self, x) * by

    return forward


def with_default(by: float) -> Any:
    def forward(self: Any, x: torch.Tensor, vector: torch.Tensor = torch.full((32,), by)) -> torch.Tensor:  # noqa: B008
        return TRUE(self, x) + vector

    return forward


def on_the_class(by: float) -> Any:
    return lambda self, x: TRUE(self, x) * self.by


def holding(value: Any) -> Any:
    """A patch that a value stands in the closure of."""
    return lambda self, x: TRUE(self, x) * (value.by if isinstance(value, Settings) else value["by"])


def part_of_attention(by: float, *args: Any, **options: Any) -> Any:
    return SDPA(*args, **options)[0] * by, None


PATCHES: dict[str, Callable[[float], Any]] = {
    "a patch with the name of what it replaces": wrapped,
    "tensor in a default": with_default,
    "attribute of the class": on_the_class,
    "number in a dict": lambda by: holding({"by": by}),
    "tensor in a dict": lambda by: holding({"by": torch.tensor(by)}),
    "array in a slot": lambda by: holding(Settings(np.float32([by]).repeat(32))),
    "function in a dict": lambda by: (lambda called: lambda self, x: called["f"](self, x))({"f": wrapped(by)}),
    "argument of a partial": lambda by: functools.partial(part_of_attention, by),
    "callable object": Scaler,
    "bound method": lambda by: Scaler(by).method,
}


@pytest.mark.parametrize("make", PATCHES.values(), ids=PATCHES)
def test_the_values_that_a_patch_uses_are_part_of_it(make: Callable[[float], Any]) -> None:
    model, ids = Model(tiny_model(), byte_tokenizer(), name="tiny"), torch.tensor([[5, 6, 7]])
    found, logits = [], []
    for by in (2.0, 3.0, 3.0):
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            made = make(by)
            if make is on_the_class:
                patch.setattr(modeling_llama.LlamaMLP, "by", by, raising=False)
            if isinstance(made, type(wrapped)):
                patch.setattr(modeling_llama.LlamaMLP, "forward", made)
            else:
                patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", made)
            found.append(model.identity)
            logits.append(model.network.module(ids).logits)
    assert not torch.equal(logits[0], logits[1])
    assert found[0] != found[1]
    assert found[1] == found[2]  # made anew, it is the same


def private(part: Any) -> None:
    part._disable_adapters = True


def tensor(part: Any) -> None:
    part.vector = torch.ones(3)


def container(part: Any) -> None:
    part.scaling = {"default": 2.0}


@pytest.mark.parametrize("change", [private, tensor, container])
def test_what_a_module_holds_beside_numbers_and_weights_is_in_the_identity(change: Callable[[Any], None]) -> None:
    """As a LoRA layer holds its scaling, and whether it is on."""
    model = Model(tiny_model(), byte_tokenizer(), name="tiny")
    before = model.identity
    change(model.network.module.model.layers[1].mlp)
    assert model.identity != before


def test_a_module_of_a_class_whose_file_is_not_imported_has_an_identity() -> None:
    lone = type("Lone", (nn.Module,), {"__module__": "no_such_module", "forward": lambda self, x: x.relu()})
    module = tiny_model()
    module.model.layers[0].mlp.act_fn = lone().eval()
    assert Model(module, byte_tokenizer()).identity


@pytest.mark.parametrize("family", FAMILIES)
def test_running_a_model_does_not_change_its_code(family: str) -> None:
    model = Model(tiny_model(family), byte_tokenizer(), name="tiny")
    before = model.fingerprint()["code"]
    model.generate(["hi", "longer"], max_new_tokens=2)
    model.network.module(torch.tensor([[1, 2]]), output_hidden_states=True)
    assert Model(tiny_model(family, seed=1), byte_tokenizer()).fingerprint()["code"] == before


def test_requests_logins_and_settings_of_the_library_that_fetches_files_are_no_part_of_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With HF_HUB_OFFLINE=1, or after a first request, `read` refused the very model that its run had read."""
    module = tiny_model()
    before = code_digest(module)
    for name, part in list(sys.modules.items()):
        if name.partition(".")[0] == "huggingface_hub":
            for key in [key for key, value in vars(part).items() if value is None or isinstance(value, bool)]:
                monkeypatch.setitem(vars(part), key, object())
    assert code_digest(module) == before
