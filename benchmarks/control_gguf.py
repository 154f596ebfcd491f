"""A GGUF control vector of ours in llama.cpp: do the log-odds of the targets move as they do here?

Needs llama-cpp-python, which compiles llama.cpp, and the GGUF file of a model whose graph has control vectors (Llama):

    pip install llama-cpp-python
    python benchmarks/control_gguf.py MODEL.gguf CONTROL.safetensors --strength 4 --targets " happy" " sad"

For each opening it prints the change in log p(first target) - log p(second target) here and there, and in the end the
share with equal sign and the correlation. Without llama-cpp-python it says so and ends.
"""

import argparse
import ctypes
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from theodolite.control.exports.gguf import write_gguf
from theodolite.control.imports.control_vector import open_control_vector
from theodolite.core.control_file import ControlFile
from theodolite.data.concept_file import neutral_openings
from theodolite.models.model import Model


def here(model: Model, control: ControlFile, strength: float, texts: list[str], targets: list[str]) -> np.ndarray:
    """Change of the log-odds of two targets after each text, (n)."""
    changes = [
        [model.logprobs(texts, [target] * len(texts), interventions=push, format="raw").log_prob for target in targets]
        for push in ([], control.at(strength))
    ]
    return (changes[1][0] - changes[1][1]) - (changes[0][0] - changes[0][1])


def there(llama_cpp: Any, path: Path, vector: Path, texts: list[str], targets: list[str]) -> np.ndarray:
    """Return the same from llama.cpp, the vector read back from the file that it gets."""
    model = _opened(llama_cpp, path)
    plain = [_log_odds(model, text, targets) for text in texts]
    _apply(llama_cpp, model, vector)
    return np.array([_log_odds(model, text, targets) for text in texts]) - np.array(plain)


def _opened(llama_cpp: Any, path: Path) -> Any:
    return llama_cpp.Llama(str(path), logits_all=True, verbose=False, n_ctx=256, seed=0)


def _apply(llama_cpp: Any, model: Any, vector: Path) -> None:
    """Hand over one row of numbers per layer from layer 1 on; layers without a direction get zeros."""
    kept = open_control_vector(vector)
    width, layers = kept.made_on.d_model, llama_cpp.llama_model_n_layer(model._model.model)
    rows = np.zeros((layers - 1, width), np.float32)
    for change in kept.at(1.0):
        assert change.site.block is not None
        rows[change.site.block - 1] = change.basis.decode(_one(change.rule.strength)).numpy()  # type: ignore[attr-defined]
    data = rows.ravel().ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    names = ("llama_set_adapter_cvec", "llama_apply_adapter_cvec", "llama_control_vector_apply")
    apply = next(getattr(llama_cpp, name) for name in names if hasattr(llama_cpp, name))
    if apply(model._ctx.ctx, data, rows.size, width, 1, layers - 1):
        raise SystemExit("llama.cpp refused the control vector")


def _one(strength: Any) -> Any:
    import torch

    return torch.tensor([float(strength)])


def _log_odds(model: Any, text: str, targets: list[str]) -> float:
    ids = model.tokenize(text.encode())
    firsts = [model.tokenize(target.encode(), add_bos=False)[0] for target in targets]
    model.reset()
    model.eval(ids)
    logits = np.asarray(model.scores[len(ids) - 1], np.float64)
    return float(logits[firsts[0]] - logits[firsts[1]])


def main() -> None:
    """Print both changes for each opening, their signs and their correlation."""
    asked = argparse.ArgumentParser()
    asked.add_argument("model", type=Path)
    asked.add_argument("control", type=Path)
    asked.add_argument("--strength", type=float, required=True)
    asked.add_argument("--targets", nargs=2, required=True)
    asked.add_argument("--openings", type=int, default=40)
    given = asked.parse_args()
    try:
        import llama_cpp
    except ImportError:
        raise SystemExit("not run: llama-cpp-python is not installed") from None
    texts, control = neutral_openings()[: given.openings], ControlFile.open(given.control)
    ours = here(Model.from_pretrained(given.model, dtype="float32"), control, given.strength, texts, given.targets)
    with tempfile.TemporaryDirectory() as folder:
        vector = write_gguf(control, given.strength, Path(folder) / "control.gguf")
        theirs = there(llama_cpp, given.model, vector, texts, given.targets)
    for text, a, b in zip(texts, ours, theirs, strict=True):
        print(f"{a:+8.3f} {b:+8.3f}  {text}")
    same, correlation = float((np.sign(ours) == np.sign(theirs)).mean()), float(np.corrcoef(ours, theirs)[0, 1])
    print(f"{len(texts)} openings: equal sign {same:.2f}, correlation {correlation:.3f}")


if __name__ == "__main__":
    main()
