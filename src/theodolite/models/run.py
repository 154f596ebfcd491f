"""The one primitive: run tokens through the model, capture states at sites, change them on the way."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.basis import Basis
from theodolite.core.block_order import BlockOrder
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.site import AtSites, Site
from theodolite.core.tensors import like
from theodolite.models.arrange import arranged, check_sites
from theodolite.models.families import Network
from theodolite.models.hooks import Reached, attached
from theodolite.models.offload import entrance
from theodolite.models.past import Memory, Past, cache_argument
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


@dataclass(frozen=True)
class Start:
    """The stream at the input of a block, (n, t, d), from which passes over the same tokens go on."""

    block: int
    state: Tensor
    tokens: Tokens

    def check(self, tokens: Tokens, sites: Iterable[Site], order: BlockOrder | None) -> None:
        """Refuse a pass that this is no start of: other tokens, or a site or a change before the block."""
        own = self.tokens
        if tokens is not own and not (torch.equal(tokens.ids, own.ids) and torch.equal(tokens.roles, own.roles)):
            raise UserError(f"start holds states of {tuple(own.ids.shape)} other tokens: give those it was made of")
        for site in sites:
            if site < Site(self.block, "resid_pre"):
                raise UserError(f"{str(site)!r} lies before block {self.block}, where this pass starts")
        early = [depth for depth in (order.changes if order else ()) if depth < self.block]
        if early:
            raise UserError(f"{order} changes depth {early[0]}, before block {self.block}, where this pass starts")


class Effects:
    """The changes of a pass, with counts of the tokens each intervention matched and altered, over one pass or many."""

    def __init__(self, changes: Sequence[Intervention | BlockOrder]) -> None:
        self.interventions = [change for change in changes if isinstance(change, Intervention)]
        self.order = BlockOrder.merged(change for change in changes if isinstance(change, BlockOrder))
        self.matched = [0] * len(self.interventions)
        self._altered: list[Tensor | int] = [0] * len(self.interventions)  # on the device, until someone asks

    def __bool__(self) -> bool:
        return bool(self.interventions) or self.order is not None

    @classmethod
    def checked(cls, changes: Sequence[Intervention | BlockOrder], check: Callable[[Site], Any]) -> "Effects":
        """Return the effects of changes whose sites have passed a check; orders of blocks are checked by the pass."""
        for change in changes:
            if isinstance(change, Intervention):
                for site in (change.site, *change.sources()):
                    check(site)
        return cls(changes)

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
    logits: bool | Sequence[int] = False,
    after: Past | Start | None = None,
    reduce: Callable[[Site, Tensor], Any] | None = None,
    batch: Batch | None = None,
) -> Trace:
    """One forward pass.

    `tokens` describes the whole sequence. `after` is what has run: with a Past its first columns have been seen, and
    only the others run; with a Start no block before it runs.
    `logits` may be those of some columns alone, counted among the ones that run. Without any the pass ends at the
    deepest site of `capture`. `reduce` replaces a captured state by something smaller at once, so that many sites fit
    in memory. Changes are those of `effects`, which counts what interventions do (the trace does not: a count makes
    the device wait, and this is called in loops). `batch` says which texts of a larger call these are, so that each
    gets the states of its own donor.
    """
    effects = effects or Effects(())
    past = after if isinstance(after, Past) else None
    wanted = set(capture)
    with_logits = logits is not False
    deepest = None if with_logits else max(wanted, default=None)
    assert with_logits or deepest is not None, "nothing was asked for"
    passing = _Pass(tokens, past, wanted, effects, deepest, reduce, batch or Batch.whole(len(tokens)))
    sites, order = passing.sites(), effects.order.check(network.n_blocks) if effects.order else None
    check_sites(order, sites, network.n_blocks)
    start = after if isinstance(after, Start) else None
    if start is not None:
        start.check(tokens, sites, order)
    first, state = (start.block, start.state) if start is not None else (0, None)
    output = None
    with arranged(network, order, first, state), attached(network, sites, passing.visit):
        body = network.module if with_logits else network.module.base_model
        # a list of columns is taken by transformers as indices, a number as that many from the end
        kept = 1 if isinstance(logits, Sequence) and list(logits) == [-1] else logits
        extra = {} if isinstance(logits, bool) else {"logits_to_keep": kept if kept == 1 else torch.tensor(kept)}
        cache = past.cache if past is not None else None
        keys_and_values: dict[str, Any] = {cache_argument(type(body)): cache, "use_cache": cache is not None}
        inputs = _inputs(network.module, tokens, passing.columns.start)
        output = body(**inputs, **keys_and_values, **extra)
    return Trace(passing.captured, output.logits if with_logits and output is not None else None)


class _Pass:
    """One forward pass under way."""

    def __init__(
        self,
        tokens: Tokens,
        past: Past | None,
        capture: set[Site],
        effects: Effects,
        deepest: Site | None,
        reduce: Callable[[Site, Tensor], Any] | None,
        batch: Batch,
    ) -> None:
        self.batch = batch
        self.capture, self.effects, self.deepest, self.reduce = capture, effects, deepest, reduce
        self.captured: AtSites[Any] = AtSites()
        self.memory = past.memory if past is not None else Memory()
        self.columns = slice(past.length if past is not None else 0, tokens.ids.shape[1])
        self._states: dict[Site, Tensor] = {}
        self._sources = {source for intervention in effects.interventions for source in intervention.sources()}
        self._roles = tokens.roles.numpy()
        self._masks: dict[tuple[Any, Any], Tensor] = {}
        self._matched: dict[Any, int] = {}
        self._at: dict[Site, list[tuple[int, Intervention]]] = {}
        for number, intervention in enumerate(effects.interventions):
            self._at.setdefault(intervention.site, []).append((number, intervention))

    def sites(self) -> list[Site]:
        sites = sorted(self.capture | self._at.keys() | self._sources)
        if self.deepest is not None and sites[-1] != self.deepest:
            raise UserError(f"an intervention at {sites[-1]} cannot reach {self.deepest}, where the pass ends")
        return sites

    def visit(self, site: Site, h: Tensor) -> Tensor:
        self._states[site] = h  # an intervention may read the very site that it changes
        for number, intervention in self._at.get(site, ()):
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
        where = intervention.positions
        if where not in self._matched:
            self._matched[where] = int(self.selected(where).sum())
        matched = self._matched[where]
        if not matched and not intervention.remembers:
            return h
        _check_width(intervention, intervention.basis, h)
        if intervention.when is not None:
            asked = intervention.when.site or intervention.read_site or intervention.site
            _check_width(intervention, intervention.when.basis, self._states[asked])
        read = self._states[intervention.read_site] if intervention.read_site else h
        pass_context = _PassContext(self, number, intervention, h)
        new = intervention.apply(h, read.to(h.device), pass_context.selected, pass_context)
        self.effects.add(number, matched, (new != h).any(-1).sum())
        return new

    def selected(self, positions: Any, device: Any = None) -> Tensor:
        """Tokens (n, t) of this pass at positions; each mask is made once, and once more for each device."""
        key = positions, device
        if key not in self._masks:
            if device is not None:
                self._masks[key] = self.selected(positions).to(device)
            else:
                mask = positions.mask(self._roles, self.batch.index, self.batch.n_texts)
                self._masks[key] = torch.from_numpy(mask)[:, self.columns]
        return self._masks[key]

    def state(self, site: Site) -> Tensor:
        return self._states[site]


@dataclass(frozen=True)
class _PassContext:
    """The parts of a pass that a rule may use (core.rules.PassContext)."""

    passing: _Pass
    number: int
    intervention: Intervention
    h: Tensor

    @property
    def basis(self) -> Basis:
        return self.intervention.basis

    @property
    def selected(self) -> Tensor:
        return self.tokens_at(self.intervention.positions)

    def tokens_at(self, positions: Positions) -> Tensor:
        return self.passing.selected(positions, self.h.device)

    def recall(self, name: str = "") -> Tensor | None:
        kept = self.passing.memory.get((self.number, name))
        return None if kept is None else kept.to(self.h.device)

    def keep(self, value: Tensor, name: str = "") -> None:
        if value.shape[:1] != self.h.shape[:1]:
            raise UserError(
                f"{self.intervention} keeps a value of shape {tuple(value.shape)} for {len(self.h)} texts: its first "
                "axis is that of the texts"
            )
        self.passing.memory.set((self.number, name), value)

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
                f"up to {stop} tokens and {k} coordinates; give one number, ({k},) with one for each coordinate, or "
                f"({batch.n_texts}, 1, 1) with one for each text"
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
    device = entrance(module)
    ids = tokens.ids[:, started:].to(device)
    mask = tokens.mask
    if bool((mask[:, :-1] >= mask[:, 1:]).all()):
        return {"input_ids": ids.masked_fill(~mask[:, started:].to(device), int(ids[0, 0]))}
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, started:]
    return {"input_ids": ids, "attention_mask": mask.to(device), "position_ids": positions.to(device)}
