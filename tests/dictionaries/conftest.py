"""A model small enough to know: a word is a token, its activation the word's vector and a little of those before."""

import itertools
import multiprocessing
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core import atomic
from theodolite.core.positions import Positions
from theodolite.dictionaries.training.corpus import Corpus, CorpusRecipe, Document
from theodolite.dictionaries.training.train import train

D = 12
WORDS = [f"word{i}" for i in range(40)]
START, END, SYSTEM, TURN = 1, 2, 3, 4  # START and END are special; SYSTEM is the template's prefix, TURN its last token


class WordModel:
    """`tokens` and `run` of theodolite.Model over a vocabulary of 40 words; token 0 of every text is a sink."""

    name, hash, d_model, n_blocks, device = "words", "words-1", D, 2, torch.device("cpu")
    dtype = torch.float32
    tokenizer = SimpleNamespace(all_special_ids=[START, END])

    def __init__(self) -> None:
        self.vectors = torch.randn(50, D, generator=torch.Generator().manual_seed(0))
        self.calls = 0

    def tokens(self, texts: list[str], *, format: str, max_tokens: int) -> SimpleNamespace:
        rows, roles = [], []
        for text in texts:
            words = [5 + zlib.crc32(w.encode()) % 40 for w in text.split()][:max_tokens]
            if format == "raw":
                rows.append(words)
                roles.append([5] + [3] * (len(words) - 1))
            else:
                rows.append([START, SYSTEM, *words, END, TURN])
                roles.append([1, 2] + [3] * len(words) + [4, 4])
        t = max(map(len, rows))
        pad = lambda seqs: torch.tensor([s + [0] * (t - len(s)) for s in seqs])  # noqa: E731
        roles_nt = pad(roles)
        return SimpleNamespace(ids=pad(rows), roles=roles_nt.to(torch.int8), mask=roles_nt > 0)

    def run(self, tokens: SimpleNamespace, capture: tuple = (), logits: bool = True) -> dict:
        self.calls += 1
        x = self.vectors[tokens.ids]
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        so_far = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        x = x + 0.3 * before + 0.5 * so_far
        x[:, 0] *= 100
        return {site: x * (1 + i) for i, site in enumerate(capture)}

    def read(
        self,
        texts: list[str],
        sites: tuple,
        *,
        positions: Positions,
        pooling: None,
        format: str,
        max_tokens: int,
    ) -> dict:
        tokens = self.tokens(texts, format=format, max_tokens=max_tokens)
        chosen = torch.from_numpy(positions.mask(tokens.roles.numpy()))
        assert chosen.any(1).all()  # theodolite.Model refuses texts without a token to read
        return {site: SimpleNamespace(rows=h[chosen].numpy()) for site, h in self.run(tokens, tuple(sites)).items()}

    def loss(self, texts: list[str], *, format: str, max_tokens: int, interventions: list = ()) -> SimpleNamespace:
        """2 nats per token plus the mean squared change that the interventions make to content rows of a text."""
        tokens = self.tokens(texts, format=format, max_tokens=max_tokens)
        content = tokens.roles == 3
        n_tokens = content.sum(1).numpy()
        nats = np.full(len(texts), 2.0)
        for one in interventions:
            x = self.run(tokens, capture=("any",))["any"]
            change = (one.rule(x, None) - x).square().mean(-1)
            nats += (change * content).sum(1).numpy() / n_tokens
        return SimpleNamespace(log_prob=-nats * n_tokens, n_tokens=n_tokens)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On data this small a second thread only waits, and on a busy machine it waits long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def word_model() -> WordModel:
    return WordModel()


@pytest.fixture
def word_corpus() -> Corpus:
    return make_corpus()


def make_corpus() -> Corpus:
    """400 documents of random words, half of them prompts, a fifth of each held out."""
    rng = np.random.default_rng(0)
    recipe = CorpusRecipe.model_validate(
        {
            "name": "words",
            "title": "random words",
            "parts": [
                {"name": "text", "format": "raw", "share": 0.75, "sources": []},
                {"name": "chat", "format": "chat", "share": 0.25, "sources": []},
            ],
        }
    )
    documents = []
    for i in range(400):
        chat = i % 2 == 1
        text = " ".join(rng.choice(WORDS, size=rng.integers(4, 12) if chat else rng.integers(20, 40)))
        documents.append(
            Document(text, "chat" if chat else "text", "chat" if chat else "raw", "random", i, i % 10 in (2, 3))
        )
    return Corpus(recipe, tuple(documents), {})


def train_words(folder: Path, options: dict[str, Any], crash_at: int) -> None:
    """Train on the word model; die at the `crash_at`-th step of writing a file."""
    torch.set_num_threads(1)
    atomic._steps, atomic._crash_at = itertools.count(1), crash_at
    train(WordModel(), options.pop("sites"), make_corpus(), folder, checkpoint_seconds=0, **options)


def lines_of(log: Path) -> int:
    """Lines so far of a log that its writer may replace or remove at any time."""
    try:
        return log.read_text().count("\n")
    except FileNotFoundError:
        return 0


@pytest.fixture
def train_in_a_child() -> Callable[..., int]:
    """Run `train_words` in a process of its own, and SIGKILL it once its log has `kill_after` lines; the exit code.

    The process is a fork of a server that has imported all and computed nothing: OpenMP ends a fork of a process in
    which numba has run.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "theodolite.dictionaries.training.train", "theodolite.dictionaries.ops.kernels"]
    )
    root = str(Path(__file__).parents[2])
    if root not in sys.path:  # the child finds this file by its name
        sys.path.append(root)

    def run(folder: Path, *, kill_after: int = 0, crash_at: int = 0, **options: Any) -> int:
        child = context.Process(target=train_words, args=(folder, options, crash_at))
        child.start()
        log = folder / "log.jsonl"
        while kill_after and child.is_alive():
            if lines_of(log) >= kill_after:
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        child.join()
        assert child.exitcode is not None
        return child.exitcode

    return run
