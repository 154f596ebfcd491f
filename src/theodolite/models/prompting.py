"""Asking the model: log-odds of yes against no, with everything before the text computed once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.prefix import Prefix, alike_from_the_start, shared_start
from theodolite.models.sweep import Columns, sweep
from theodolite.models.tokens import Encoding, Tokens, pad

YES = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO = ("No", " No", "no", " no", "NO", " NO")


@torch.inference_mode()
def answer_log_odds(
    model: Any,
    texts: Sequence[str],
    question: str,
    few_shot: Sequence[tuple[str, int]] = (),
    *,
    yes: Sequence[str] = YES,
    no: Sequence[str] = NO,
    max_tokens: int = 256,
    batch_tokens: int | None = None,
) -> np.ndarray:
    """log p(yes) - log p(no) of the next token after each text, asked `question`; (n) float64.

    Instructions and examples stand first, then the text, then the place of the answer: a chat with one turn per
    example, or plain text for a model without a chat template. What texts share from the start, as those in one
    jailbreak template do, runs once. The probability of an answer is the sum over its spellings that are single
    tokens. Texts are cut at `max_tokens`.
    """
    answers = [_single_tokens(model.tokenizer, words) for words in (yes, no)]
    tokens = prompts(model, texts, question, few_shot, max_tokens=max_tokens)
    last = torch.arange(tokens.ids.shape[1]) == torch.from_numpy(tokens.lengths - 1).unsqueeze(1)
    end = Site(None, "final_norm")
    found = np.empty(len(tokens))
    limit = batch_tokens or model.batch_tokens(None)
    for alike in alike_from_the_start(tokens):
        part, selected = tokens[alike], last[alike]
        prefix = Prefix(model.network, shared_start(part, selected), end)
        for columns, states in sweep(model.network, part, selected, [end], _rows, prefix=prefix, batch_tokens=limit):
            logits = model.network.unembed(states[end]).float()
            sums = [logits[:, answer].logsumexp(-1).double() for answer in answers]
            found[alike[columns.index]] = (sums[0] - sums[1]).cpu().numpy()
    return found


def prompts(
    model: Any, texts: Sequence[str], question: str, few_shot: Sequence[tuple[str, int]] = (), *, max_tokens: int = 256
) -> Tokens:
    """What `answer_log_odds` lets the model read for each text; `truncated` says whose text was cut."""
    asked = [
        _prompt(_prompt_ids(model.tokenizer, kept, question, few_shot), kept != text)
        for text, kept in zip(texts, _cut(model.tokenizer, texts, max_tokens), strict=True)
    ]
    return pad(asked, pad_id=0)


def _prompt(ids: list[int], truncated: bool) -> Encoding:
    return Encoding(np.array(ids), np.full(len(ids), Role.PREFIX, np.int8), truncated)


def _rows(site: Site, h: Tensor, columns: Columns) -> Tensor:
    return columns.rows(h)


def _prompt_ids(tokenizer: Any, text: str, question: str, few_shot: Sequence[tuple[str, int]]) -> list[int]:
    """The whole prompt up to the place of the answer."""
    asked = [f"{question} Answer Yes or No.\n\nText: {example}" for example, _ in [*few_shot, (text, 0)]]
    answered = ["Yes" if label else "No" for _, label in few_shot]
    if not getattr(tokenizer, "chat_template", None):
        told = [f"{ask}\nAnswer: {answer}\n\n" for ask, answer in zip(asked, answered, strict=False)]
        return tokenizer("".join(told) + asked[-1] + "\nAnswer:", verbose=False)["input_ids"]
    chat = [{"role": "user", "content": asked[0]}]
    for answer, ask in zip(answered, asked[1:], strict=True):
        chat += [{"role": "assistant", "content": answer}, {"role": "user", "content": ask}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]


def _single_tokens(tokenizer: Any, words: Sequence[str]) -> list[int]:
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    single = sorted({row[0] for row in ids if len(row) == 1})
    if not single:
        raise UserError(f"none of {list(words)} is one token of this model: give other spellings")
    return single


def _cut(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[str]:
    """Texts up to the end of their token number `max_tokens`."""
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = [spans[max_tokens - 1][1] if len(spans) > max_tokens else None for spans in found["offset_mapping"]]
    return [text[:end] for text, end in zip(texts, ends, strict=True)]
