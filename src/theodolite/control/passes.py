"""Teacher-forced passes over fixed tokens: what the unchanged model says there is computed once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.control.at_logits import Where, changed_logits
from theodolite.control.policy import Policy, Predictions
from theodolite.core.block_order import BlockOrder
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Texts
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.models import preflight, scoring
from theodolite.models.model import Model
from theodolite.models.run import Batch, Effects, Start, run
from theodolite.models.spans import found_in, placed
from theodolite.models.sweep import batches, select
from theodolite.models.tokens import Tokens

Change = Intervention | BlockOrder
_KEPT = 2  # log-probabilities beside the clean ones that are kept, as of a prompt and its opposite
_END = Site(None, "final_norm")


@dataclass(frozen=True)
class _Part:
    """Texts that run together: their numbers, tokens, targets (n, t), and places among the rows of all."""

    index: np.ndarray
    tokens: Tokens
    targets: Tensor
    rows: Tensor


class Passes:
    """Passes over the same tokens (n, t), padded on the right, and the predictions at their targets (n, t) bool.

    A target is a token after which the next one is predicted; a row is one target, text after text. `clean` holds the
    log-probabilities (rows, vocabulary) of the unchanged model in float32. The states before a block are kept once a
    change at that block has asked for them, (n, t, d) each; those before `changes` that are still to come, from the
    first pass on. `spent` counts what has run for policies in forward passes over all the tokens: blocks times tokens,
    unembeddings not. `shared` counts alike what has run once for all of them, the clean pass and the states before
    blocks: no policy is charged for being the first.

    Memory: rows * vocabulary * 4 bytes for `clean` (302 MB at 1,536 rows and a vocabulary of 49,152), as much again for
    what a policy gives, and twice as much at most for the prompts of a dial. More than half of what is free is refused.

    >>> from theodolite.control.policy import Intervened
    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> passes = Passes.of(model, ["a text", "another one"], max_tokens=8)
    >>> push = Intervened(model, (Intervention.add("blocks.2.resid_pre", [1.0] * 32),))
    >>> tuple(passes.clean.shape), passes.kl(push).shape, round(passes.spent, 3)
    ((14, 260), (2,), 0.333)
    """

    def __init__(
        self,
        model: Model,
        tokens: Tokens,
        targets: Tensor,
        batch_tokens: int | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        if targets.shape != tokens.ids.shape or targets.dtype != torch.bool:
            raise UserError(f"targets are a mask of the tokens {tuple(tokens.ids.shape)}, not {tuple(targets.shape)}")
        if not bool(targets.any(1).all()) or bool((targets & ~tokens.mask).any()):
            raise UserError("each text needs a target, and no target may be padding")
        self.model, self.tokens, self.targets = model, tokens, targets
        self.n_rows = int(targets.sum())
        self.text_of_row = targets.nonzero()[:, 0].numpy()
        self.n_targets = targets.sum(1).numpy()
        self.vocabulary = int(model.network.module.get_input_embeddings().num_embeddings)
        self._check_memory()
        self._parts = self._divided(batch_tokens or model.batch_tokens(None))
        self._starts: dict[int, list[Start]] = {}
        self._ends: list[Tensor] | None = None
        self._kept: dict[Any, Tensor] = {}
        self.spent = self.shared = 0.0
        before, _ = self._split(changes)
        self.clean = self._first_pass(self._first_block(before) if before else 0)
        self.spent, self.shared = 0.0, self.spent

    @property
    def unchanged(self) -> Predictions:
        """Predictions of the unchanged model at all targets."""
        return Predictions(torch.arange(self.n_rows), self.clean)

    @classmethod
    def of(
        cls,
        model: Model,
        texts: Texts,
        *,
        positions: Positions | str = "all",
        format: Any = "raw",
        max_tokens: int = 24,
        batch_tokens: int | None = None,
    ) -> "Passes":
        """Return passes over the first tokens of texts, with what follows the tokens at `positions` predicted."""
        tokens = model.tokens(texts, format=format, max_tokens=max_tokens)
        return cls(
            model, tokens, select(tokens, found_in(Positions.parse(positions), model.tokenizer, tokens)), batch_tokens
        )

    def log_probs(self, policy: Policy) -> Tensor:
        """Log-probabilities (rows, vocabulary) of a policy; NaN or infinite ones are an error."""
        return self._joined(self._finite(policy))

    def kl_of_rows(self, policy: Policy) -> np.ndarray:
        """KL(model || policy) in nats at each target, (rows) float64."""
        found = torch.empty(self.n_rows, dtype=torch.float64)
        # batch by batch: a tensor of all rows at once takes a quarter of the time, to fill memory and to read it again
        for rows, log_probs in self._finite(policy):
            found[rows] = scoring.divergence_of_rows(self.clean, log_probs, rows).cpu()
        return found.numpy()

    def kl(self, policy: Policy) -> np.ndarray:
        """Mean KL(model || policy) over the targets of each text, (n) float64: equal to `Model.kl_per_text`."""
        return self.per_text(self.kl_of_rows(policy))

    def per_text(self, values: np.ndarray) -> np.ndarray:
        """Mean of values (rows) over the targets of each text, (n) float64."""
        return np.bincount(self.text_of_row, values, len(self.tokens)) / self.n_targets

    def intervened(self, model: Model, changes: Sequence[Change] | Change) -> Iterator[Predictions]:
        """Yield log-probabilities under interventions, batch by batch: those of whole passes, bit for bit.

        They run from the first block that they change on. One at `logits` alone costs no pass: it acts on the clean
        log-probabilities, which are logits up to a constant of each row.
        """
        self.check_model(model)
        before, at_end = self._split(changes)
        for change in at_end:
            self._check_matched(change)
        if not before:
            yield from (self._at_logits(at_end, part) for part in self._parts) if at_end else [self.unchanged]
            return
        effects, block = Effects.checked(before, self.model.site), self._first_block(before)
        for part, start in zip(self._parts, self.starts(block), strict=True):
            yield self._predictions(part, effects, block, start, at_end)
        effects.check()

    @torch.no_grad()
    def states(self, site: Site, changes: Sequence[Change] = ()) -> list[Tensor]:
        """States (rows of a batch, d) at a site at the targets, one tensor for each batch, under interventions."""
        before, _ = self._split(changes)
        before = [c for c in before if not isinstance(c, Intervention) or not site < c.site]
        effects = Effects.checked(before, self.model.site)
        depth = site.block if site.block is not None else (0 if site.part == "embed" else self.model.n_blocks - 1)
        block = min(self._first_block(before), depth) if before else depth
        found = []
        for part, start in zip(self._parts, self.starts(block), strict=True):
            self.spent += self._passes(part.tokens, site.last_block(self.model.n_blocks) + 1 - block)

            def at_targets(_: Site, h: Tensor, chosen: Tensor = part.targets) -> Tensor:
                return h[chosen.to(h.device)]

            trace = run(
                self.model.network,
                part.tokens,
                [site],
                effects,
                after=start,
                batch=Batch(part.index, len(self.tokens)),
                reduce=at_targets,
            )
            found.append(trace.activations[site])
        return found

    def rows_of_batches(self) -> list[Tensor]:
        """Places among the rows of all, for what `states` gives batch by batch."""
        return [part.rows for part in self._parts]

    @torch.no_grad()
    def starts(self, block: int) -> Sequence[Start | None]:
        """States of each batch at the input of a block, computed once; None stands for a whole pass."""
        if block == 0:
            return [None] * len(self._parts)
        if block not in self._starts:
            nearest = max((known for known in self._starts if known < block), default=0)
            site, found = Site(block, "resid_pre"), []
            for part, before in zip(self._parts, self.starts(nearest), strict=True):
                self.shared += self._passes(part.tokens, block - nearest)
                state = run(self.model.network, part.tokens, [site], after=before).activations[site]
                found.append(Start(block, state, part.tokens))
            self._starts[block] = found
        return self._starts[block]

    def kept(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """Log-probabilities that several policies share, made once; the two that were asked for last are kept."""
        found = self._kept.pop(key) if key in self._kept else make()
        while len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = found
        return found

    def forget(self) -> None:
        """Drop what `kept` holds."""
        self._kept.clear()

    def of_other_tokens(self, tokens: Tokens, targets: Tensor) -> Tensor:
        """Log-probabilities (rows, vocabulary) of the unchanged model at as many targets of other tokens.

        The texts are those of the passes in their order, each with as many targets as there.
        """
        if not torch.equal(targets.sum(1), self.targets.sum(1)):
            raise UserError("other tokens must have the targets of the passes, text for text")
        found = []
        for part in self._parts:
            longest = int(tokens.lengths[part.index].max())
            its = tokens[part.index].first(longest)
            other = _Part(part.index, its, targets[part.index][:, :longest], part.rows)
            found.append(self._predictions(other, None, 0))
        return self._joined(found)

    def check_model(self, model: Model) -> None:
        """Refuse a policy of another model: its divergence would be that of two models."""
        if model is not self.model:
            raise UserError(f"the policy is of {model!r}, the passes are of {self.model!r}: give the same model")

    def _first_pass(self, keep: int) -> Tensor:
        """Log-probabilities of the unchanged model; the states before a block, unless it is the first, are kept."""
        if not keep:
            return self._joined(self._predictions(part, None, 0) for part in self._parts)
        self._starts[keep] = []
        return self._joined(self._predictions(part, None, 0, keep=(keep, self._starts[keep])) for part in self._parts)

    @torch.no_grad()
    def _predictions(
        self,
        part: _Part,
        effects: Effects | None,
        block: int,
        start: Start | None = None,
        at_end: Sequence[Intervention] = (),
        keep: tuple[int, list[Start]] | None = None,
    ) -> Predictions:
        """Log-probabilities at the targets of one batch, from a block on; only these states are unembedded.

        keep: a block, and a list to which the states before it are added.
        """
        self.spent += self._passes(part.tokens, self.model.n_blocks - block)
        network, chosen = self.model.network, part.targets
        batch = Batch(part.index, len(self.tokens))
        kept = [Site(keep[0], "resid_pre")] if keep else []
        trace = run(
            network,
            part.tokens,
            [*kept, _END],
            effects,
            after=start,
            batch=batch,
            reduce=lambda site, h: h[chosen.to(h.device)] if site == _END else h,
        )
        if keep:
            keep[1].append(Start(keep[0], trace.activations[kept[0]], part.tokens))
        logits = network.unembed(trace.activations[_END])
        wide = logits.float() if logits.dtype.itemsize < 4 else logits
        return Predictions(part.rows, changed_logits(at_end, wide, self._where(part)).log_softmax(1))

    @torch.no_grad()
    def _at_logits(self, changes: Sequence[Intervention], part: _Part) -> Predictions:
        changed = changed_logits(changes, self.clean[part.rows], self._where(part))
        return Predictions(part.rows, changed.log_softmax(1))

    def _check_matched(self, change: Intervention) -> None:
        """Refuse a change at the logits whose positions hold no token, as a pass refuses one of states."""
        masks = (change.positions.mask(p.tokens.roles.numpy(), p.index, len(self.tokens)) for p in self._parts)
        if not any(mask.any() for mask in masks):
            raise UserError(f"{change} matched no token: check its positions")

    def _where(self, part: _Part) -> Where:
        return Where(part.tokens, part.targets, part.index, len(self.tokens))

    def _finite(self, policy: Policy) -> Iterator[Predictions]:
        """Yield the predictions of a policy; NaN or infinite ones are an error."""
        for one in policy.predictions(self):
            # one sum tells: it is finite unless some number is not, since log-probabilities have one sign
            if not bool(one.log_probs.sum().isfinite()):
                bad = int((~one.log_probs.isfinite()).any(1).sum())
                raise UserError(
                    f"{policy} gives NaN or infinite log-probabilities at {bad} of {len(one.rows)} targets: give a "
                    "smaller strength, or load the model with dtype='float32'"
                )
            yield one

    def _joined(self, parts: Iterable[Predictions]) -> Tensor:
        """One tensor (rows, vocabulary) in the order of the texts, filled batch by batch so that it exists once."""
        whole: Tensor | None = None
        for rows, log_probs in parts:
            if whole is None and torch.equal(rows, torch.arange(self.n_rows)):
                return log_probs.float()
            if whole is None:
                whole = torch.empty(self.n_rows, log_probs.shape[1], device=log_probs.device)
            whole[rows.to(whole.device)] = log_probs.float()
        assert whole is not None
        return whole

    def _split(self, changes: Sequence[Change] | Change) -> tuple[list[Change], list[Intervention]]:
        """Changes with their positions found, those before the logits and those at them."""
        listed = [changes] if isinstance(changes, Change) else list(changes)
        every = [placed(change, self.model.tokenizer, self.tokens) for change in listed]
        at_end = [c for c in every if isinstance(c, Intervention) and _is_at_logits(c)]
        return [c for c in every if not _is_at_logits(c)], at_end

    def _first_block(self, changes: Sequence[Change]) -> int:
        """First block that has to run for changes; a site behind the blocks needs the last one."""
        firsts = []
        for change in changes:
            if isinstance(change, BlockOrder):
                firsts.append(min(change.changes, default=0))
                continue
            for site in (change.site, *change.sources()):
                last = self.model.n_blocks - 1
                firsts.append(site.block if site.block is not None else (0 if site.part == "embed" else last))
        return min(firsts)

    def _passes(self, tokens: Tokens, blocks: int) -> float:
        """Number of forward passes over all the tokens that so many blocks over these make up."""
        return blocks / self.model.n_blocks * int(tokens.mask.sum()) / int(self.tokens.mask.sum())

    def _divided(self, batch_tokens: int) -> list[_Part]:
        lengths = self.tokens.lengths
        # as in `Model.kl_per_text`, so that its figures are ours bit for bit
        most = min(batch_tokens, max(lengths.max(), scoring.LOGITS // (2 * self.vocabulary)))
        first = np.concatenate([[0], self.n_targets.cumsum()])
        parts = []
        for index in batches(lengths, most):
            part = self.tokens[index].first(lengths[index].max())
            rows = np.concatenate([np.arange(first[i], first[i + 1]) for i in index])
            targets = self.targets[index][:, : part.ids.shape[1]]
            parts.append(_Part(index, part, targets, torch.from_numpy(rows)))
        return parts

    def _check_memory(self) -> None:
        needed, left = 4 * self.n_rows * self.vocabulary, preflight.available(self.model.device)
        if 2 * needed > left / 2:
            raise UserError(
                f"log-probabilities at {self.n_rows} targets of a vocabulary of {self.vocabulary} take "
                f"{2 * needed / 2**30:.1f} GiB, and {left / 2**30:.1f} GiB is free: give fewer texts or tokens"
            )


def _is_at_logits(change: Change) -> bool:
    return isinstance(change, Intervention) and change.site.part == "logits"
