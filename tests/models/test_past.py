"""The state that one pass leaves for the next."""

from typing import Any

import pytest
import torch

from theodolite.models.model import Model
from theodolite.models.past import Past, cache_argument
from theodolite.models.run import run
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

LLAMA = type(tiny_model())


class Old(LLAMA):  # type: ignore[misc, valid-type]
    def forward(self, input_ids: Any, past_key_values: Any = None, **options: Any) -> Any:
        return super().forward(input_ids, **{cache_argument(LLAMA): past_key_values}, **options)


class New(LLAMA):  # type: ignore[misc, valid-type]
    def forward(self, input_ids: Any, cache: Any = None, **options: Any) -> Any:
        return super().forward(input_ids, **{cache_argument(LLAMA): cache}, **options)


@pytest.mark.parametrize(("kind", "name"), [(Old, "past_key_values"), (New, "cache")])
def test_the_cache_goes_by_the_name_that_the_forward_pass_has_for_it(kind: type, name: str) -> None:
    """Whatever transformers is installed: it renamed the argument in 5.24 and warns of the old name."""
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())
    tokens = model.tokens(["hello there"])
    whole = run(model.network, tokens, logits=True).logits
    model.network.module.__class__ = kind
    assert cache_argument(kind) == name
    past = Past.empty(model.network)
    assert past is not None
    parts = [run(model.network, tokens.first(n), logits=True, after=past).logits for n in (5, tokens.ids.shape[1])]
    assert past.length == tokens.ids.shape[1]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)  # type: ignore[arg-type]
