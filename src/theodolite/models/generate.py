"""Generation as repeated runs: the same hooks, the same positions, with or without a key/value cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.core.seeds import child_seed
from theodolite.models.families import Network
from theodolite.models.past import Past
from theodolite.models.run import Batch, Effects, context, run
from theodolite.models.sweep import batches
from theodolite.models.tokens import Encoding, Tokens, pad

StopReason = Literal["stop", "length", "cancelled"]
# Logits (n, vocabulary) of the next token behind tokens that are padded on the left; one column more at each call
Step = Callable[[Tokens], Tensor]


@dataclass(frozen=True)
class Decoding:
    """Settings of generation: the choice of new tokens, and callbacks that follow or cancel it.

    Greedy at temperature 0; a sample depends on the seed and its own prompt, not on the batch. `stream(number, text)`
    gets each new piece of text with the number of its prompt, as soon as its last character is complete; the pieces of
    a prompt make up its whole text. `cancel()` is asked before each step, and ends all texts where it returns true: a
    `threading.Event().is_set`, for one. `predict(prompts, step)` returns the step that predicts the next token of
    a batch of prompts, in place of the model's own.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    stream: Callable[[int, str], Any] | None = None
    cancel: Callable[[], bool] | None = None
    predict: Callable[[Sequence[Encoding], Step], Step] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise UserError(
                f"temperature={self.temperature} is no number from 0 on: give 0 for the likeliest token, or more"
            )

    @property
    def cancelled(self) -> bool:
        """Return whether someone has asked for the end."""
        return self.cancel is not None and bool(self.cancel())


@dataclass(frozen=True)
class Generation:
    """New text after one prompt.

    ids: the new tokens, without a stop token. log_probs: the log-probability of each, in nats, under the model as it
    was changed, at temperature 1 whatever the temperature of the sample; (t) float64. stopped: by a stop token
    (`stop`), at `max_new_tokens` (`length`), or because the caller cancelled.
    """

    ids: list[int]
    log_probs: np.ndarray
    stopped: StopReason
    text: str = ""


@torch.no_grad()
def generate(
    network: Network,
    prompts: Sequence[Encoding],
    how: Decoding,
    *,
    effects: Effects | None = None,
    stop_ids: Sequence[int] = (),
    use_cache: bool = True,
    batch_tokens: int | None = None,
    decode: Callable[[list[int]], str] = lambda ids: "",
) -> list[Generation]:
    """Return the new tokens of each prompt, in the order of the prompts.

    Positions are resolved against the prompt and what follows it, so that the cache changes the speed and nothing
    else. Prompts of like length run together, as many as `batch_tokens` hold with their answers at full length (None:
    all at once). `decode` makes text of token ids.
    """
    effects = effects or Effects(())
    longest = max(map(len, prompts))
    if longest + how.max_new_tokens - 1 > (limit := context(network.module)):  # the last new token is not read
        raise UserError(
            f"the longest prompt has {longest} tokens: {how.max_new_tokens} new ones behind it exceed the model's "
            f"context of {limit}; lower max_new_tokens or max_tokens"
        )
    answers = [_Answer(number, prompt, how, decode) for number, prompt in enumerate(prompts)]
    lengths = np.array([len(row) + how.max_new_tokens for row in prompts])
    for index in batches(lengths, batch_tokens) if batch_tokens else [np.arange(len(prompts))]:
        chosen = np.sort(index)
        together = [answers[i] for i in chosen]
        batch = Batch(chosen, len(prompts), skipped=longest - max(len(answer.prompt) for answer in together))
        step = next_token(network, effects, batch, use_cache=use_cache)
        if how.predict is not None:
            step = how.predict([answer.prompt for answer in together], step)
        _write(step, together, how, stop_ids)
    if not any(answer.stopped == "cancelled" for answer in answers):  # else what was to be changed may not have run
        effects.check()
    return [answer.finished() for answer in answers]


def next_token(network: Network, effects: Effects, batch: Batch, *, use_cache: bool = True) -> Step:
    """Return a step that runs the columns which it has not seen, with a key/value cache of its own."""
    past = Past.empty(network, effects.order) if use_cache else None

    def step(tokens: Tokens) -> Tensor:
        logits = run(network, tokens, effects=effects, logits=[-1], after=past, batch=batch).logits
        assert logits is not None
        return logits[:, -1]

    return step


class _Answer:
    """The text behind one prompt while it is being written."""

    def __init__(self, number: int, prompt: Encoding, how: Decoding, decode: Callable[[list[int]], str]) -> None:
        self.number, self.prompt = number, prompt
        self.draw = torch.Generator().manual_seed(child_seed(how.seed, *prompt.ids.tolist()))
        self.stopped: StopReason | None = None
        self._how, self._decode = how, decode
        self._ids: list[int] = []
        self._log_probs: list[float] = []
        self._shown = 0  # characters that were streamed

    def take(self, token: int, log_prob: float, stop_ids: Sequence[int]) -> None:
        """Add a token; nothing happens to a text that has ended."""
        if self.stopped is not None:
            return
        if token in stop_ids:
            return self.end("stop")
        self._ids.append(token)
        self._log_probs.append(log_prob)
        if self._how.stream is not None and not (text := self._decode(self._ids)).endswith("\ufffd"):
            self._show(text)  # a token may be one byte of a character, which is shown once it is whole
        return None

    def end(self, reason: StopReason) -> None:
        """End the text, if it has not ended yet."""
        if self.stopped is None:
            self.stopped = reason
            if self._how.stream is not None:
                self._show(self._decode(self._ids))

    def finished(self) -> Generation:
        assert self.stopped is not None
        return Generation(self._ids, np.array(self._log_probs), self.stopped, self._decode(self._ids))

    def _show(self, text: str) -> None:
        assert self._how.stream is not None
        piece, self._shown = text[self._shown :], len(text)
        if piece:
            self._how.stream(self.number, piece)


def _write(step: Step, answers: Sequence[_Answer], how: Decoding, stop_ids: Sequence[int]) -> None:
    """Write answers that run together to their ends, one step for all at a time."""
    tokens = pad([answer.prompt for answer in answers], pad_id=0, side="left")
    reason: StopReason = "length"
    for _ in range(how.max_new_tokens):
        if how.cancelled:
            reason = "cancelled"
            break
        rows_nv = step(tokens).float().cpu()
        chosen = _choose(rows_nv, how.temperature, [answer.draw for answer in answers])
        log_probs = rows_nv.gather(1, torch.tensor(chosen).unsqueeze(1)).squeeze(1) - rows_nv.logsumexp(1)
        for answer, token, log_prob in zip(answers, chosen, log_probs.tolist(), strict=True):
            answer.take(token, log_prob, stop_ids)
        running = [answer.stopped is None for answer in answers]
        if not any(running):
            break
        tokens = _append(tokens, chosen, running)
    for answer in answers:
        answer.end(reason)


def stop_ids(module: Any, tokenizer: Any) -> list[int]:
    """Return the tokens at which a model ends a text, by its own settings and its tokenizer's."""
    config = module.generation_config
    stop = config.eos_token_id if config is not None else None
    ids = stop if isinstance(stop, list) else [stop]
    return [i for i in (*ids, tokenizer.eos_token_id) if i is not None]


def _choose(logits_nv: Tensor, temperature: float, draws: list[torch.Generator]) -> list[int]:
    if temperature == 0:
        return logits_nv.argmax(-1).tolist()
    probabilities = (logits_nv / temperature).softmax(-1)
    return [int(torch.multinomial(p, 1, generator=g)) for p, g in zip(probabilities, draws, strict=True)]


def _append(tokens: Tokens, chosen: list[int], running: list[bool]) -> Tokens:
    """One more column; a text that has stopped is padded."""
    roles = torch.tensor([[Role.GENERATED if on else Role.PAD] for on in running], dtype=torch.int8)
    ids = torch.cat([tokens.ids, torch.tensor(chosen).unsqueeze(1)], dim=1)
    return Tokens(ids, torch.cat([tokens.roles, roles], dim=1), tokens.truncated)
