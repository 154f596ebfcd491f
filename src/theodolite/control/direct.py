"""The share of an effect that goes straight to the unembedding, past all later blocks."""

from collections.abc import Callable

import torch
from torch import Tensor

from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import PARTS, Site
from theodolite.models.scoring import LOGITS


def direct_share(policy: Intervened, passes: Passes, effect: Callable[[Tensor], float]) -> float:
    """Return the effect of the edit's direct path over its whole effect; NaN where the whole effect is 0.

    `effect` makes one number of log-probabilities (rows, vocabulary) at the targets, such as the mean log-odds of two
    sets of tokens; its value for the unchanged model is taken off. A share of 1 says that the edit promotes tokens, and
    that no later block works with it; it may lie outside 0 to 1 where later blocks undo or invert the direct path.
    """
    clean = effect(passes.clean)
    whole = effect(passes.log_probs(policy)) - clean
    return (effect(direct_log_probs(policy, passes)) - clean) / whole if whole else float("nan")


@torch.no_grad()
def direct_log_probs(policy: Intervened, passes: Passes) -> Tensor:
    """Log-probabilities (rows, vocabulary) when later blocks write what they write without the edit.

    The change of the stream is added to the clean stream behind the last block, which the final norm and the
    unembedding read. At a site of the stream, or of what is added to it, the change is measured there, inside
    attention and MLP at the end of the block. An edit at `final_norm` or `logits` has no later block.
    """
    passes.check_model(policy.model)
    site = _only_site(policy)
    if site is None or site.part in ("final_norm", "logits"):
        return passes.log_probs(policy)
    where = site if site.part in (*PARTS, "embed") else Site(site.block, "resid_post")
    network, last = passes.model.network, Site(passes.model.n_blocks - 1, "resid_post")
    norm, _ = network.locate(Site(None, "final_norm"))
    found = torch.empty_like(passes.clean)
    changed = passes.states(where, policy.interventions)
    every = zip(passes.rows_of_batches(), passes.states(last), passes.states(where), changed, strict=True)
    for rows, stream, before, after in every:
        moved = (stream.float() + (after.float() - before.float())).to(stream.dtype)
        for part, its in zip(moved.split(_rows(passes)), rows.split(_rows(passes)), strict=True):
            found[its.to(found.device)] = network.unembed(norm(part)).float().log_softmax(1)
    return found


def _only_site(policy: Intervened) -> Site | None:
    """The site of all interventions of a policy; None where it has none."""
    if not all(isinstance(change, Intervention) for change in policy.interventions):
        raise UserError("an order of blocks has no direct path: give interventions at one site")
    sites = {change.site for change in policy.interventions if isinstance(change, Intervention)}
    if len(sites) > 1:
        raise UserError(f"the direct path is that of one site, not of {', '.join(map(str, sorted(sites)))}")
    return next(iter(sites), None)


def _rows(passes: Passes) -> int:
    return max(1, LOGITS // (2 * passes.vocabulary))
