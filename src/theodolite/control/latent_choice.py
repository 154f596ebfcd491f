"""Choices of latents to steer with: by AUROC, by output score, by instructions, and sets by a k-sparse probe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from theodolite.control.instructed import before_text, instructed_states
from theodolite.control.material import Material, PooledLatents, pooled_latents_of
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis
from theodolite.core.metrics import auroc
from theodolite.core.positions import Positions
from theodolite.core.rules import Add
from theodolite.core.site import Site
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.readers.k_sparse import KSparse

SENTENCE, AMPLIFY, LENS_TOKENS = "From my experience,", 10.0, 20  # of the output score, as in its authors' code
KS = (1, 2, 4, 8, 16, 32, 64)
_BATCH = 16  # texts that run together with their instruction


@dataclass(frozen=True)
class LatentSet:
    """Chosen latents with the sign of each for the positive class, and how many fits and passes the choice took."""

    latents: list[int]
    signs: np.ndarray
    fits: int


def column_aurocs(rows: Any, labels: np.ndarray) -> np.ndarray:
    """AUROC of every column of csr rows (n, width) for label 1, ties counting half; .5 for a silent column.

    >>> from scipy.sparse import csr_matrix
    >>> column_aurocs(csr_matrix([[2.0, 0.0, 0.0], [1.0, 0.0, 5.0], [0.0, 0.0, 3.0]]), np.array([1, 0, 0])).tolist()
    [1.0, 0.5, 0.0]
    """
    found = np.full(rows.shape[1], 0.5)
    firing = np.flatnonzero(np.diff(rows.tocsc().indptr))
    positives = int(labels.sum())
    pairs = positives * (len(labels) - positives)
    for some in np.array_split(firing, max(1, len(firing) // 1024)):  # dense for some columns at a time
        ranks = rankdata(rows[:, some].toarray(), axis=0)[labels == 1].sum(0)
        found[some] = (ranks - positives * (positives + 1) / 2) / pairs
    return found


def firing(found: PooledLatents, n_texts: int) -> np.ndarray:
    """Numbers of the latents that fire on some token; an error where none does."""
    latents = np.flatnonzero(found.p99)
    if not len(latents):
        raise UserError(f"no latent of the dictionary fires on any token of {n_texts} texts: is it of this site?")
    return latents


def output_scores(model: Any, site: Site, dictionary: Dictionary, latents: Sequence[int]) -> np.ndarray:
    """Output score of each latent (Arad et al. 2025, arXiv:2505.20063): how far it writes what it should.

    T are the 20 tokens that the latent's decoder row promotes most, through the final norm and the unembedding. Ten
    times the largest latent at the last token of "From my experience," is added to the latent there; then the score is
    (1 - best rank of T / vocabulary) * largest probability of T. One pass over that sentence for each latent, and one
    more to find the largest latent.
    """
    tokens = model.tokens([SENTENCE] * len(latents), format="raw")
    at_last = model.run(tokens[:1], capture=site, logits=False)[site][0, -1:]
    amount = AMPLIFY * float(dictionary.encode(at_last.float().to(dictionary.W_dec.device)).max())
    # each copy of the sentence has a latent of its own: a diagonal of strengths, one row per text
    strength = amount * np.eye(len(latents), dtype=np.float32)[:, None]
    change = Intervention(site, Add(strength), LatentBasis(dictionary, latents), Positions("last"))
    after = model.run(tokens, interventions=change, logits="last").logits[:, 0].float().cpu()
    top = _promoted(model, dictionary.W_dec[list(latents)])
    probability = after.softmax(1).gather(1, top)
    best = probability.max(1).values
    rank = (after.softmax(1) > best[:, None]).sum(1)  # counted from 0
    return ((1 - rank / after.shape[1]) * best).double().numpy()


def instructed_difference(material: Material, dictionary: Dictionary) -> np.ndarray:
    """Mean difference of each latent, (width), between the two instructions before the same text, in units of its sd.

    Every training text is read twice, without its label: after the instruction for the positive and after that for the
    negative class. Latents are pooled over the tokens of the text itself, so that words of the instruction count only
    by what they do to the text.
    """
    model, texts = material.model, [material.training.texts[i] for i in material.training.canonical]
    rows = []
    for first in range(0, len(texts), _BATCH):
        tokens = model.tokens(texts[first : first + _BATCH], format="raw")
        both = [
            instructed_states(model, material.site, before_text(words), tokens)
            for words in (material.instruction.positive, material.instruction.negative)
        ]
        doc = np.repeat(np.arange(len(tokens)), tokens.lengths)
        pooled = [pooled_latents_of(h[tokens.mask].float().cpu(), doc, dictionary, "mean").rows for h in both]
        rows.append((pooled[0] - pooled[1]).toarray())
    difference_nf = np.concatenate(rows)
    deviation_f = difference_nf.std(0)
    return difference_nf.mean(0) / np.where(deviation_f > 0, deviation_f, np.inf)


def k_sparse_set(material: Material, dictionary: Dictionary, k: int | None, method: str) -> LatentSet:
    """Return the latents of a k-sparse probe on the training texts; k is the one with the best development AUROC.

    Of ks that are equally good the smallest is taken. With a `k` of its own nothing is chosen on development texts.
    """
    rows, found = material.training, material.latents(material.training, dictionary)
    most = len(firing(found, rows.n))
    if k is not None and k < 1:
        raise UserError(f"{method}: k={k} is no number of latents: give 1 or more")
    ks = [k] if k is not None else [each for each in KS if each <= most]
    probes = KSparse().fit_path(found.rows, rows.labels, [{"k": each} for each in ks])
    best = 0
    if k is None:
        other = material.needed("development", method)
        latents = material.latents(other, dictionary).rows
        scores = [float(auroc(other.labels, probe.decision_function(latents))) for probe in probes]
        best = max(range(len(ks)), key=scores.__getitem__)
    # a latent that never fires has a weight of 0, and no level at which it could be set
    chosen = [int(latent) for latent in probes[best].latents_ if probes[best].coef_[latent] != 0]
    if not chosen:
        raise UserError(f"{method}: no latent fires differently on the two classes of {rows.n} texts")
    return LatentSet(chosen, np.sign(probes[best].coef_[chosen]), len(ks))


@torch.no_grad()
def _promoted(model: Any, write_kd: torch.Tensor) -> torch.Tensor:
    """Tokens (k, 20) with the largest logits of decoder rows, taken through the final norm as their authors do."""
    network = model.network
    with network.lock:  # another thread may have its hook on the norm
        norm = network.locate(Site(None, "final_norm"))[0]
        weight = next(norm.parameters())
        logits = network.unembed(norm(write_kd.to(weight)))
    return logits.float().cpu().topk(min(LENS_TOKENS, logits.shape[1]), dim=1).indices
