"""What the cases share: tiny model folders, a table of texts with a planted word, the command line in this process."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from theodolite.core.run import IN_DISTRIBUTION
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near", "old", "mill", "birds"]
QUICK = ("--method", "difference_in_means", "--sae", "none", "--seeds", "2")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def theodolite(*words: object) -> Ended:
    """Run the command line in this process."""
    from theodolite import cli

    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "150"}),
        mock.patch.object(sys, "argv", ["theodolite", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def table(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Texts of ten words, every second one with the planted word `happy` and label 1, the others with `sad`."""
    draw, label = np.random.default_rng(seed), np.arange(n) % 2
    texts = [" ".join([*draw.choice(WORDS, 7), "happy" if y else "sad", *draw.choice(WORDS, 2)]) for y in label]
    return pd.DataFrame({"text": texts, "label": label})


def model_folder(
    folder: Path,
    family: str = "llama",
    *,
    template: str | None = "",
    edit: Callable[[Any], None] = lambda model: None,
    seed: int = 0,
) -> Path:
    """Save a tiny random model and its tokenizer; `template` replaces ChatML (None: no template), `edit` weights."""
    model, tokenizer = tiny_model(family, seed), byte_tokenizer()
    edit(model)
    if template != "":
        tokenizer.chat_template = template
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def workplace(folder: Path, model: str = "m", **how: Any) -> Iterator[Path]:
    """Work in a folder with a cache of its own and a tiny model, made as `model_folder` is told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        model_folder(folder / model, **how)
        yield folder


def damage(path: Path, how: str) -> None:
    """One flipped bit in the middle, half of the bytes, or no file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "deleted":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else content)


def auroc(run: Path, method: str = "difference_in_means", dataset: str = IN_DISTRIBUTION) -> float:
    """AUROC of one method over all seeds, out of a Run's rows."""
    rows = pd.read_csv(run / "rows.csv")
    at = (rows.metric == "auroc") & (rows.seed.astype(str) == "all") & (rows.method == method)
    return float(rows[at & (rows.dataset == dataset)]["value"].iloc[0])
