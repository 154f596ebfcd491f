"""A dial for the oldest control there is, an instruction: logits = base + amount * (prompted - base)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from theodolite.control.control import check_strength
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened, Policy, Predictions
from theodolite.core.errors import UserError
from theodolite.core.language_model import Format, Texts
from theodolite.core.positions import Role
from theodolite.models.generate import Decoding, Generation, Step, next_token
from theodolite.models.model import Model
from theodolite.models.run import Batch, Effects, context
from theodolite.models.tokenise import encode_texts
from theodolite.models.tokens import Encoding, Tokens, pad

_CHUNK = 128  # rows that are mixed at once, as in the divergence of passes


@dataclass(frozen=True, eq=False)
class Dialled:
    """The model part of the way to itself behind an instruction; amount 0 is the model, 1 the whole instruction.

    The logits are those of the model plus `amount` times their change by the instruction, at each token: so it can be
    set to a disturbance, as a vector can. The instruction stands before the text, in a chat before that of the user,
    with its own tokens: end it as it shall meet the text, in a space or a new line.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> half = Dialled(model, "Be brief. ", 0.5)
    >>> [len(one.ids) for one in half.generate(["a text"], Decoding(max_new_tokens=3))]
    [3]
    """

    model: Model
    instruction: str
    amount: float

    def predictions(self, passes: Passes) -> Iterator[Predictions]:
        """Log-probabilities at the targets; the instruction costs one pass, and no other amount costs another."""
        passes.check_model(self.model)
        if self.amount == 0:
            yield passes.unchanged
            return
        prompted = passes.kept(self.instruction, lambda: self._prompted(passes))
        if self.amount == 1:
            yield passes.unchanged._replace(log_probs=prompted)
            return
        # log-probabilities are logits up to a constant of each row, which the last step removes
        for rows in torch.arange(len(prompted)).split(_CHUNK):
            yield Predictions(rows, passes.clean[rows].lerp(prompted[rows], self.amount).log_softmax(1))

    def generate(self, prompts: Texts, how: Decoding, *, format: Format = "raw") -> list[Generation]:
        """New text after each prompt, with a key/value cache for the prompt and one for it behind the instruction."""
        if self.amount == 0:
            return self.model.generations(prompts, how, format=format)
        if how.predict is not None:
            raise UserError("a dial predicts the next token itself: leave out Decoding(predict=...)")
        longest = int(self.model.tokens(prompts, format=format).lengths.max()) + len(self._ids())
        if longest + how.max_new_tokens - 1 > (limit := context(self.model.network.module)):
            raise UserError(
                f"the longest prompt has {longest} tokens with its instruction: {how.max_new_tokens} new ones behind "
                f"it exceed the model's context of {limit}; lower max_new_tokens, or shorten the instruction"
            )
        return self.model.generations(prompts, replace(how, predict=self._mixed), format=format)

    def _prompted(self, passes: Passes) -> Tensor:
        tokens, targets = behind(self._ids(), passes.tokens, passes.targets)
        return passes.of_other_tokens(tokens, targets)

    def _mixed(self, prompts: Sequence[Encoding], plain: Step) -> Step:
        """The step that predicts from both, for prompts that run together."""
        ids, width = self._ids(), max(map(len, prompts))
        instructed = pad([_inserted(prompt, ids) for prompt in prompts], pad_id=0, side="left")
        step = next_token(self.model.network, Effects(()), Batch.whole(len(prompts)))

        def mixed(tokens: Tokens) -> Tensor:
            new_ids, new_roles = tokens.ids[:, width:], tokens.roles[:, width:]  # what was written so far
            both = Tokens(
                torch.cat([instructed.ids, new_ids], 1), torch.cat([instructed.roles, new_roles], 1), tokens.truncated
            )
            # lerp gives its ends exactly, so that amount 1 is the model behind the instruction, bit for bit
            return plain(tokens).float().lerp(step(both).float(), self.amount)

        return mixed

    def _ids(self) -> list[int]:
        ids = encode_texts(self.model.tokenizer, [self.instruction], add_special_tokens=False)[0]
        if not len(ids):
            raise UserError("the instruction has no tokens: give words")
        self.model.check_ids([Encoding(np.asarray(ids, np.int64), np.full(len(ids), Role.CONTENT, np.int8))])
        return list(ids)


@dataclass(frozen=True, eq=False)
class PromptDial:
    """The control by instructions: strength is the amount of one, 1 the undialled prompt.

    A negative strength is that amount of the `negative` instruction; without one, the positive one is taken away.
    """

    model: Model
    positive: str
    negative: str | None = None
    method: str = "prompt"
    cap: float = math.inf
    site: None = None
    has_dial: bool = True

    def at(self, strength: float) -> Policy:
        if not check_strength(self, strength):
            return Intervened(self.model)
        if strength < 0 and self.negative is not None:
            return Dialled(self.model, self.negative, -float(strength))
        return Dialled(self.model, self.positive, float(strength))


def behind(ids: Sequence[int], tokens: Tokens, targets: Tensor) -> tuple[Tokens, Tensor]:
    """Return texts behind an instruction, padded on the right, and the targets (n, t) that predict the same tokens.

    >>> import numpy as np
    >>> text = pad([Encoding(np.array([5, 6]), np.array([Role.FIRST, Role.CONTENT], np.int8))], 0)
    >>> moved, targets = behind([8, 9], text, torch.tensor([[True, True]]))
    >>> moved.ids.tolist(), targets.tolist()
    ([[8, 9, 5, 6]], [[False, False, True, True]])
    """
    rows, marks = [], []
    for row, roles, targeted, length in zip(tokens.ids, tokens.roles, targets, tokens.lengths, strict=True):
        own = Encoding(row[:length].numpy(), roles[:length].numpy())
        rows.append(_inserted(own, ids))
        start, mark = _start(own), np.zeros(len(ids) + length, bool)
        mark[:start], mark[start + len(ids) :] = targeted[:start].numpy(), targeted[start:length].numpy()
        if start and mark[start - 1]:
            # the token before the text, as a BOS, predicts the text's first; now the instruction's last token does
            mark[start - 1], mark[start + len(ids) - 1] = False, True
        marks.append(mark)
    padded = pad(rows, pad_id=0)
    placed = np.zeros(padded.ids.shape, bool)
    for number, mark in enumerate(marks):
        placed[number, : len(mark)] = mark
    return padded, torch.from_numpy(placed)


def _start(prompt: Encoding) -> int:
    """Number of tokens before the text itself: a BOS, and in a chat the template's."""
    before = np.isin(prompt.roles, [Role.PREFIX, Role.SPECIAL])
    return int(np.logical_and.accumulate(before).sum())


def _inserted(prompt: Encoding, ids: Sequence[int]) -> Encoding:
    """One prompt with an instruction before its text."""
    start = _start(prompt)
    new = [
        np.concatenate([whole[:start], more, whole[start:]])
        for whole, more in (
            (prompt.ids, np.asarray(ids, np.int64)),
            (prompt.roles, np.full(len(ids), Role.CONTENT, np.int8)),
        )
    ]
    return Encoding(new[0], new[1], prompt.truncated)
