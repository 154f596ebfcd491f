"""The one primitive: run tokens through the model, capture states at sites, change them on the way."""

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.basis import Basis, Identity
from theodolite.core.block_order import BlockOrder
from theodolite.core.contradictions import check_together
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import AtSites, Site
from theodolite.models.arrange import arranged, check_sites
from theodolite.models.families import Network
from theodolite.models.finite import check_finite
from theodolite.models.hooks import Reached, attached
from theodolite.models.offload import entrance
from theodolite.models.pass_context import ModelPassContext
from theodolite.models.past import Memory, Past, cache_argument
from theodolite.models.tokens import Tokens

LOGITS = Site(None, "logits")
LEAST_MOVED = 1e-4  # a smaller change of every logit is that of rounding


class NoEffect(UserWarning):
    """An intervention that left every token as it was, or interventions that moved no logit by 1e-4."""


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
        self.at: dict[Site, list[tuple[int, Intervention]]] = {}  # sorted once for all passes of a generation
        for number, intervention in enumerate(self.interventions):
            self.at.setdefault(intervention.site, []).append((number, intervention))
        self.sources = {source for intervention in self.interventions for source in intervention.sources()}
        self.sites = sorted(self.at.keys() | self.sources)
        self._widths: dict[int, int] = {}  # of the states that the vectors of an intervention are known to fit
        self.matched = [0] * len(self.interventions)
        self._altered: list[Tensor | int] = [0] * len(self.interventions)  # on the device, until someone asks
        self.counting = True
        self.moved: float | None = None  # largest change of a logit, where a caller knows those without changes too
        self.norms: dict[int, tuple[float, float]] | None = None  # see `watched`

    def __bool__(self) -> bool:
        return bool(self.interventions) or self.order is not None

    @classmethod
    def checked(cls, changes: Sequence[Intervention | BlockOrder], check: Callable[[Site], Any]) -> "Effects":
        """Return the effects of changes whose sites have passed a check; orders of blocks are checked by the pass."""
        for change in changes:
            if isinstance(change, Intervention):
                for site in (change.site, *change.sources()):
                    check(site)
        effects = cls(changes)
        check_together(effects.interventions)
        return effects

    @property
    def did_nothing(self) -> bool:
        """Return whether all logits are known to have stayed where they were, up to rounding."""
        return self.moved is not None and self.moved < LEAST_MOVED

    def move(self, clean: Tensor, changed: Tensor) -> None:
        """Note how far logits have moved from those of the untouched model."""
        if clean.numel():
            self.moved = max(self.moved or 0.0, float((clean.detach() - changed.detach()).abs().max()))

    def watched(self) -> "Effects":
        """Return the same changes with a record of the largest norm of a state before and after each intervention."""
        again = Effects([*self.interventions, *([self.order] if self.order else [])])
        again.norms = {}
        return again

    def check_width(self, number: int, h: Tensor) -> None:
        """Refuse an intervention with vectors of another width than the states that it changes."""
        width = h.shape[-1]
        if self._widths.get(number) != width:
            intervention = self.interventions[number]
            _check_width(intervention, intervention.basis, h)
            self._widths[number] = width

    def add(self, number: int, matched: int, altered: Tensor | None) -> None:
        self.matched[number] += matched
        if altered is not None:
            self._altered[number] = self._altered[number] + altered

    def count_until_changed(self) -> None:
        """Stop to count once every intervention is known to have altered a token; a caller that only checks does this.

        A count costs as much as the addition of a vector, in each step of a generation.
        """
        self.counting = self.counting and not all(self.changed())

    def changed(self) -> tuple[int, ...]:
        """Altered tokens per intervention; waits for the device."""
        return tuple(int(n) for n in self._altered)

    def check(self) -> tuple[int, ...]:
        """The counts of altered tokens; an error where no token matched, a warning where nothing changed."""
        changed = self.changed()
        for intervention, matched, altered in zip(self.interventions, self.matched, changed, strict=True):
            if not matched:
                raise UserError(f"{intervention} matched no token: check its positions")
            if not altered:
                warnings.warn(f"{intervention} matched {matched} tokens and changed none", NoEffect, stacklevel=3)
        if self.did_nothing and all(changed):
            did = " and ".join(map(str, self.interventions[:3])) or str(self.order)
            more = f" and {len(self.interventions) - 3} more" if len(self.interventions) > 3 else ""
            warnings.warn(
                f"{did}{more} did nothing: no logit that was compared moved by {LEAST_MOVED:g} (the largest change is "
                f"{self.moved:.2g}); give a larger strength, or positions at or before the tokens that are compared",
                NoEffect,
                stacklevel=3,
            )
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
    gets the states of its own donor. Logits that are NaN or infinite after a change are an error.
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
    output, kept = None, None if isinstance(logits, bool) else list(logits)
    passing.kept = kept = None if LOGITS in sites and passing.needs_all_logits else kept
    with arranged(network, order, first, state), attached(network, sites, passing.visit):
        body = network.module if with_logits or LOGITS in sites else network.module.base_model
        # a list of columns is taken by transformers as indices, a number as that many from the end
        extra = {} if kept is None else {"logits_to_keep": 1 if kept == [-1] else torch.tensor(kept)}
        cache = past.cache if past is not None else None
        kind: Any = type(body)
        keys_and_values: dict[str, Any] = {_cache_argument(kind): cache, "use_cache": cache is not None}
        inputs = _inputs(network.module, tokens, passing.columns.start)
        output = body(**inputs, **keys_and_values, **extra)
    found = output.logits if with_logits and output is not None else None
    if found is not None and kept is None and not isinstance(logits, bool):
        found = found[:, list(logits)]
    if found is not None and effects and effects.norms is None:
        # over all tokens, whatever has run before
        check_finite(found, effects, lambda e: run(network, tokens, effects=e, logits=True, after=start, batch=batch))
    return Trace(passing.captured, found)


@lru_cache(maxsize=16)
def _cache_argument(kind: Hashable) -> str:
    """Return `cache_argument` of a class from memory: its signature takes as long to read as a block to run."""
    return cache_argument(kind)  # type: ignore[arg-type]


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
        self.kept: list[int] | None = None  # columns whose logits are computed, None for all
        self._states: dict[Site, Tensor] = {}  # of the sites that an intervention reads
        self._roles = tokens.roles.numpy()
        self._size = self._roles.shape[0] * (self.columns.stop - self.columns.start)
        self._masks: dict[tuple[str, Any], Tensor] = {}  # by the text of positions, whose hash is known
        self._matched: dict[str, int] = {}

    def sites(self) -> list[Site]:
        own = self.effects.sites
        sites = sorted(self.capture.union(own)) if self.capture else own
        if self.deepest is not None and sites[-1] != self.deepest:
            raise UserError(f"an intervention at {sites[-1]} cannot reach {self.deepest}, where the pass ends")
        return sites

    @property
    def needs_all_logits(self) -> bool:
        """Return whether logits are captured, or a change of them depends on columns that nobody asked for."""
        return LOGITS in self.capture or any(change.remembers for _, change in self.effects.at.get(LOGITS, ()))

    def computed(self, site: Site, values: Tensor) -> Tensor:
        """Return values (..., t, k) of all columns at those that are computed at a site."""
        return values if self.kept is None or site != LOGITS else values[..., self.kept, :]

    def visit(self, site: Site, h: Tensor) -> Tensor:
        # a hash of a site takes as long as an addition of vectors: none where nothing is asked for
        sources, capture = self.effects.sources, self.capture
        read = bool(sources) and site in sources
        if read:
            self._states[site] = h  # an intervention may read the very site that it changes
        for number, intervention in self.effects.at.get(site, ()):
            h = self._change(number, intervention, h)
            if read:
                self._states[site] = h
        if capture and site in capture:
            if torch.is_grad_enabled() and not h.requires_grad:
                h = h.detach().requires_grad_()  # a captured state has a gradient though nothing before it has one
            self.captured[site] = self.reduce(site, h) if self.reduce else h
        if self.deepest is not None and site == self.deepest:
            raise Reached
        return h

    def _change(self, number: int, intervention: Intervention, h: Tensor) -> Tensor:
        where, effects = intervention.positions, self.effects
        matched = self._matched.get(where.text)
        if matched is None:
            matched = self._matched[where.text] = int(self.selected(where).sum())
        if not matched and not intervention.remembers:
            return h
        effects.check_width(number, h)
        read = h
        if intervention.read_site is not None:
            read = self.state_at(intervention.read_site, intervention.site).to(h.device)
        if (when := intervention.when) is not None:
            asked = when.site or intervention.read_site
            _check_width(intervention, when.basis, h if asked is None else self._states[asked])
        pass_context = ModelPassContext(self, number, intervention, h)
        # a choice between old and new costs as much as an addition; a whole state of a donor is not handed on itself
        all_tokens = matched == self._size and not isinstance(intervention.basis, Identity)
        selected = None if all_tokens else pass_context.selected
        new = intervention.apply(h, read, selected, pass_context)
        effects.add(number, matched, (new != h).any(-1).sum() if effects.counting else None)
        if effects.norms is not None:
            norms = [float(x.detach().double().norm(dim=-1)[pass_context.selected].max()) for x in (h, new)]
            effects.norms[number] = norms[0], norms[1]
        return new

    def selected(self, positions: Any, device: Any = None) -> Tensor:
        """Tokens (n, t) of this pass at positions; each mask is made once, and once more for each device."""
        key = positions.text, device
        if key not in self._masks:
            if device is not None:
                self._masks[key] = self.selected(positions).to(device)
            else:
                mask = positions.mask(self._roles, self.batch.index, self.batch.n_texts)
                self._masks[key] = torch.from_numpy(mask)[:, self.columns]
        return self._masks[key]

    def state_at(self, source: Site, site: Site) -> Tensor:
        """Return the state at an earlier site, for what acts at `site`."""
        return self._states[source] if source == site else self.computed(site, self._states[source])


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
    if bool(mask.all()):  # as in most steps of a generation
        return {"input_ids": ids}
    if bool((mask[:, :-1] >= mask[:, 1:]).all()):
        return {"input_ids": ids.masked_fill(~mask[:, started:].to(device), int(ids[0, 0]))}
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, started:]
    return {"input_ids": ids, "attention_mask": mask.to(device), "position_ids": positions.to(device)}
