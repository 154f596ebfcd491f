"""A model's hash and identity are those of what it is now; what they cannot describe is refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import CTRLTokenizer

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models import identity as identities
from theodolite.models.hashing import folder_hash
from theodolite.models.model import Model
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model


def tiny(family: str = "llama") -> Model:
    return Model(tiny_model(family), byte_tokenizer(), name="tiny")


def data_edit(module: Any) -> None:
    module.model.layers[1].mlp.up_proj.weight.data.mul_(0)


def no_grad_edit(module: Any) -> None:
    with torch.no_grad():
        module.model.layers[0].self_attn.q_proj.weight[0, 0] += 1


def loaded(module: Any) -> None:
    module.load_state_dict(tiny_model(seed=1).state_dict())


def replaced_module(module: Any) -> None:
    module.model.layers[2].mlp = copy.deepcopy(module.model.layers[1].mlp)


def replaced_without_weights(module: Any) -> None:
    module.model.layers[0].mlp.act_fn = nn.ReLU().eval()


def buffer(module: Any) -> None:
    module.model.rotary_emb.inv_freq[1] *= 2  # in no file of weights


def attribute(module: Any) -> None:
    module.model.norm.variance_epsilon = 0.1


def signs(module: Any) -> None:
    module.model.embed_tokens.weight.data[:, 1::2].neg_()


EDITS = [data_edit, no_grad_edit, loaded, replaced_module, replaced_without_weights, buffer, attribute, signs]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_in_place_is_another_model(edit: Callable[[Any], None]) -> None:
    model = tiny()
    untouched = copy.deepcopy(model.network.module.state_dict())
    hash, identity = model.hash, model.identity
    edit(model.network.module)
    assert model.hash != hash
    assert model.identity != identity
    if edit in (data_edit, no_grad_edit, loaded, signs):
        model.network.module.load_state_dict(untouched)
        assert (model.hash, model.identity) == (hash, identity)  # also the way back


def test_a_loaded_model_that_was_edited_does_not_keep_the_hash_of_its_folder(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model = Model.from_pretrained(tmp_path)
    assert model.hash == folder_hash(tmp_path)
    data_edit(model.network.module)
    model.network.module.save_pretrained(tmp_path / "edited")
    assert model.hash == folder_hash(tmp_path / "edited")
    rows = model.read(["hi"], ["blocks.1.resid_post", "embed"])
    assert {r.model_hash for r in rows.values()} == {model.hash}


def test_sha256_runs_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = tiny(), []
    true = identities.model_hash
    monkeypatch.setattr(identities, "model_hash", lambda module: calls.append(1) or true(module))
    for _ in range(3):
        assert model.hash
    data_edit(model.network.module)
    for _ in range(3):
        assert model.hash
    assert len(calls) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_has_the_same_identity_wherever_it_lies_and_whatever_was_run(family: str, tmp_path: Path) -> None:
    models = []
    for name in ("one", "two"):
        tiny_model(family).save_pretrained(tmp_path / name)
        byte_tokenizer().save_pretrained(tmp_path / name)
        models.append(Model.from_pretrained(tmp_path / name))
    one, two = models
    one.generate(["hi", "longer"], max_new_tokens=2)
    one.read(["hello"], "blocks.1.resid_post", interventions=[Intervention.skip(0)])
    one.network.module(torch.tensor([[1, 2]]), output_hidden_states=True)  # transformers leaves hooks that observe
    one.tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert one.identity == two.identity
    assert one.fingerprint()["config"] == Model(tiny_model(family), byte_tokenizer()).fingerprint()["config"]


def eager(model: Model) -> None:
    model.network.module.set_attn_implementation("eager")


def rope(model: Model) -> None:
    model.network.module.config.rope_parameters["rope_theta"] = 123.0


def epsilon(model: Model) -> None:
    model.network.module.config.rms_norm_eps = 0.5


def half(model: Model) -> None:
    model.network.module.to(torch.bfloat16)


def more_tokens(model: Model) -> None:
    model.tokenizer.add_tokens(["zebra"])


def other_special(model: Model) -> None:
    model.tokenizer.add_special_tokens({"unk_token": "a"})


def other_template(model: Model) -> None:
    model.tokenizer.chat_template = "{{ messages[0]['content'] }}"


def no_template(model: Model) -> None:
    model.tokenizer.chat_template = None


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (eager, "config"),
        (rope, "config"),
        (epsilon, "config"),
        (half, "dtype"),
        (more_tokens, "tokenizer"),
        (other_special, "tokenizer"),
        (other_template, "template"),
        (no_template, "template"),
    ],
)
def test_what_decides_a_pass_or_the_tokens_is_in_the_identity(change: Callable[[Model], None], part: str) -> None:
    model = tiny()
    identity, parts = model.identity, model.fingerprint()
    change(model)
    assert model.identity != identity
    assert model.fingerprint()[part] != parts[part]
    if part in ("tokenizer", "template"):
        assert model.hash == parts["weights"]


def foreign(module: Any, *args: Any) -> None:
    return None


def train(module: Any) -> None:
    module.model.layers[1].train()


def after(module: Any) -> None:
    module.model.layers[1].mlp.register_forward_hook(foreign)


def before(module: Any) -> None:
    module.register_forward_pre_hook(foreign)


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def parametrized(module: Any) -> None:
    parametrize.register_parametrization(module.model.layers[0].mlp.up_proj, "weight", Twice().eval())


def own_forward(module: Any) -> None:
    module.model.layers[0].mlp.forward = lambda x: x * 0


def own_call(module: Any) -> None:
    true = module.model.layers[0].mlp._call_impl
    module.model.layers[0].mlp._call_impl = lambda x: true(x) * 0


def compiled(module: Any) -> None:
    module.model.layers[0].mlp.compile(backend="eager")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (train, "module 'model.layers.1' is in training mode.* call .eval"),
        (after, r"module 'model.layers.1.mlp' has a forward hook \(.*foreign\)"),
        (before, r"the model has a forward hook \(.*foreign\)"),
        (parametrized, "'model.layers.0.mlp.up_proj' has a parametrization"),
        (own_forward, "'model.layers.0.mlp' has a forward method of its own"),
        (own_call, "'model.layers.0.mlp' has a _call_impl method of its own"),
        (compiled, "'model.layers.0.mlp' is compiled .* without compiling it"),
    ],
)
def test_what_changes_a_pass_beside_the_weights_is_refused(change: Callable[[Any], None], words: str) -> None:
    model = tiny()
    change(model.network.module)
    for ask in (lambda: model.hash, lambda: model.identity, lambda: model.read(["hi"], "embed")):
        with pytest.raises(UserError, match=words):
            ask()


def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(UserError, match="the model is compiled"):
        _ = Model(torch.compile(tiny_model(), backend="eager"), byte_tokenizer()).identity


def test_autocast_is_refused_and_lower_precision_is_another_identity() -> None:
    model = tiny()
    identity = model.identity
    with torch.autocast("cpu", torch.bfloat16):
        for ask in (lambda: model.identity, lambda: model.read(["hi"], "embed")):
            with pytest.raises(UserError, match="autocast is on"):
                ask()
    try:
        torch.set_float32_matmul_precision("medium")
        assert model.fingerprint()["dtype"] == "float32, products in bf16"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert model.identity == identity


def same_block(module: Any, first: int) -> None:
    module.model.layers[2] = module.model.layers[first]


def same_activation(module: Any, first: int) -> None:
    for place in (0, 1):  # as modules without weights may differ
        module.model.layers[place].mlp.act_fn.beta = place
    module.model.layers[2].mlp.act_fn = module.model.layers[first].mlp.act_fn


def same_weights(module: Any, first: int) -> None:
    module.model.layers[2].mlp.up_proj.weight = module.model.layers[first].mlp.up_proj.weight


def transposed_weights(module: Any, first: int) -> None:
    shared = module.model.layers[0].self_attn.q_proj.weight.data
    module.model.layers[1].self_attn.q_proj.weight = nn.Parameter(shared.t() if first else shared)


@pytest.mark.parametrize("share", [same_block, same_activation, same_weights, transposed_weights])
def test_which_of_two_places_a_third_one_shares_is_in_hash_and_identity(share: Callable[[Any, int], None]) -> None:
    hashes, identities = set(), set()
    for first in (0, 1):
        model = tiny()
        share(model.network.module, first)
        fresh = Model(model.network.module, byte_tokenizer(), name="tiny")
        hashes.add(model.hash)
        identities |= {model.identity, fresh.identity}
    assert len(hashes) == 2
    assert len(identities) == 4


def test_a_tokenizer_in_python_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    found = []
    for number, merges in enumerate(["a b</w>", "a b</w>", "b</w> a"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "vocab.json").write_text('{"a": 0, "b</w>": 1, "ab</w>": 2, "<unk>": 3}')
        (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
        found.append(identities.tokenizer_digest(CTRLTokenizer.from_pretrained(folder)))
    assert found[0] == found[1] != found[2]


def test_a_hook_on_all_modules_is_refused() -> None:
    model = tiny()
    handle = nn.modules.module.register_module_forward_hook(foreign)
    try:
        with pytest.raises(UserError, match="global hooks has a forward hook"):
            _ = model.hash
    finally:
        handle.remove()
    assert model.hash


def test_weights_that_are_no_numbers_are_refused_by_name() -> None:
    module = tiny_model()
    module.model.layers[1].mlp.up_proj.weight.data[3, 4] = torch.nan
    with pytest.raises(UserError, match=r"'model.layers.1.mlp.up_proj.weight' hold 1 NaN or infinite"):
        Model(module, byte_tokenizer())
    model = tiny()
    model.network.module.model.norm.weight.data[:2] = torch.inf
    with pytest.raises(UserError, match=r"'model.norm.weight' hold 2 NaN or infinite"):
        _ = model.hash
    big = tiny_model()
    big.model.norm.weight.data[:] = 3e38  # finite, though their sum is not
    assert Model(big, byte_tokenizer()).hash


def test_a_model_says_whether_it_has_a_template_and_what_it_puts_around_a_text() -> None:
    model = tiny()
    assert model.has_template
    assert model.template_around() == ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    model.tokenizer.chat_template = "Today is {{ strftime_now('%Y') }}.{{ messages[0]['content'] | trim }}!"
    before, behind = model.template_around()
    assert before.startswith("Today is 2")
    assert behind == "!"
    model.tokenizer.chat_template = "nothing"
    with pytest.raises(UserError, match="leaves out the user's text"):
        model.template_around()
    model.tokenizer.chat_template = None
    assert not model.has_template
    assert model.template_around() == ("", "")
