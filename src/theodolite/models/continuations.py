"""Probability of continuations; a prompt with several continuations is read once."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from theodolite.models.families import Network
from theodolite.models.past import Past
from theodolite.models.run import Batch, Effects, run
from theodolite.models.scoring import LOGITS, Scored, check_targets, score_rows
from theodolite.models.tokens import Encoding, Tokens, pad

_LEAST_SAVED = 256  # tokens that prompts of one length must save together, because they need batches of their own


@torch.no_grad()
def score_continuations(
    network: Network,
    prompts: Sequence[Encoding],
    joined: Tokens,
    targets: Tensor,
    effects: Effects,
    batch_tokens: int,
) -> Scored:
    """Return the log-probability of the target tokens (n, t), which follow each prompt in `joined`, given all before.

    A repeated prompt is read once, and each continuation goes on from its keys and values. The matrices then have
    another shape, so that sums differ by the rounding of float32. Prompts are shared only where every intervention
    does the same to equal prompts.
    """
    check_targets(targets)
    total, lengths = np.zeros(len(joined)), joined.lengths
    rest = np.ones(len(joined), bool)
    shared = _repeated(prompts) if _same_on_equal_prompts(network, prompts, joined, effects) else ()
    for length, rows in shared:
        rest[rows] = False
        for part in _parts(network, rows, lengths, length, batch_tokens):
            total[part] = _score_after(network, prompts, joined, effects, part)
    if rest.any():
        score_rows(network, joined, targets, effects, batch_tokens, np.flatnonzero(rest), total)
    effects.check()
    return Scored(total, targets.sum(1).numpy())


def _repeated(prompts: Sequence[Encoding]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows with repeated prompts, by length of the prompt; rows with equal prompts lie side by side."""
    groups: dict[tuple[int, bytes], list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault((len(prompt), prompt.ids.tobytes() + prompt.roles.tobytes()), []).append(row)
    for length in sorted({length for length, _ in groups}):
        several = [rows for (n, _), rows in groups.items() if n == length and len(rows) > 1]
        if sum(length * (len(rows) - 1) for rows in several) >= _LEAST_SAVED:
            yield length, np.concatenate(several)


def _same_on_equal_prompts(network: Network, prompts: Sequence[Encoding], joined: Tokens, effects: Effects) -> bool:
    """Return whether what the interventions do to a prompt depends on the prompt alone.

    It does not with a strength or a donor for each text, nor at positions that the continuation moves, as `all[-1]`.
    """
    if Past.empty(network, effects.order) is None:
        return False  # no block runs, so there are no keys and values to share
    if not all(change.is_alike for change in effects.interventions):
        return False
    alone = pad(prompts, 0)
    width = alone.ids.shape[1]
    of_prompt = np.arange(width) < alone.lengths[:, None]
    for positions in {place for change in effects.interventions for place in change.places()}:
        if positions.per_text:
            return False
        found, wanted = positions.mask(joined.roles.numpy()), positions.mask(alone.roles.numpy())
        if (found[:, :width] & of_prompt != wanted & of_prompt).any():
            return False
    return True


def _parts(network: Network, rows: np.ndarray, lengths: np.ndarray, start: int, batch_tokens: int) -> list[np.ndarray]:
    """Rows in batches whose keys, values and logits fit in memory."""
    longest = int(lengths[rows].max())
    logits = LOGITS // (network.module.get_input_embeddings().num_embeddings * (longest - start))
    most = max(1, min(batch_tokens // longest, logits))
    return np.split(rows, range(most, len(rows), most))


def _score_after(
    network: Network, prompts: Sequence[Encoding], joined: Tokens, effects: Effects, rows: np.ndarray
) -> np.ndarray:
    """Log-probabilities of the rows' continuations; their prompts have one length, and equal ones lie side by side."""
    length = len(prompts[rows[0]])
    keys = [prompts[row].ids.tobytes() for row in rows]
    first = [i for i in range(len(rows)) if i == 0 or keys[i] != keys[i - 1]]
    of_row = (np.searchsorted(first, np.arange(len(rows)), side="right") - 1).tolist()
    past = Past.empty(network, effects.order)
    assert past is not None, "checked before: some block runs"
    once = rows[first]
    asked = joined[once].first(length)
    at_prompt = run(network, asked, effects=effects, logits=[-1], after=past, batch=Batch(once, len(joined))).logits
    assert at_prompt is not None
    predictions = at_prompt[of_row]
    part = joined[rows].first(int(joined.lengths[rows].max()))
    # nothing is predicted at the last tokens: they run only so that interventions match and count there
    to_read = part if effects else part.first(part.ids.shape[1] - 1)
    if to_read.ids.shape[1] > length:
        batch = Batch(rows, len(joined))
        behind = run(network, to_read, effects=effects, logits=True, after=past.rows(of_row), batch=batch).logits
        assert behind is not None
        predictions = torch.cat([predictions, behind], 1)
    ids, real = (x[:, length:].to(predictions.device) for x in (part.ids, part.mask))
    return _summed(predictions[:, : ids.shape[1]], ids, real)


def _summed(predictions_ntv: Tensor, ids_nt: Tensor, real_nt: Tensor) -> np.ndarray:
    """Sum of the log-probabilities of the tokens that are no padding; (n) float64."""
    rows = predictions_ntv[real_nt].float()
    picked = rows.gather(1, ids_nt[real_nt].unsqueeze(1)).squeeze(1)
    per_token = torch.zeros(real_nt.shape, dtype=torch.float64, device=rows.device)
    per_token[real_nt] = (picked - rows.logsumexp(1)).double()
    return per_token.sum(1).cpu().numpy()
