"""A control as a snippet for nnsight, which reads its vectors from a safetensors file."""

import json
from pathlib import Path

from safetensors.numpy import save

from theodolite.control.exports.transformers_hook import vectors_by_module
from theodolite.core.atomic import publish
from theodolite.core.control_file import ControlFile
from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel

FORMAT = "an nnsight snippet"
# A block gives a tensor, or a tuple whose first item is the states: nnsight shows both as they are.
SNIPPET = '''"""Adds a direction with nnsight: `logits = steered_logits(LanguageModel({name}), "a prompt")`."""
from pathlib import Path

from safetensors.torch import load_file

VECTORS = load_file(Path(__file__).with_suffix(".safetensors"))  # by module, at the strength of the export


def steered_logits(model, prompt, strength=1.0):
    with model.trace(prompt):
        for name, vector in VECTORS.items():
            module = model
            for part in name.split("."):
                module = module[int(part)] if part.isdigit() else getattr(module, part)
            h = module.output[0] if isinstance(module.output, tuple) else module.output
            h[:] = h + strength * vector.to(h)
        logits = model.output.logits.save()
    return logits
'''


def write_snippet(control: ControlFile, strength: float, model: LanguageModel, path: str | Path) -> Path:
    """Write a snippet for a control at a strength: the text at `path` (`.py`), its vectors beside it (`.safetensors`).

    What it can hold is what a transformers hook can.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise UserError(f"{str(path)!r} is no name of a snippet: end it in .py")
    publish(path.with_suffix(".safetensors"), save(vectors_by_module(control, strength, model, FORMAT)))
    publish(path, SNIPPET.replace("{name}", json.dumps(control.made_on.name or "MODEL")).encode())
    return path
