"""Fine-tuning through the model: what a dictionary loses is what changes the model's predictions.

    loss = FVU + KL · [FVU / KL]        the factor in brackets held fixed, so that both terms weigh the same

KL is that of the model's predictions with every row replaced by its reconstruction from those without. A short run of
this after ordinary training (2503.17272: 25 M tokens) does what training end to end from the start (e2e_sae,
2405.12241) did. The model is handed over as a function, so that this file needs none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Format, LanguageModel
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.learner import FROZEN, frozen_part

Replace = Callable[[Tensor], Tensor]
KL = Callable[[Replace], Tensor]  # the divergence when every row passes through the function; has a gradient
Log = Callable[[int, dict[str, float]], None]

_CLIP = 1.0
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


def fine_tuned(
    dictionary: Dictionary,
    batches: Sequence[KL],
    *,
    steps: int,
    lr: float = 1e-4,
    error: bool = True,
    log: Log | None = None,
) -> Dictionary:
    """The dictionary after `steps` steps of Adam, step i on batch i (from the start again when they are through).

    The learning rate falls to 0. Decoder rows keep their lengths and a frozen part of a control stays frozen, and so
    do thresholds and other numbers of the activation rule. error: False leaves FVU out (KL alone). log: called after
    each step with `kl` and `fvu` as they were before it.
    """
    _check(dictionary, batches, steps)
    scale = _scale(dictionary, batches[0])
    scaled = dictionary.folded(1 / scale)  # learning rates mean the same whatever the size of the rows
    kept = _frozen(dictionary)
    w = {name: getattr(scaled, name).clone().requires_grad_(name not in kept) for name in _NAMES}
    norm = w["W_dec"].detach().norm(dim=1, keepdim=True)
    trained = [t for t in w.values() if t.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr, eps=6.25e-10)
    for step in range(steps):
        losses = _losses(replace(scaled, **w), scale, batches[step % len(batches)])
        seen = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(sum(seen.values())):
            raise UserError(f"fine-tuning diverged at step {step}: {seen}; lower lr={lr}")
        loss = losses["kl"] * (losses["fvu"] / losses["kl"].clamp_min(1e-12)).detach() + losses["fvu"]
        _descend(optimizer, loss if error else losses["kl"], w, norm, lr * (1 - step / steps))
        if log is not None:
            log(step, seen)
    found = replace(scaled, **{name: t.detach() for name, t in w.items()}).folded(scale)
    info = dictionary.info_after(end_to_end={"steps": steps, "lr": lr, "error": error})
    return replace(found, **{name: getattr(dictionary, name) for name in kept}, info=info)


def divergence(
    model: LanguageModel, site: Any, texts: Sequence[str], max_tokens: int = 256, format: Format = "raw"
) -> KL:
    """The KL of a model (`theodolite.Model`) on these texts, for content rows at a site."""
    roles = model.tokens(texts, format=format, max_tokens=max_tokens).roles
    chosen = torch.from_numpy(Positions("content").mask(roles.numpy()))

    def kl(replacement: Replace) -> Tensor:
        one = Intervention(Site.parse(site), _Rows(replacement, chosen), positions=Positions("content"))
        return model.kl(texts, interventions=[one], format=format, max_tokens=max_tokens)

    return kl


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rule h' = f(h) at chosen tokens (n, t); f sees no padding, template or first token."""

    function: Replace
    chosen: Tensor

    def __call__(self, z: Tensor, context: Any) -> Tensor:
        chosen = self.chosen.to(z.device)
        rows = self.function(z[chosen]).to(z.dtype)
        return z.masked_scatter(chosen.unsqueeze(-1).expand_as(z), rows)


def _losses(scaled: Dictionary, scale: float, kl: KL) -> dict[str, Tensor]:
    """KL and FVU of one batch, both with gradients."""
    seen: dict[str, Tensor] = {}

    def through(x_nd: Tensor) -> Tensor:
        rows = x_nd * scale
        z = scaled.encode(rows)
        if not z.requires_grad and any(t.requires_grad for t in (scaled.W_enc, scaled.b_enc)):
            raise UserError(f"latents of a {scaled.activation.name} dictionary have no gradient by its encoder")
        _, factor, shift = scaled.normalised(rows)
        x_hat = scaled.decode(z) * factor + shift
        y = scaled.explainable(rows)
        seen["fvu"] = (rows - x_hat).square().sum() / (y - y.mean(0)).square().sum()
        return x_hat / scale

    found = kl(through)
    return {"kl": found, "fvu": seen["fvu"]}


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, w: dict[str, Tensor], norm: Tensor, lr: float) -> None:
    """One Adam step along clipped gradients, after which decoder rows have their lengths again."""
    trained = [t for t in w.values() if t.requires_grad]
    gradients = torch.autograd.grad(loss, trained)
    size = float(sum(g.double().square().sum() for g in gradients)) ** 0.5
    for parameter, g in zip(trained, gradients, strict=True):
        parameter.grad = g * min(1.0, _CLIP / max(size, 1e-30))
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    with torch.no_grad():
        if w["W_dec"].requires_grad:
            w["W_dec"] *= norm / w["W_dec"].norm(dim=1, keepdim=True).clamp_min(1e-30)


@torch.no_grad()
def _scale(dictionary: Dictionary, kl: KL) -> float:
    """Factor from the first batch's rows to unit mean square distance from their mean; 1 where rows are normalised."""
    if dictionary.normalise in ("layer_norm", "constant_norm"):
        return 1.0
    found: list[float] = []

    def through(x_nd: Tensor) -> Tensor:
        found.append(float((x_nd - x_nd.mean(0)).double().square().sum(1).mean()))
        return dictionary.reconstruct(x_nd)

    kl(through)
    if not found[0] > 0:
        raise UserError("all rows of the first batch are equal: there is nothing to learn")
    return float(found[0]) ** -0.5


def _frozen(dictionary: Dictionary) -> tuple[str, ...]:
    """Names of what a control keeps; a soft-frozen decoder stays where training left it."""
    part = frozen_part(dictionary.info)
    return ("W_dec",) if part == "soft_decoder" else FROZEN[part]


def _check(dictionary: Dictionary, batches: Sequence[KL], steps: int) -> None:
    if dictionary.refit or dictionary.is_transcoder:
        raise UserError("fine-tuning needs a dictionary that reconstructs its own site, without refit=True")
    if not batches or steps < 1:
        raise UserError(f"{len(batches)} batches and steps={steps}: give at least one of each")
