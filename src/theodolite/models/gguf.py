"""A GGUF file dequantised once into safetensors, so that later starts take under a second instead of twenty."""

import hashlib
import io
import json
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from theodolite.core.atomic import file_sha256, publish
from theodolite.core.errors import UserError
from theodolite.models.hashing import folder_hash
from theodolite.models.quiet import quiet

_MARKER = "complete.json"


@dataclass(frozen=True)
class Dequantised:
    """What the marker file of a converted folder records; written last, so that its presence means completeness."""

    quantisation: str
    weights: str
    files: dict[str, str]


def is_complete(folder: Path) -> bool:
    """Whether a conversion into `folder` has finished."""
    return (folder / _MARKER).is_file()


def read_marker(folder: Path) -> Dequantised:
    """The marker of a converted folder, whose small files are checked; the weights' hash is left to the caller."""
    try:
        marker = Dequantised(**json.loads((folder / _MARKER).read_bytes()))
    except (ValueError, TypeError):
        raise damaged(folder, _MARKER) from None
    for name, expected in marker.files.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise damaged(folder, name)
    return marker


def damaged(folder: Path, name: str) -> UserError:
    """The error for a converted model that is no longer what the marker says."""
    return UserError(f"the cached model file {folder / name} is damaged: delete {folder} and run again to remake it")


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of `gguf` as float32 safetensors with its tokenizer into `folder`, the marker last.

    Every file is published atomically; a conversion that died is simply made again.
    """
    with gguf.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise UserError(f"{gguf} is not a GGUF file")
    quantisation, pre_tokenizer = _header(gguf)
    model, tokenizer = _load(gguf)
    if pre_tokenizer == "smollm":
        _split_digits(tokenizer)
    small = _small_files(model, tokenizer)
    publish(folder / "model.safetensors", save(_weights(model), metadata={"format": "pt"}))
    for name, content in small.items():
        publish(folder / name, content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
    marker = Dequantised(quantisation, folder_hash(folder), files)
    publish(folder / _MARKER, json.dumps(asdict(marker), indent=1).encode())


def _header(gguf: Path) -> tuple[str, str]:
    """How most weights are stored, in words, and the name of the pre-tokenizer."""
    from gguf import GGUFReader

    stored: Counter[str] = Counter()
    try:
        reader = GGUFReader(gguf)
        for tensor in reader.tensors:
            stored[tensor.tensor_type.name] += int(tensor.n_elements)
        most = stored.most_common(1)[0][0]
        field = reader.get_field("tokenizer.ggml.pre")
        pre_tokenizer = str(field.contents()) if field else ""
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{gguf} is not a whole GGUF file: {error}") from None
    return "" if most in {"F32", "F16", "BF16"} else f"dequantised {most}", pre_tokenizer


def _load(gguf: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # this one progress bar has no switch
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
            return model, AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(f"transformers cannot read {gguf}: {str(error).splitlines()[0]}") from error


def _split_digits(tokenizer: Any) -> None:
    """The GGUF names the `smollm` pre-tokenizer, which isolates every digit; transformers leaves that step out.

    It shows where several spaces or newlines stand before a digit: "a  5" would become other tokens than in training.
    """
    from tokenizers.pre_tokenizers import Digits, Sequence

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])


def _small_files(model: Any, tokenizer: Any) -> dict[str, bytes]:
    """Config and tokenizer files; the quantisation entry goes, because the weights beside it are float32."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    with tempfile.TemporaryDirectory() as scratch:
        model.config.save_pretrained(scratch)
        model.generation_config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        return {path.name: path.read_bytes() for path in sorted(Path(scratch).iterdir())}


def _weights(model: Any) -> dict[str, torch.Tensor]:
    """Every parameter once: tied ones under their first name, which is what loading expects."""
    return {name: tensor.detach().contiguous() for name, tensor in model.named_parameters()}
