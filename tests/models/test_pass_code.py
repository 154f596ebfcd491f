"""A patch of the code that a pass runs, made for a whole class or module, is another model with the same weights."""

import sys
from collections.abc import Callable
from typing import Any

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


@pytest.mark.parametrize(
    "patch", [class_forward, class_method, activation, linear, module_function, attention, functional]
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
