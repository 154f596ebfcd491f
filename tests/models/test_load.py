"""Loading: every way to name a model, every way it can be refused, the GGUF cache and its damage."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from theodolite.core.errors import UserError
from theodolite.models import load as loading
from theodolite.models.hashing import folder_hash
from theodolite.models.load import load

PARAMETERS = 12 * 16 + 2 * (16 * (16 + 8 + 8 + 16) + 3 * 16 * 24 + 2 * 16) + 16


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(11)} | {"<end>": 11}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, "w0")), eos_token="<end>")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_folder_gives_the_model_ready_to_run(saved: Path) -> None:
    loaded = load(saved)
    assert loaded.name == str(saved)
    assert sum(p.numel() for p in loaded.model.parameters()) == PARAMETERS
    assert loaded.quantisation == ""
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id == 11
    assert torch.equal(loaded.model.lm_head.weight, tiny_model().model.embed_tokens.weight)


def test_an_object_is_taken_as_it_is_and_hashes_like_its_folder(saved: Path) -> None:
    model = tiny_model()
    loaded = load(model, tokenizer=tiny_tokenizer())
    assert loaded.model is model
    assert loaded.hash == load(saved).hash == folder_hash(saved)


def test_dtype_is_converted_on_request(saved: Path) -> None:
    assert load(saved, dtype="bfloat16").model.dtype == torch.bfloat16
    assert load(tiny_model(), tokenizer=tiny_tokenizer(), dtype=torch.float16).model.dtype == torch.float16


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (3, {}, "must be a name, a path or a transformers model, not int"),
        ("FOLDER", {"revision": "main"}, "revision='main' applies to Hugging Face ids"),
        ("FOLDER", {"dtype": "float23"}, "unknown dtype 'float23': did you mean 'float"),
        ("FOLDER", {"device": "quantum"}, "device 'quantum' cannot be used here"),
        ("FOLDER", {"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ("nothing.gguf", {}, "no GGUF file 'nothing.gguf'"),
        ("smollm2-135m-instruckt", {}, "did you mean 'smollm2-135m-instruct'"),
        ("a/b/c/d", {}, "is no model, folder or file"),
        ("someone/something", {}, "not in the cache and the network cannot be reached"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_error(saved: Path, name: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(saved if name == "FOLDER" else name, **options)


def test_an_object_needs_its_tokenizer() -> None:
    with pytest.raises(UserError, match="pass tokenizer="):
        load(tiny_model())


def test_weights_that_need_pickle_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lacks config.json or \*.safetensors"):
        load(folder)


def test_code_in_a_model_folder_is_never_run(folder: Path) -> None:
    marker = folder / "was-run"
    (folder / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass M: pass\nclass C: pass\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": auto}))
    with pytest.raises(UserError, match="transformers cannot load model"):
        load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "keep", "words"),
    [
        ("model.safetensors", 100, "damaged or no safetensors"),
        ("config.json", 20, "cannot load"),
        ("tokenizer.json", 9, "tokenizer"),
    ],
)
def test_a_truncated_file_is_one_clear_error(folder: Path, name: str, keep: int, words: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises(UserError, match=words):
        load(folder)


def test_weights_that_do_not_fit_are_refused_before_loading(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.preflight, "available", lambda device: 4 * PARAMETERS)
    with pytest.raises(UserError, match="choose dtype='bfloat16'"):
        load(saved)
    assert load(saved, dtype="bfloat16").model.dtype == torch.bfloat16


def answer(status: int) -> Any:
    """As much of a response as the errors look at."""
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: errors.GatedRepoError("g", response=answer(403)), "'org/m' at revision 'r1' is gated: .* HF_TOKEN"),
        (lambda: errors.RepositoryNotFoundError("n", response=answer(404)), "unknown or private model 'org/m'"),
        (lambda: errors.RevisionNotFoundError("r", response=answer(404)), "model 'org/m' has no revision 'r1'"),
        (lambda: errors.HfHubHTTPError("502 bad", response=answer(502)), "could not be fetched: 502 bad"),
        (lambda: errors.LocalEntryNotFoundError("l"), "network cannot be reached"),
        (lambda: ConnectionError("c"), "network cannot be reached"),
    ],
)
def test_hub_errors_are_sentences(monkeypatch: pytest.MonkeyPatch, error: Any, words: str) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=words):
        load("org/m", revision="r1")


def test_a_hub_id_is_fetched_at_its_revision_without_foreign_formats(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {}

    def fetch(name: str, **options: Any) -> str:
        calls[name] = options
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    loaded = load("org/m", revision="r1", token="secret")
    assert loaded.name == "org/m"
    assert loaded.hash == folder_hash(saved)
    assert calls["org/m"]["revision"] == "r1"
    assert calls["org/m"]["token"] == "secret"
    assert not {"*.bin", "*.py", "*.pt"} & set(calls["org/m"]["allow_patterns"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 10**9}, "^config.json of .* describes 16,0.* numbers, its weights hold"),
        ({"num_hidden_layers": 3000}, "describes 3,000 blocks, its weights hold 2"),
        ({"intermediate_size": 10**9}, "describes .* numbers, its weights hold"),
        ({"hidden_act": "no such"}, "cannot make model .* from its config.json"),
        ({"num_attention_heads": 1e300}, "cannot load model .*num_attention_heads"),
        ({"rms_norm_eps": "1e-5"}, "transformers cannot load model .*rms_norm_eps"),
        ({"max_position_embeddings": 0}, "has max_position_embeddings 0: it must be a whole number from 1 on"),
        ({"max_position_embeddings": -1}, "has max_position_embeddings -1"),
        ({"vocab_size": 0}, "has vocab_size 0"),
        ({"attn_implementation": "owner/kernel"}, "attn_implementation to 'owner/kernel', which is code"),
        ({"_attn_implementation": {"text_config": "paged|owner/kernel:run"}}, "_attn_implementation to"),
        ({"text_config": {"_attn_implementation": "owner/kernel"}}, "_attn_implementation to 'owner/kernel'"),
    ],
)
def test_a_configuration_that_no_model_of_these_weights_has_is_refused_before_it_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(loading, "_read_model", lambda *args: pytest.fail("memory is taken for the weights"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=words):
        load(folder)


def test_an_attention_of_transformers_own_may_be_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_attn_implementation": "eager"}))
    assert load(folder).model.config.vocab_size == 12


def test_an_error_without_words_is_called_by_its_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> None:
        raise ValueError

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", fails)
    with pytest.raises(UserError, match=r"no usable tokenizer: ValueError\(\)"):
        load(saved)
