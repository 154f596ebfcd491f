"""A pass that runs out of memory is repeated with half of the tokens in a batch: rows are the same.

The error is raised by a hook, as CUDA's allocator would raise it inside a block: untested on CUDA.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from theodolite.core.backoff import Backoff
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.models.model import Model
from theodolite.models.prefix import Prefix
from theodolite.models.sweep import select, sweep
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

TEXTS = ["a", "bb", "a text", "a longer text of these", "five words make up this", "the last of the texts"]
SITE = Site(1, "resid_post")


def rows(model: Model, batches: Backoff) -> Tensor:
    """Pooled rows of all texts in order, as a harvest takes them."""
    tokens = model.tokens(TEXTS)
    selected = select(tokens, Positions("content"))
    prefix = Prefix(model.network, tokens[:1].first(0), SITE)

    def work(batch_tokens: int) -> Tensor:
        found = torch.zeros(len(TEXTS), model.d_model)
        sums: Any = lambda site, h, columns: torch.stack([h[i][columns.selected[i]].mean(0) for i in range(len(h))])  # noqa: E731
        for columns, kept in sweep(
            model.network, tokens, selected, [SITE], sums, prefix=prefix, batch_tokens=batch_tokens
        ):
            found[torch.from_numpy(columns.index)] = kept[SITE]
        return found

    with torch.inference_mode():
        return batches(work, least=int(tokens.lengths.max()))


def limited(model: Model, most: int) -> list[int]:
    """Let the second block fail on more than so many tokens; the sizes that it saw."""
    seen: list[int] = []

    def hook(module: Any, args: Any) -> None:
        seen.append(args[0].shape[0] * args[0].shape[1])
        if seen[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    model.network.module.model.layers[1].register_forward_pre_hook(hook)
    return seen


def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


def test_rows_are_the_same_after_halving() -> None:
    expected, notes, poor = rows(model(), Backoff(10_000, "tokens per batch", "x")), [], model()
    seen = limited(poor, 120)
    batches = Backoff(400, "tokens per batch", "x", lambda *note: notes.append(note))
    torch.testing.assert_close(rows(poor, batches), expected, rtol=1e-5, atol=1e-6)
    assert max(seen) > 120
    assert batches.size == 100
    assert len(notes) == 2
    before = len(seen)
    torch.testing.assert_close(rows(poor, batches), expected, rtol=1e-5, atol=1e-6)
    assert max(seen[before:]) <= 120  # what fitted is where the next call begins


def test_one_text_that_does_not_fit_is_refused_after_few_tries() -> None:
    poor = model()
    seen = limited(poor, 0)
    with pytest.raises(
        UserError, match=r"out of memory at \d+ tokens per batch, and no less can be tried .*: lower it"
    ):
        rows(poor, Backoff(400, "tokens per batch", "lower it"))
    assert len(seen) <= 5


def test_reading_backs_off_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes from inside the block, as a hook may not stay on a model that is read."""
    whole, poor = model(), model()
    expected = whole.read(TEXTS, SITE)[SITE].rows
    block = type(poor.network.module.model.layers[1])
    true, seen = block.forward, []

    def forward(self: Any, h: Tensor, *args: Any, **how: Any) -> Any:
        seen.append(h.shape[0] * h.shape[1])
        if seen[-1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true(self, h, *args, **how)

    monkeypatch.setattr(block, "forward", forward)
    monkeypatch.setattr("theodolite.models.identity.code_digest", lambda module: "")
    with pytest.warns(UserWarning, match="halvings of tokens per batch"):
        found = poor.read(TEXTS, SITE, batch_tokens=400)[SITE].rows
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert max(seen) > 60
