"""Digests of a model as it is now: weights, structure, code, configuration, tokenizer and chat template."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as _torch_modules

from theodolite.core.atomic import file_sha256
from theodolite.core.errors import UserError
from theodolite.models import checksum, offload
from theodolite.models.hashing import model_hash, tensor_line
from theodolite.models.pass_code import code_digest

# Values of a configuration that do not decide what the network computes; the compute dtype is taken from the weights
_NO_MATTER = {"_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}
_NO_MATTER |= {"is_local", "local_files_only"}  # of a tokenizer written in Python
# Hooks that may be there: ours, which one run attaches and removes, and those of transformers, which only observe
_KNOWN_HOOKS = ("theodolite.models.hooks", "transformers.")
_PLAIN = (bool, int, float, str, type(None))


class WeightsState:
    """The weights a network holds at each call, which may differ from those that were loaded.

    An edit such as `p.data.mul_()` leaves no trace in torch's version counters, so every call reads all bits (see
    `checksum.sums` for its speed). sha256 runs once for each state of the weights. A part that accelerate has offloaded
    is fetched from where it lies, one tensor at a time.
    """

    def __init__(self, module: nn.Module, hash: str = "") -> None:
        self._module = module
        check_finite(module)
        self._rest = rest_digest(module)
        self._hashes = {self._now(): hash or model_hash(module)}

    def hash(self) -> str:
        """The hash of the weights as they are now; the one given at the start while nothing has changed."""
        check_untouched(self._module)
        now = self._now()
        if now not in self._hashes:
            check_finite(self._module)
            weights, rest = model_hash(self._module), rest_digest(self._module)
            # `model_hash` does not see what a file of weights does not hold: replaced activations, rotary frequencies
            self._hashes[now] = weights if rest == self._rest else _digest([weights, rest])
        return self._hashes[now]

    def _now(self) -> str:
        return checksum.digest(offload.values(self._module), "\n".join(structure(self._module)))


def fingerprint(module: Any, tokenizer: Any, weights: str) -> dict[str, str]:
    """Digests of all that decides a forward pass and the tokens of a text, by name, beside the hash of the weights."""
    return {
        "weights": weights,
        "structure": rest_digest(module),
        "code": code_digest(module),
        "config": config_digest(module.config),
        "dtype": str(module.dtype).removeprefix("torch.") + _lowered(module),
        "tokenizer": tokenizer_digest(tokenizer),
        "template": _digest([json.dumps(getattr(tokenizer, "chat_template", None), sort_keys=True)]),
    }


def identity(parts: dict[str, str]) -> str:
    """One sha256 over the parts of a fingerprint."""
    return _digest([json.dumps(parts, sort_keys=True)])


def check_untouched(module: nn.Module) -> None:
    """Refuse a network whose pass something beside its weights changes: a hook, training mode, a parametrization.

    Results of such a network must not be kept under the name of its weights.
    """
    if any(map(torch.is_autocast_enabled, offload.device_types(module))):
        raise UserError(
            "torch.autocast is on, which computes in another dtype than that of the weights: leave that block, "
            "and load the model with dtype='bfloat16' to compute in it"
        )
    _check_hooks("every module", "torch's list of global hooks", _global_hooks())
    for name, part in module.named_modules():
        where = f"module {name!r}" if name else "the model"
        _check_hooks(where, where, [*part._forward_hooks.values(), *part._forward_pre_hooks.values()])
        if part.training:
            raise UserError(f"{where} is in training mode, in which dropout may act: call .eval() on the model")
        if "parametrizations" in part._modules:
            raise UserError(
                f"{where} has a parametrization, which computes weights at every pass: write them into the weights "
                "with torch.nn.utils.parametrize.remove_parametrizations"
            )
        if vars(part).get("_compiled_call_impl") is not None or "_orig_mod" in part._modules:
            raise UserError(
                f"{where} is compiled (torch.compile), which runs other code than its classes say: "
                "load the model anew and pass it without compiling it"
            )
        for key, value in vars(part).items():
            hooked = key == "forward" and hasattr(part, "_hf_hook")  # accelerate's own only move tensors
            if callable(value) and callable(getattr(type(part), key, None)) and not hooked:
                raise UserError(f"{where} has a {key} method of its own in place of its class's: delete that attribute")


def check_finite(module: nn.Module) -> None:
    """Refuse weights with NaN or infinite numbers, by the name of the tensor."""
    for name, parameter in module.named_parameters():
        if parameter.dtype not in {torch.float16, torch.bfloat16, torch.float32, torch.float64}:
            continue
        tensor = offload.present(module, name, parameter)
        wide = torch.promote_types(tensor.dtype, torch.float32)
        total = tensor.detach().sum(dtype=wide)  # one pass; finite numbers may overflow, so a second look decides
        if not bool(torch.isfinite(total)) and (bad := int((~torch.isfinite(tensor.detach())).sum())):
            raise UserError(
                f"weights {name!r} hold {bad} NaN or infinite numbers of {tensor.numel()}: fetch them again"
            )


def structure(module: nn.Module) -> list[str]:
    """One line per module: its name, class and plain attributes, such as an epsilon or an attention's scale.

    Before them one line for each module or tensor that stands in more than one place, but for a head tied to the
    embedding, which the configuration names.
    """
    lines = _shared(module)
    for name, part in module.named_modules():
        plain = {
            key: value
            for key, value in sorted(vars(part).items())
            if isinstance(value, _PLAIN) and not key.startswith("_") and key not in _NO_MATTER | {"training"}
        }
        kind = type(part)
        lines.append(f"{name} {kind.__module__}.{kind.__qualname__} {part.extra_repr()} {plain}")
    return lines


def _shared(module: Any) -> list[str]:
    """Map from a later place to the earlier one that holds the same tensor: `model_hash` counts only the first."""
    lines = []
    parts: dict[int, str] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if (first := parts.setdefault(id(part), name)) != name:
            lines.append(f"{name} is {first}")
    head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    tied = f"{parts.get(id(head))}.weight"
    places: dict[Any, tuple[str, Any]] = {}
    for name, tensor in module.state_dict().items():
        if name != tied and not tensor.is_meta and tensor.numel():
            first, stride = places.setdefault((tensor.data_ptr(), tensor.shape), (name, tensor.stride()))
            if first != name:
                lines.append(f"{name} is {first}{'' if tensor.stride() == stride else ' transposed'}")
    return lines


def _lowered(module: Any) -> str:
    """The precision of float32 products on the module's device, where it was set lower than float32."""
    backend = torch.backends.cuda if "cuda" in offload.device_types(module) else torch.backends.mkldnn
    asked = {backend.matmul.fp32_precision, getattr(torch.backends, "fp32_precision", "none")} - {"none", "ieee"}
    return "".join(f", products in {precision}" for precision in sorted(asked))


def rest_digest(module: nn.Module) -> str:
    """Digest of what decides the pass and lies in no file of weights: the structure and buffers that are not saved."""
    kept = set(module.state_dict(keep_vars=True))
    constants = sorted((name, tensor) for name, tensor in module.named_buffers() if name not in kept)
    lines = (tensor_line(name, offload.present(module, name, tensor)) for name, tensor in constants)
    return _digest([*structure(module), *lines])


def config_digest(config: Any) -> str:
    """Digest of a configuration without names, paths, versions and the dtype, which is that of the weights."""
    attention = getattr(config, "_attn_implementation", None)  # to_dict leaves it out
    return _digest([json.dumps(_matter(config.to_dict()), sort_keys=True, default=str), str(attention)])


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of all that decides the tokens of a text, the chat template left out.

    Padding and truncation, which stand first in the serialised form, change with every call and are left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python: its vocabulary, what it saves beside it, and what it was made with
        given = {k: v for k, v in tokenizer.init_kwargs.items() if k not in _NO_MATTER and not k.endswith("_file")}
        with TemporaryDirectory() as folder:
            saved = sorted(file_sha256(Path(path)) for path in tokenizer.save_vocabulary(folder))
        serialised = json.dumps([tokenizer.get_vocab(), saved, given], sort_keys=True, default=str)
    else:
        text = backend.to_str()
        serialised = text[text.index('"added_tokens"') :]
    about = {
        "class": type(tokenizer).__qualname__,
        "special": tokenizer.special_tokens_map,
        "split_special_tokens": getattr(tokenizer, "split_special_tokens", False),
        "added": {i: repr(token) for i, token in tokenizer.added_tokens_decoder.items()},
    }
    return _digest([serialised, json.dumps(about, sort_keys=True, default=str)])


def _matter(value: Any) -> Any:
    """A configuration, or one inside it, without what does not matter."""
    if isinstance(value, dict):
        return {str(key): _matter(inner) for key, inner in value.items() if key not in _NO_MATTER}
    return [_matter(inner) for inner in value] if isinstance(value, list | tuple) else value


def _global_hooks() -> list[Any]:
    before, after = _torch_modules._global_forward_pre_hooks, _torch_modules._global_forward_hooks
    return [*before.values(), *after.values()]


def _check_hooks(where: str, named: str, hooks: list[Any]) -> None:
    for hook in hooks:
        home = getattr(hook, "__module__", None) or type(hook).__module__
        if not home.startswith(_KNOWN_HOOKS):
            name = getattr(hook, "__qualname__", type(hook).__qualname__)
            raise UserError(
                f"{named} has a forward hook ({home}.{name}) that may change the states of {where}: remove it; "
                "to change states pass interventions=, which are recorded"
            )


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
