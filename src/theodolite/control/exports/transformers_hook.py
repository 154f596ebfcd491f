"""A control as a plain forward hook: a Python file of 15 lines that needs torch, safetensors and no theodolite."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save

from theodolite.control.exports.added import added_vectors
from theodolite.core.atomic import publish
from theodolite.core.control_file import ControlFile
from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel

FORMAT = "a transformers hook"
# The vectors are keyed by the module behind which they are added, so that the text is the same for every control.
HOOK = '''"""Adds a direction to a transformers model: `handles = steer(model)`; remove them to end it."""
from pathlib import Path

from safetensors.torch import load_file

VECTORS = load_file(Path(__file__).with_suffix(".safetensors"))  # by module, at the strength of the export

def adding(vector):
    def hook(module, inputs, output):
        h = output[0] if isinstance(output, tuple) else output
        new = (h.float() + vector.to(h.device)).to(h.dtype)
        return (new, *output[1:]) if isinstance(output, tuple) else new
    return hook

def steer(model, strength=1.0):
    return [model.get_submodule(name).register_forward_hook(adding(strength * v)) for name, v in VECTORS.items()]
'''


def write_hook(control: ControlFile, strength: float, model: LanguageModel, path: str | Path) -> Path:
    """Write a hook for a control at a strength: the text at `path` (`.py`), its vectors beside it (`.safetensors`).

    Only what adds a vector at all tokens, behind a module of the model, can be written; anything else is an error that
    names it.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise UserError(f"{str(path)!r} is no name of a hook: end it in .py")
    publish(path.with_suffix(".safetensors"), save(vectors_by_module(control, strength, model, FORMAT)))
    publish(path, HOOK.encode())
    return path


def vectors_by_module(
    control: ControlFile, strength: float, model: LanguageModel, format: str
) -> dict[str, np.ndarray]:
    """Return the vectors of a control by the path of the module whose output they are added to."""
    control.check(model)
    found: dict[str, np.ndarray] = {}
    for site, vector in added_vectors(control, strength, format).items():
        module, side = model.network.family.locate(site)
        if side != "output" or model.network.columns(site) is not None:
            raise UserError(f"{format} cannot act at {str(site)!r}, which is no module's output: use resid_post")
        found[module] = np.ascontiguousarray(vector, np.float32)
    return found
