"""Other sides of a disturbance: where the edit acts, how often latents fire, and on the text that it writes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from theodolite.control.passes import Change, Passes
from theodolite.control.policy import Intervened, Policy
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Format, Texts
from theodolite.core.latents import LatentBasis
from theodolite.core.positions import Role
from theodolite.models.generate import Generation
from theodolite.models.model import Model
from theodolite.models.tokens import Encoding, pad


def acting(policy: Policy, passes: Passes) -> np.ndarray:
    """Return at which targets (rows) a policy changes the state at the first site that it changes.

    A prompt and an edit of the logits act everywhere. Later sites are not looked at: there, states differ already by
    what attention has carried from other tokens.
    """
    changes = _interventions(policy)
    if changes is None or (changes and min(c.site for c in changes).part == "logits"):
        return np.ones(passes.n_rows, bool)
    if not changes:
        return np.zeros(passes.n_rows, bool)
    site, found = min(change.site for change in changes), np.zeros(passes.n_rows, bool)
    every = zip(passes.rows_of_batches(), passes.states(site), passes.states(site, changes), strict=True)
    for rows, before, after in every:
        found[rows.numpy()] = (before != after).any(1).cpu().numpy()
    return found


def kl_acting(policy: Policy, passes: Passes, kl_of_rows: np.ndarray | None = None) -> float:
    """Mean KL(model || policy) over the targets at which it acts, in nats; NaN where it acts nowhere.

    kl_of_rows: what `passes.kl_of_rows(policy)` has found already.
    """
    rows = passes.kl_of_rows(policy) if kl_of_rows is None else kl_of_rows
    where = acting(policy, passes)
    return float(rows[where].mean()) if where.any() else float("nan")


def firing_share(policy: Policy, passes: Passes) -> float:
    """Share of the targets at which one of the latents that a policy sets fires by itself; NaN for other policies."""
    changes = [c for c in _interventions(policy) or () if isinstance(c.basis, LatentBasis)]
    if not changes:
        return float("nan")
    fires = np.zeros(passes.n_rows, bool)
    for change in changes:
        for rows, states in zip(passes.rows_of_batches(), passes.states(change.read_site or change.site), strict=True):
            with torch.no_grad():
                fires[rows.numpy()] |= (change.basis.encode(states.float()) != 0).any(1).cpu().numpy()
    return float(fires.mean())


def over_generations(
    model: Model,
    prompts: Texts,
    generations: Sequence[Generation],
    *,
    format: Format = "raw",
    batch_tokens: int | None = None,
    changes: Sequence[Change] = (),
) -> Passes:
    """Return passes over prompts with what was written behind them; targets are the tokens that predict new ones.

    `kl` of what a policy has written itself is its disturbance on policy; the direction of the divergence is that over
    fixed texts, so that the two differ by the text alone. changes: see `Passes`. A generation without a token has no
    target and is refused: leave it out, with its prompt.
    """
    tokens = model.tokens(prompts, format=format)
    if len(tokens) != len(generations):
        raise UserError(f"{len(tokens)} prompts and {len(generations)} generations: give one for each")
    if empty := [number for number, one in enumerate(generations) if not one.ids]:
        raise UserError(f"{len(empty)} generations are empty, the first is number {empty[0]}: leave them out")
    joined = [
        Encoding(ids[:length].numpy(), roles[:length].numpy()).extend(one.ids, Role.GENERATED)
        for ids, roles, length, one in zip(tokens.ids, tokens.roles, tokens.lengths, generations, strict=True)
    ]
    padded = pad(joined, pad_id=0)
    return Passes(model, padded, _before(padded.roles == Role.GENERATED), batch_tokens, changes)


def kl_of_tokens(
    model: Model, policy: Policy, prompt: str, generation: Generation, *, format: Format = "raw"
) -> np.ndarray:
    """KL(model || policy) in nats where each token of one generation was predicted, (t) float64.

    >>> from theodolite.models.generate import Decoding
    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> push = Intervened(model, (Intervention.add("blocks.1.resid_post", [1.0] * 32, 2.0),))
    >>> written = push.generate("a text", Decoding(max_new_tokens=3))[0]
    >>> kl_of_tokens(model, push, "a text", written).shape
    (3,)
    """
    return over_generations(model, prompt, [generation], format=format).kl_of_rows(policy)


def _before(selected_nt: Tensor) -> Tensor:
    """Columns (n, t) before those that are selected: the tokens that predict them."""
    return torch.cat([selected_nt[:, 1:], torch.zeros_like(selected_nt[:, :1])], 1)


def _interventions(policy: Policy) -> list[Intervention] | None:
    """Interventions of a policy on states; None for one that is made otherwise."""
    if not isinstance(policy, Intervened):
        return None
    return [change for change in policy.interventions if isinstance(change, Intervention)]
