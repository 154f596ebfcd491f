"""Asking the model: log-odds of yes against no, with everything before the text computed once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel
from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.prefix import Prefix, alike_from_the_start, shared_start
from theodolite.models.run import context
from theodolite.models.sweep import Columns, sweep
from theodolite.models.tokenise import check_texts, encode_chats, encode_texts, ends_of_tokens
from theodolite.models.tokens import Encoding, Tokens, pad

YES = ("Yes", " Yes", "yes", " yes", "YES", " YES")
NO = ("No", " No", "no", " no", "NO", " NO")


@torch.inference_mode()
def answer_log_odds(
    model: LanguageModel,
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
    tokens. Texts are cut at `max_tokens`, and at what question and examples leave of the model's context.
    """
    answers = _answers(model.tokenizer, yes, no)
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


def unaskable(model: LanguageModel, question: str, few_shot: Sequence[tuple[str, int]] = ()) -> str:
    """Reason why this model cannot be asked the question with `YES` and `NO`; "" where it can."""
    if not question.strip():
        return "there is no question to ask the model (--question gives one)"
    try:
        _answers(model.tokenizer, YES, NO)
        model.template_around()  # a template that changes the text asks about another one
        room = _room(model, question, few_shot)
    except UserError as error:
        return str(error)
    if room < 1:
        return f"question and examples leave no token of the model's context of {context(model.network.module)}"
    return ""


def prompts(
    model: LanguageModel,
    texts: Sequence[str],
    question: str,
    few_shot: Sequence[tuple[str, int]] = (),
    *,
    max_tokens: int = 256,
) -> Tokens:
    """Return the tokens that `answer_log_odds` lets the model read; `truncated` says whose text was cut.

    Texts are cut at `max_tokens`, or at what the model's context leaves beside the question and its examples.
    """
    check_texts(texts)
    longest, room = context(model.network.module), _room(model, question, few_shot)
    if room < 1:
        raise UserError(
            f"the prompting question has {longest - room} tokens with its {len(few_shot)} examples and leaves nothing "
            f"of the model's context of {longest} for a text: shorten the question, or give fewer examples"
        )
    fits = min(max_tokens, room)
    kept = _cut(model.tokenizer, texts, fits)
    rows = _prompt_ids(model.tokenizer, kept, question, few_shot)
    for i, text in enumerate(texts):
        most = fits
        # cut off, the end of a text may fall into more tokens than it had: take one less until the prompt fits
        while len(rows[i]) > longest:
            most -= 1
            (kept[i],) = _cut(model.tokenizer, [text], most)
            (rows[i],) = _prompt_ids(model.tokenizer, [kept[i]], question, few_shot)
    asked = [_prompt(ids, cut != text) for ids, cut, text in zip(rows, kept, texts, strict=True)]
    model.check_ids(asked)
    return pad(asked, pad_id=0)


def _room(model: LanguageModel, question: str, few_shot: Sequence[tuple[str, int]]) -> int:
    """Tokens of the model's context that question, examples and template leave to a text."""
    return context(model.network.module) - len(_prompt_ids(model.tokenizer, [""], question, few_shot)[0])


def _prompt(ids: list[int], truncated: bool) -> Encoding:
    return Encoding(np.array(ids), np.full(len(ids), Role.PREFIX, np.int8), truncated)


def _rows(site: Site, h: Tensor, columns: Columns) -> Tensor:
    return columns.rows(h)


def _prompt_ids(
    tokenizer: Any, texts: Sequence[str], question: str, few_shot: Sequence[tuple[str, int]]
) -> list[list[int]]:
    """The whole prompt of each text up to the place of the answer; control tokens in a text or an example are text."""
    answered = ["Yes" if label else "No" for _, label in few_shot]
    if not getattr(tokenizer, "chat_template", None):
        told = [
            f"{_ask(question, text)}\nAnswer: {answer}\n\n"
            for (text, _), answer in zip(few_shot, answered, strict=True)
        ]
        return encode_texts(tokenizer, ["".join(told) + _ask(question, text) + "\nAnswer:" for text in texts])
    examples: list[dict[str, str]] = []
    for (text, _), answer in zip(few_shot, answered, strict=True):
        examples += [{"role": "user", "content": _ask(question, text)}, {"role": "assistant", "content": answer}]
    return encode_chats(tokenizer, [[*examples, {"role": "user", "content": _ask(question, text)}] for text in texts])


def _ask(question: str, text: str) -> str:
    return f"{question} Answer Yes or No.\n\nText: {text}"


def _answers(tokenizer: Any, yes: Sequence[str], no: Sequence[str]) -> list[list[int]]:
    """Token ids of the two answers, which share none: an unknown token, or one token for both, tells nothing apart."""
    ids = [_single_tokens(tokenizer, words) for words in (yes, no)]
    both = (ids[0] & ids[1]) | {tokenizer.unk_token_id}
    for words, found in zip((yes, no), ids, strict=True):
        if not found - both:
            raise UserError(f"none of {list(words)} is one token of this model, unlike the other answer's")
    return [sorted(found - both) for found in ids]


def _single_tokens(tokenizer: Any, words: Sequence[str]) -> set[int]:
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    return {row[0] for row in ids if len(row) == 1}


def _cut(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[str]:
    """Texts up to the end of their token number `max_tokens`."""
    ends = [[0, *row] for row in ends_of_tokens(tokenizer, texts)]
    return [
        text[: row[max_tokens]] if len(row) - 1 > max_tokens else text for text, row in zip(texts, ends, strict=True)
    ]
