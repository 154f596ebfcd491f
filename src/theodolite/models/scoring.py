"""Probability of texts and continuations under the model."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.site import Site
from theodolite.models.constant import weights_constant
from theodolite.models.families import Network
from theodolite.models.finite import check_finite
from theodolite.models.run import LOGITS as AT_LOGITS
from theodolite.models.run import Batch, Effects, run
from theodolite.models.sweep import batches
from theodolite.models.tokens import Tokens

# float32 logits of a batch stay under 512 MiB
LOGITS = 2**27
_CACHED_ROWS = 16


class Scored(NamedTuple):
    """Log-probability of each text's scored tokens, in nats, and how many they are; both (n)."""

    log_prob: np.ndarray
    n_tokens: np.ndarray

    @property
    def loss(self) -> np.ndarray:
        """Mean cross-entropy per scored token of each text."""
        return -self.log_prob / self.n_tokens

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy over all scored tokens."""
        return float(-self.log_prob.sum() / self.n_tokens.sum())


@torch.no_grad()
def score(network: Network, tokens: Tokens, targets: Tensor, effects: Effects, batch_tokens: int) -> Scored:
    """Log-probability of the target tokens (n, t), each given all tokens before it."""
    check_targets(targets)
    total = np.zeros(len(tokens))
    score_rows(network, tokens, targets, effects, batch_tokens, np.arange(len(tokens)), total)
    effects.check()
    return Scored(total, targets.sum(1).numpy())


def check_targets(targets: Tensor) -> None:
    """Refuse target tokens (n, t) that stand first."""
    if targets[:, 0].any():
        raise UserError("the first token of a text has nothing before it and cannot be scored: choose other positions")


def score_rows(
    network: Network,
    tokens: Tokens,
    targets: Tensor,
    effects: Effects,
    batch_tokens: int,
    rows: np.ndarray,
    total: np.ndarray,
) -> None:
    """Write the log-probability of the target tokens of some texts of a call into `total`, at their places."""
    lengths = tokens.lengths[rows]
    vocabulary = network.module.get_input_embeddings().num_embeddings
    for chosen in batches(lengths, min(batch_tokens, max(lengths.max(), LOGITS // vocabulary))):
        index = rows[chosen]
        part = tokens[index].first(lengths[chosen].max())
        logits = run(network, part, effects=effects, logits=True, batch=Batch(index, len(tokens))).logits
        assert logits is not None
        total[index] = _log_prob(logits, part.ids, targets[index][:, : part.ids.shape[1]])


def divergence(network: Network, tokens: Tokens, targets: Tensor, effects: Effects) -> Tensor:
    """Mean KL(untouched || changed) in nats of what is predicted at the target tokens (n, t), in one pass each.

    The result has a gradient by what the interventions' rules hold; the model itself counts as constant, so that no
    activation is kept for the sake of its weights.
    """
    with torch.no_grad():
        clean = _logits(network, tokens, targets, None)
    with weights_constant(network):
        changed = _logits(network, tokens, targets, effects)
    effects.move(clean, changed)
    effects.check()
    clean, changed = clean.log_softmax(1), changed.log_softmax(1)
    return (clean.exp() * (clean - changed)).sum(1).mean()


@torch.no_grad()
def divergence_per_text(
    network: Network, tokens: Tokens, targets: Tensor, effects: Effects, batch_tokens: int
) -> np.ndarray:
    """Mean KL(untouched || changed) in nats over the target tokens (n, t) of each text; (n) float64.

    Only the states at the target tokens are unembedded, which is most of the work of a small model.
    """
    total, lengths = np.zeros(len(tokens)), tokens.lengths
    vocabulary = network.module.get_input_embeddings().num_embeddings
    for index in batches(lengths, min(batch_tokens, max(lengths.max(), LOGITS // (2 * vocabulary)))):
        part = tokens[index].first(lengths[index].max())
        wanted = targets[index][:, : part.ids.shape[1]]
        batch = Batch(index, len(tokens))
        clean, changed = _both(network, part, wanted, effects, batch)
        effects.move(clean, changed)
        clean, changed = clean.log_softmax(1), changed.log_softmax(1)
        per_token = torch.zeros(wanted.shape, dtype=torch.float64, device=clean.device)
        per_token[wanted.to(clean.device)] = divergence_of_rows(clean, changed)
        total[index] = per_token.sum(1).cpu().numpy()
    effects.check()
    return total / targets.sum(1).numpy()


def divergence_of_rows(clean: Tensor, changed: Tensor, rows: Tensor | None = None) -> Tensor:
    """KL(clean || changed) in nats of each row of log-probabilities (rows, vocabulary); (rows) float64.

    rows: numbers of those rows of `clean` that are compared, in their order, where it has more.
    Summed in float32, which errs by about 2e-7 of a divergence of .001 at a vocabulary of 49,152.
    """
    # a few rows at a time stay in the cache of a CPU, which more than halves the time
    size = _CACHED_ROWS if clean.device.type == "cpu" else len(changed)
    some = clean.split(size) if rows is None else (clean[index] for index in rows.to(clean.device).split(size))
    pairs = zip(some, changed.split(size), strict=True)
    return torch.cat([(one.exp() * (one - other)).sum(1).double() for one, other in pairs])


def _both(network: Network, tokens: Tokens, targets: Tensor, effects: Effects, batch: Batch) -> list[Tensor]:
    """Logits at the targets, (rows, vocabulary), of the untouched model and of the changed one.

    Changes of the logits themselves act on what the model returns, not on states that are unembedded here; both then
    come from whole passes, since a product of other rows rounds otherwise, and no change has to give no divergence.
    """
    if any(change.site == AT_LOGITS for change in effects.interventions):
        return [_logits(network, tokens, targets, these, batch) for these in (None, effects)]
    return [_unembedded(network, tokens, targets, these, batch) for these in (None, effects)]


def _unembedded(network: Network, tokens: Tokens, targets: Tensor, effects: Effects | None, batch: Batch) -> Tensor:
    """Logits of the next token at the targets, from their states at the final norm."""
    end = Site(None, "final_norm")
    chosen = run(network, tokens, [end], effects, batch=batch, reduce=lambda _, h: h[targets.to(h.device)])
    logits = network.unembed(chosen.activations[end])
    if effects:
        check_finite(logits, effects, lambda e: run(network, tokens, effects=e, logits=True, batch=batch))
    return logits.float() if logits.dtype.itemsize < 4 else logits


def _logits(
    network: Network, tokens: Tokens, targets: Tensor, effects: Effects | None, batch: Batch | None = None
) -> Tensor:
    """Logits of the next token at the targets, from a pass that returns those of all tokens."""
    logits = run(network, tokens, effects=effects, logits=True, batch=batch).logits
    assert logits is not None
    rows = logits[targets.to(logits.device)]
    return rows.float() if rows.dtype.itemsize < 4 else rows


def _log_prob(logits_ntv: Tensor, ids_nt: Tensor, targets_nt: Tensor) -> np.ndarray:
    chosen = targets_nt[:, 1:].to(logits_ntv.device)
    rows = logits_ntv[:, :-1][chosen].float()
    picked = rows.gather(1, ids_nt[:, 1:].to(rows.device)[chosen].unsqueeze(1)).squeeze(1)
    per_token = torch.zeros(chosen.shape, dtype=torch.float64, device=rows.device)
    per_token[chosen] = (picked - rows.logsumexp(1)).double()
    return per_token.sum(1).cpu().numpy()
