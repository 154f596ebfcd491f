"""Parts that accelerate keeps off the device: what they hold is seen at every use, and read from where it lies.

The device here is the CPU itself: untested on CUDA.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import nn

from theodolite.core.errors import UserError
from theodolite.models import offload
from theodolite.models.hashing import model_hash
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

FAMILIES = ["llama", "gpt2", "gemma2"]  # untied, tied with other names, tied


def in_memory(module: Any, folder: Path) -> None:
    accelerate.cpu_offload(module, execution_device="cpu")


def on_disk(module: Any, folder: Path) -> None:
    accelerate.disk_offload(module, str(folder), execution_device="cpu")


@pytest.fixture(params=[in_memory, on_disk])
def offloaded(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Any]:
    def make(family: str) -> Any:
        module = tiny_model(family)
        request.param(module, tmp_path)
        assert all(p.is_meta for p in module.parameters())
        return module

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_its_numbers_are_those_of_the_whole_model(family: str, offloaded: Callable[[str], Any]) -> None:
    module, whole = offloaded(family), tiny_model(family)
    expected = dict(whole.named_parameters())
    found = {name: tensor for name, tensor in offload.values(module) if name in expected}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert model_hash(module) == model_hash(whole)
    assert offload.places(module)["offloaded"] > 0
    assert offload.entrance(module) == torch.device("cpu")


def test_one_changed_number_of_any_offloaded_part_is_another_model() -> None:
    module = tiny_model()
    accelerate.cpu_offload(module, execution_device="cpu")
    model = Model(module, byte_tokenizer())
    before = model.hash
    for name, _ in module.named_parameters():
        offload.fetched(module, name).flatten()[-1] += 1
        assert model.hash != before, name
        offload.fetched(module, name).flatten()[-1] -= 1
    whole = Model(tiny_model(), byte_tokenizer())
    assert whole.hash == before


@pytest.mark.parametrize("family", FAMILIES)
def test_one_changed_number_of_any_part_in_memory_is_another_model(family: str) -> None:
    model = Model(tiny_model(family), byte_tokenizer())
    identity = model.identity
    for name, parameter in model.network.module.named_parameters():
        kept = parameter.data.flatten()[-1].clone()
        parameter.data.view(-1)[-1] += 1
        assert model.identity != identity, name
        parameter.data.view(-1)[-1] = kept
    assert model.identity == identity


def test_numbers_that_are_not_finite_are_found_where_they_lie() -> None:
    module = tiny_model()
    module.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    accelerate.cpu_offload(module, execution_device="cpu")
    with pytest.raises(UserError, match=r"weights 'model.layers.1.mlp.up_proj.weight' hold 1 NaN"):
        Model(module, byte_tokenizer())


def test_rows_of_an_offloaded_model_are_those_of_the_whole_one(tmp_path: Path) -> None:
    """The embedding stays on the device, as a device map keeps it there."""
    module = tiny_model()
    for layer in module.model.layers:
        accelerate.cpu_offload(layer, execution_device="cpu")
    model, whole = (Model(each, byte_tokenizer()) for each in (module, tiny_model()))
    for site in whole.sites(inner=True):
        assert torch.equal(*(torch.from_numpy(m.read(["hello", "b"], site)[site].rows) for m in (model, whole))), site
    assert model.identity != ""


def test_an_embedding_without_a_device_says_what_to_do() -> None:
    module = nn.Module()
    module.get_input_embeddings = lambda: nn.Embedding(2, 2, device="meta")  # type: ignore[method-assign, assignment]
    with pytest.raises(UserError, match="keep it on one in device_map="):
        offload.entrance(module)
