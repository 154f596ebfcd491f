"""The one primitive: run tokens through the model, capture states at sites, change them on the way."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.basis import Basis
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import AtSites, Site
from theodolite.core.tensors import like
from theodolite.models.families import Network
from theodolite.models.hooks import Reached, attached
from theodolite.models.tokens import Tokens


class NoEffect(UserWarning):
    """An intervention that matched tokens and left every one of them as it was."""


@dataclass(frozen=True)
class Trace:
    """Result of a run: states (n, t, d) by site, after any intervention there, and logits (n, t, vocabulary).

    `trace["blocks.1.resid_post"]` is short for `trace.activations["blocks.1.resid_post"]`. `changed` counts, per
    intervention, the tokens that it altered.
    """

    activations: AtSites[Tensor]
    logits: Tensor | None
    changed: tuple[int, ...] = ()

    def __getitem__(self, site: Site | str) -> Tensor:
        return self.activations[site]


@dataclass(frozen=True)
class Batch:
    """The part of a call that runs: the numbers of its texts (n) among `n_texts`, whose donors come in their order.

    `skipped`: columns of padding that all its texts have lost on the left, while a donor still counts them.
    """

    index: np.ndarray
    n_texts: int
    skipped: int = 0

    @classmethod
    def whole(cls, n: int) -> "Batch":
        """All texts at once."""
        return cls(np.arange(n), n)


class Effects:
    """Counts of the tokens each intervention matched and altered, over one pass or many."""

    def __init__(self, interventions: Sequence[Intervention]) -> None:
        self.interventions = list(interventions)
        self.matched = [0] * len(self.interventions)
        self._altered: list[Tensor | int] = [0] * len(self.interventions)  # on the device, until someone asks

    @classmethod
    def checked(cls, interventions: Sequence[Intervention], check: Callable[[Site], Any]) -> "Effects":
        """Return those of interventions all of whose sites pass a check."""
        for intervention in interventions:
            for site in (intervention.site, *intervention.sources()):
                check(site)
        return cls(interventions)

    def add(self, number: int, matched: int, altered: Tensor) -> None:
        self.matched[number] += matched
        self._altered[number] = self._altered[number] + altered

    def changed(self) -> tuple[int, ...]:
        """Altered tokens per intervention; waits for the device."""
        return tuple(int(n) for n in self._altered)

    def check(self) -> tuple[int, ...]:
        """The counts of altered tokens; an error where no token matched, a warning where none changed."""
        changed = self.changed()
        for intervention, matched, altered in zip(self.interventions, self.matched, changed, strict=True):
            if not matched:
                raise UserError(f"{intervention} matched no token: check its positions")
            if not altered:
                warnings.warn(f"{intervention} matched {matched} tokens and changed none", NoEffect, stacklevel=3)
        return changed


def run(
    network: Network,
    tokens: Tokens,
    capture: Iterable[Site] = (),
    effects: Effects | None = None,
    *,
    logits: bool = False,
    last_only: bool = False,
    cache: Any = None,
    reduce: Callable[[Site, Tensor], Any] | None = None,
    batch: Batch | None = None,
) -> Trace:
    """One forward pass.

    `tokens` describes the whole sequence; with a `cache`, its first columns have been seen and only the others run.
    Without logits the pass ends at the deepest site of `capture`. `reduce` replaces a captured state by something
    smaller at once, so that many sites fit in memory. Interventions are those of `effects`, which counts what they do
    (the trace does not: a count makes the device wait, and this is called in loops). `batch` says which texts of a
    larger call these are, so that each gets the states of its own donor.
    """
    effects = effects or Effects(())
    wanted = set(capture)
    deepest = None if logits else max(wanted, default=None)
    assert logits or deepest is not None, "nothing was asked for"
    started = cache.get_seq_length() if cache is not None else 0
    passing = _Pass(tokens, started, wanted, effects, deepest, reduce, batch or Batch.whole(len(tokens)))
    output = None
    with attached(network, passing.sites(), passing.visit):
        body = network.module if logits else network.module.base_model
        extra = {"logits_to_keep": 1} if last_only else {}
        output = body(
            **_inputs(network.module, tokens, started), past_key_values=cache, use_cache=cache is not None, **extra
        )
    return Trace(passing.captured, output.logits if logits and output is not None else None)


class _Pass:
    """One forward pass under way."""

    def __init__(
        self,
        tokens: Tokens,
        started: int,
        capture: set[Site],
        effects: Effects,
        deepest: Site | None,
        reduce: Callable[[Site, Tensor], Any] | None,
        batch: Batch,
    ) -> None:
        self.batch = batch
        self.capture, self.effects, self.deepest, self.reduce = capture, effects, deepest, reduce
        self.captured: AtSites[Any] = AtSites()
        self.columns = slice(started, tokens.ids.shape[1])
        self._states: dict[Site, Tensor] = {}
        self._sources = {source for intervention in effects.interventions for source in intervention.sources()}
        roles = tokens.roles.numpy()
        self._selected = [torch.from_numpy(i.positions.mask(roles))[:, self.columns] for i in effects.interventions]

    def sites(self) -> list[Site]:
        written = {intervention.site for intervention in self.effects.interventions}
        sites = sorted(self.capture | written | self._sources)
        if self.deepest is not None and sites[-1] != self.deepest:
            raise UserError(f"an intervention at {sites[-1]} cannot reach {self.deepest}, where the pass ends")
        return sites

    def visit(self, site: Site, h: Tensor) -> Tensor:
        self._states[site] = h  # an intervention may read the very site that it changes
        for number, intervention in enumerate(self.effects.interventions):
            if intervention.site == site:
                self._states[site] = h = self._change(number, intervention, h)
        if site not in self._sources:
            del self._states[site]
        if site in self.capture:
            if torch.is_grad_enabled() and not h.requires_grad:
                h = h.detach().requires_grad_()  # a captured state has a gradient though nothing before it has one
            self.captured[site] = self.reduce(site, h) if self.reduce else h
        if site == self.deepest:
            raise Reached
        return h

    def _change(self, number: int, intervention: Intervention, h: Tensor) -> Tensor:
        selected = self._selected[number]
        matched = int(selected.sum())
        if not matched:
            return h
        _check_width(intervention, intervention.basis, h)
        if intervention.when is not None:
            asked = intervention.when.site or intervention.read_site or intervention.site
            _check_width(intervention, intervention.when.basis, self._states[asked])
        read = self._states[intervention.read_site] if intervention.read_site else h
        pass_context = _PassContext(self, intervention, h)
        new = intervention.apply(h, read.to(h.device), selected.to(h.device), pass_context)
        self.effects.add(number, matched, (new != h).any(-1).sum())
        return new

    def state(self, site: Site) -> Tensor:
        return self._states[site]


@dataclass(frozen=True)
class _PassContext:
    """The parts of a pass that a rule may use (core.rules.PassContext)."""

    passing: _Pass
    intervention: Intervention
    h: Tensor

    def encode(self, h: Tensor) -> Tensor:
        if not h.ndim or h.shape[-1] != self.h.shape[-1]:
            given, wanted = tuple(h.shape), self.h.shape[-1]
            raise UserError(f"{self.intervention} holds states of shape {given}, the model's have {wanted} numbers")
        return self.intervention.basis.encode(h)

    def at(self, site: Site) -> Tensor:
        return self._wide(self.passing.state(site))

    def _wide(self, state: Tensor) -> Tensor:
        """A tensor on this device, at least in float32."""
        state = state.to(self.h.device)
        return state.float() if state.dtype.itemsize < 4 else state

    def aligned(self, values: np.ndarray | Tensor) -> Tensor:
        donor = torch.as_tensor(values)
        if donor.ndim == 1:
            return self._wide(donor)
        batch, columns = self.passing.batch, self.passing.columns
        start, stop = columns.start + batch.skipped, columns.stop + batch.skipped
        fits = donor.ndim in (2, 3) and donor.shape[-2] >= stop
        if not fits or (donor.ndim == 3 and len(donor) not in (1, batch.n_texts)):
            wanted = (batch.n_texts, stop, self.h.shape[-1])
            raise UserError(f"the donor of {self.intervention} has shape {tuple(donor.shape)}, the run {wanted}")
        if donor.ndim == 3 and len(donor) > 1:
            donor = donor[torch.as_tensor(batch.index, device=donor.device)]
        return self._wide(donor[..., start:stop, :])

    def per_text(self, values: np.ndarray | Tensor, z: Tensor) -> Tensor:
        batch, columns, k = self.passing.batch, self.passing.columns, z.shape[-1]
        start, stop = columns.start + batch.skipped, columns.stop + batch.skipped
        numbers = values.reshape(-1, 1, 1) if values.ndim == 1 and k == 1 else values
        fits = numbers.ndim == 3 and len(numbers) in (1, batch.n_texts) and numbers.shape[2] in (1, k)
        if not fits or not (numbers.shape[1] == 1 or numbers.shape[1] >= stop):
            shape = tuple(values.shape)
            raise UserError(
                f"{self.intervention} has numbers of shape {shape}: this call has {batch.n_texts} texts of "
                f"up to {stop} tokens and {k} coordinates; give one number, ({k},) for the coordinates, or "
                f"({batch.n_texts}, 1, 1) for the texts"
            )
        mine = numbers[batch.index] if len(numbers) > 1 else numbers
        return like(mine[:, start:stop] if mine.shape[1] > 1 else mine, z)


def _check_width(intervention: Intervention, basis: Basis, h: Tensor) -> None:
    width = basis.d_model
    if width is not None and width != h.shape[-1]:
        raise UserError(f"{intervention} has vectors of {width} numbers, the model's states have {h.shape[-1]}")


def context(module: Any) -> int:
    """Number of tokens the model can see at once."""
    return int(module.config.get_text_config().max_position_embeddings)


def _inputs(module: Any, tokens: Tokens, started: int) -> dict[str, Any]:
    """Arguments of the forward pass for the columns from `started` on.

    Padding on the right needs no mask: attention is causal and never looks there, and without a mask torch takes its
    fast path (filled with another id than the pad token, of which transformers would warn). Padding elsewhere needs
    the mask and explicit positions, so that a text's rows do not depend on it.
    """
    longest = context(module)
    if tokens.ids.shape[1] > longest:
        raise UserError(f"{tokens.ids.shape[1]} tokens exceed the model's context of {longest}: lower max_tokens")
    device = module.get_input_embeddings().weight.device
    ids = tokens.ids[:, started:].to(device)
    mask = tokens.mask
    if bool((mask[:, :-1] >= mask[:, 1:]).all()):
        return {"input_ids": ids.masked_fill(~mask[:, started:].to(device), int(ids[0, 0]))}
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, started:]
    return {"input_ids": ids, "attention_mask": mask.to(device), "position_ids": positions.to(device)}
