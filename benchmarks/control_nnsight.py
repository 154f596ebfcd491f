"""The nnsight snippet of a control gives our logits; nnsight lives in the environment of the benchmarks.

    make bench  # or: pip install nnsight, then
    python benchmarks/control_nnsight.py

It exports a random direction for tiny models of two families, runs the snippet, and prints the largest difference.
"""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import torch

from theodolite.control.exports.nnsight_snippet import write_snippet
from theodolite.core.control_file import ControlFile, MadeOn
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


def main() -> None:
    """Print the largest difference of a logit for each family."""
    try:
        from nnsight import LanguageModel
    except ImportError:
        raise SystemExit("not run: nnsight is not installed") from None
    draw = np.random.default_rng(0).normal(size=32)
    change = Intervention.add("blocks.1.resid_post", draw / np.linalg.norm(draw))
    for family in ("llama", "gpt2"):
        module, tokenizer = tiny_model(family), byte_tokenizer()
        model = Model(module, tokenizer)
        control = ControlFile("random", "random", MadeOn.of(model), (change.to_json(),))
        with tempfile.TemporaryDirectory() as folder:
            path = write_snippet(control, 3.0, model, Path(folder) / "snippet.py")
            spec = importlib.util.spec_from_file_location("snippet", path)
            assert spec is not None
            assert spec.loader is not None
            snippet = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(snippet)
        ours = model.run(model.tokens("a text", format="raw"), interventions=control.at(3.0)).logits
        theirs = snippet.steered_logits(LanguageModel(module, tokenizer=tokenizer), "a text")
        print(f"{family}: largest difference of a logit {float((torch.as_tensor(theirs) - ours).abs().max()):.1e}")


if __name__ == "__main__":
    main()
