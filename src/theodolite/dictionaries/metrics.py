"""Quality of a dictionary: variance unexplained with an interval over documents, and cross-entropy recovered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core.bootstrap import bootstrap_weights
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Format, LanguageModel
from theodolite.core.positions import Positions
from theodolite.core.site import Site
from theodolite.dictionaries.dictionary import Dictionary

Replace = Callable[[Tensor], Tensor]
CrossEntropy = Callable[[Replace | None], np.ndarray]


def quality(
    dictionary: Dictionary,
    x_nd: Tensor,
    document_n: Tensor,
    target_nd: Tensor | None = None,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    chunk: int = 4096,
) -> dict[str, Any]:
    """FVU and L0 on these rows; the 95 % interval is the Bayesian bootstrap over documents.

    FVU is the energy of the error over the variance about the mean of the same rows, in float64: neither the variance
    about 0 (which makes a poor dictionary look perfect) nor the variance of the error (which hides a wrong bias). Rows
    that are all equal (a template token at the embedding) have none: `fvu` is None. With targets (what a transcoder
    should predict) the error and the variance are theirs.
    """
    number, count = document_n.unique(return_inverse=True)[1], int(document_n.unique().numel())
    target_nd = x_nd if target_nd is None else target_nd
    sums = torch.zeros(count, target_nd.shape[1] + 4, dtype=torch.float64)
    for x, y, who in zip(x_nd.split(chunk), target_nd.split(chunk), number.split(chunk), strict=True):
        _, val, y_hat = dictionary.code(x)
        error = _energy(y.double() - y_hat.double())
        ones = torch.ones(len(y))
        y = dictionary.explainable(y.double())
        parts = [y, *(s.double().cpu()[:, None] for s in (_energy(y), error, (val != 0).sum(1), ones))]
        sums.index_add_(0, who, torch.cat([p.cpu() for p in parts], dim=1))
    total = sums.numpy()
    value, variance = fvu_of_sums(total.sum(0, keepdims=True))
    if variance[0] <= 1e-9 * total[:, -4].sum():
        return {"fvu": None, "l0": _l0(total), "n": len(x_nd), "n_groups": count}
    spread, _ = fvu_of_sums(bootstrap_weights(np.arange(count), n_boot=n_boot, seed=seed).astype(np.float64) @ total)
    lo, hi = np.quantile(spread, [0.025, 0.975])
    fvu = {"value": float(value[0]), "lo": float(lo), "hi": float(hi)}
    return {"fvu": fvu, "l0": _l0(total), "n": len(x_nd), "n_groups": count}


def fvu_of_sums(sums_bm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FVU and variance from [sum of x, of |x|², of |error|², of L0, of 1], one row per weighting of the documents."""
    total, energy, error, _, n = np.split(sums_bm, np.cumsum([sums_bm.shape[1] - 4, 1, 1, 1]), axis=1)
    variance = (energy - (total**2).sum(1, keepdims=True) / n)[:, 0]
    return np.divide(error[:, 0], variance, out=np.full(len(n), np.nan), where=variance > 0), variance


def _l0(total: np.ndarray) -> float:
    return float(total[:, -2].sum() / total[:, -1].sum())


def ce_recovered(ce: CrossEntropy, dictionary: Dictionary, *, n_boot: int = 1000, seed: int = 0) -> dict[str, float]:
    """(CE zeroed - CE reconstructed) / (CE zeroed - CE untouched), in nats per token; bootstrap over texts.

    A model whose rows are zeroed may do worse than one that says every token is as likely: a share near 1 can hide a
    large loss, and so all three are here, with the nats lost.

    ce: (nats, tokens) of each text when every row at the site that the dictionary is meant for passes through a
    function; None: untouched.
    """
    how: dict[str, Replace | None] = {
        "untouched": None,
        "zeroed": torch.zeros_like,
        "reconstructed": lambda x_nd: dictionary.reconstruct(x_nd).to(x_nd.dtype),
    }
    texts = {name: ce(replacement) for name, replacement in how.items()}
    n = len(texts["untouched"])
    weights = np.vstack([np.ones(n), bootstrap_weights(np.arange(n), n_boot=n_boot, seed=seed)])
    untouched, zeroed, reconstructed = (np.divide(*(weights @ of_text).T) for of_text in texts.values())
    recovered, lost = (zeroed - reconstructed) / (zeroed - untouched), reconstructed - untouched
    return {
        "untouched": float(untouched[0]),
        "zeroed": float(zeroed[0]),
        "reconstructed": float(reconstructed[0]),
        **_with_interval("recovered", recovered),
        **_with_interval("lost", lost),
        "n": int(texts["untouched"][:, 1].sum()),
        "n_groups": n,
    }


def _with_interval(name: str, values_b: np.ndarray) -> dict[str, float]:
    lo, hi = np.quantile(values_b[1:], [0.025, 0.975])
    return {name: float(values_b[0]), f"{name}_lo": float(lo), f"{name}_hi": float(hi)}


def cross_entropy(
    model: LanguageModel, site: Any, texts: Sequence[str], max_tokens: int = 256, format: Format = "raw"
) -> CrossEntropy:
    """The model's cross-entropy on texts while every content row at the site passes through a function."""

    @cache
    def ce(replacement: Replace | None) -> np.ndarray:
        passed = (
            []
            if replacement is None
            else [Intervention(Site.parse(site), _Through(replacement), positions=Positions("content"))]
        )
        scored = model.loss(texts, format=format, max_tokens=max_tokens, interventions=passed)
        return np.stack([-scored.log_prob, scored.n_tokens], axis=1)

    return ce


@dataclass(frozen=True)
class _Through:
    """The rule h' = f(h), row by row."""

    function: Replace

    def __call__(self, z: Tensor, context: Any) -> Tensor:
        return self.function(z.flatten(0, -2)).view_as(z)


def _energy(x_nd: Tensor) -> Tensor:
    return x_nd.double().square().sum(1)
