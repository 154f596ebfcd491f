"""One prompt continued twice, by the model as it is and pushed towards a concept: `theodolite.steer`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from theodolite.control.calibrate import Curve, calibrate
from theodolite.control.exports.gguf import write_gguf
from theodolite.control.exports.transformers_hook import write_hook
from theodolite.control.neutral_texts import TOKENS, neutral_texts
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened, Policy
from theodolite.control.steer_request import SteerRequest
from theodolite.control.toward import Fitted, Toward, resolve
from theodolite.core.control_file import ControlFile, KeptStrength
from theodolite.core.errors import UserError, unknown
from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.models.generate import Decoding, Generation
from theodolite.models.model import Model
from theodolite.models.run import context
from theodolite.models.tokens import MAX_TOKENS, Tokens
from theodolite.study.subjects import compute_dtype

MODEL = "smollm2-135m-instruct"
Column = Literal["default", "steered"]
Stream = Callable[[Column, str], Any]


@dataclass(frozen=True, eq=False)
class Steered:
    """The two continuations of a prompt, and what the push was.

    tokens: each token of the steered text with KL(default || steered) in nats at the place where it was predicted, both
    models having read the steered text. nats: the mean of such divergences over neutral texts, by which methods are
    compared. file: the control as it can be saved, None for an instruction.
    """

    prompt: str
    concept: str
    default: str
    steered: str
    tokens: list[tuple[str, float]] = field(repr=False)
    method: str
    site: Site | None
    strength: float
    nats: float
    file: ControlFile | None = field(repr=False)
    model: Model = field(repr=False)

    @property
    def kl(self) -> float:
        """Mean KL per token of the steered text, NaN of an empty one."""
        return float(np.mean([kl for _, kl in self.tokens])) if self.tokens else math.nan

    def save(self, path: str | Path) -> Path:
        """Write the control: as our file, or at this strength as a GGUF control vector or a transformers hook."""
        if self.file is None:
            raise UserError(f"{self.method} is no intervention on states, so that there is nothing to save")
        suffix = Path(path).suffix
        if suffix == ".gguf":
            return write_gguf(self.file, self.strength, path)
        return write_hook(self.file, self.strength, self.model, path) if suffix == ".py" else self.file.save(path)


def steer(prompt: str | SteerRequest, toward: Any = None, *, stream: Stream | None = None, **given: Any) -> Steered:
    """Continue a prompt with the model as it is and with it pushed towards a concept; return both texts.

    `toward` and the further arguments are the fields of `SteerRequest`, of which one may be given instead. `stream`
    gets each new piece of text with "default" or "steered". The model is as before afterwards, whatever happens.

    >>> import theodolite
    >>> both = theodolite.steer("I went to the market and", "joy", tokens=20)     # doctest: +SKIP
    >>> both.default, both.steered, both.strength                                 # doctest: +SKIP
    """
    request = prompt if isinstance(prompt, SteerRequest) else _request(prompt, toward, given)
    request.check()
    source = resolve(request)
    model = _model(request, source)
    length = _checked_prompt(model, request)
    fitted = source.fit(model, request)
    passes = Passes.of(model, neutral_texts(source.concept), max_tokens=TOKENS)
    strength, nats, file = _strength(fitted, passes, request)
    policy = fitted.control.at(strength)
    texts: dict[Column, Generation] = {}
    for name, each in (("default", Intervened(model)), ("steered", policy)):
        texts[name] = _written(each, model, request, length, name, stream)  # type: ignore[index, arg-type]
    return Steered(
        prompt=request.prompt,
        concept=source.concept,
        default=texts["default"].text,
        steered=texts["steered"].text,
        tokens=_divergences(model, policy, request, length, texts["steered"].ids),
        method=fitted.control.method,
        site=fitted.control.site,
        strength=strength,
        nats=nats,
        file=file,
        model=model,
    )


def _request(prompt: str, toward: Any, given: dict[str, Any]) -> SteerRequest:
    known = [each.name for each in fields(SteerRequest)]
    for name in given:
        if name not in known:
            raise unknown("argument of steer", name, known)
    if toward is None:
        raise UserError("steer needs what to steer towards: steer(prompt, toward)")
    return SteerRequest(prompt, toward, **given)


def _model(request: SteerRequest, source: Toward) -> Model:
    if isinstance(request.model, Model):
        return request.model
    name, dtype = request.model or source.model or MODEL, compute_dtype(request.dtype)
    return Model.from_pretrained(name, revision=request.revision, device=request.device, dtype=dtype)


def _checked_prompt(model: Model, request: SteerRequest) -> int:
    """Return the number of tokens that the prompt is read with; one that leaves no room for new ones is an error."""
    limit = context(model.network.module)
    tokens = model.tokens(request.prompt, format=request.format, max_tokens=limit)
    length = int(tokens.lengths[0])
    # the last new token is not read
    if bool(tokens.truncated[0]) or length + request.tokens - 1 > limit:
        known = f"more than {limit}" if bool(tokens.truncated[0]) else str(length)
        raise UserError(
            f"the prompt has {known} tokens: {request.tokens} new ones behind it exceed the model's context of "
            f"{limit}; give a shorter prompt or lower --tokens"
        )
    return length


def _strength(fitted: Fitted, passes: Passes, request: SteerRequest) -> tuple[float, float, ControlFile | None]:
    """Return the strength, its disturbance in nats, and the control's file with what was found."""
    control, amount = fitted.control, request.amount
    if amount is not None:
        return amount, float(passes.kl_of_rows(control.at(amount)).mean()), fitted.file
    found = calibrate(Curve(control, passes, request.sign), request.nats)
    if not math.isfinite(found.strength) or found.strength == 0:
        raise UserError(f"no strength of {control.method} disturbs by {request.nats:g} nats: give --strength a number")
    if fitted.file is None:
        return found.strength, found.kl, None
    kept = KeptStrength(
        nats=request.nats, sign=request.sign, strength=found.strength, kl=found.kl, capped=not found.reached
    )
    others = [each for each in fitted.file.strengths if (each.nats, each.sign) != (kept.nats, kept.sign)]
    return found.strength, found.kl, replace(fitted.file, strengths=(*others, kept))


def _written(
    policy: Policy, model: Model, request: SteerRequest, length: int, name: Column, stream: Stream | None
) -> Generation:
    pieces = None if stream is None else lambda _, piece: stream(name, piece)
    how = Decoding(max_new_tokens=request.tokens, seed=request.seed, stream=pieces)
    if isinstance(policy, Intervened):
        changes: Any = policy.interventions
        most = max(length, MAX_TOKENS)
        return model.generations(request.prompt, how, interventions=changes, format=request.format, max_tokens=most)[0]
    if length > MAX_TOKENS:
        raise UserError(f"the prompt has {length} tokens: an instruction stands before at most {MAX_TOKENS}")
    return policy.generate([request.prompt], how, format=request.format)[0]


def _divergences(
    model: Model, policy: Policy, request: SteerRequest, length: int, new: list[int]
) -> list[tuple[str, float]]:
    """Return each new token with KL(default || steered) where it was predicted, in one pass over the whole text."""
    if not new:
        return []
    prompt = model.tokens(request.prompt, format=request.format, max_tokens=max(length, MAX_TOKENS))
    ids = torch.cat([prompt.ids, torch.tensor([new])], 1)
    roles = torch.cat([prompt.roles, torch.full((1, len(new)), Role.GENERATED, dtype=prompt.roles.dtype)], 1)
    targets = torch.zeros(ids.shape, dtype=torch.bool)
    targets[0, length - 1 : -1] = True
    kl = Passes(model, Tokens(ids, roles, prompt.truncated), targets).kl_of_rows(policy)
    pieces = [model.tokenizer.decode([each], clean_up_tokenization_spaces=False) for each in new]
    return list(zip(pieces, map(float, kl), strict=True))
