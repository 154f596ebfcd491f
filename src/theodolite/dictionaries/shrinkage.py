"""Against shrinkage, after training: the encoder stays, and a scale per latent or the decoder is fitted anew.

An L1 penalty makes every latent smaller than the feature it stands for. Wright and Sharkey ("Addressing feature
suppression in SAEs") keep which latents fire and fit what is written for them, without a penalty. They use Adam; both
problems are linear, so that no learning rate is needed. With f the latents, W the decoder's rows and r = x - x̂:

    scale      (W W^T ∘ E[f f^T]) (s - 1) = E[f ∘ W r]
    decoder    E[f f^T] (W' - W)          = E[f r^T]        (f with a constant 1 for the bias)

The third form of theirs, scale and decoder together, is the second here: rows of any length hold the scale.

`prior_rows` keeps rare latents from being fitted to noise, as if that many further rows had each latent active alone,
at its usual strength, and the present decoder right.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import sparse as scipy_sparse
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.dictionaries.dictionary import Dictionary, to_csr

Batch = Tensor | tuple[Tensor, Tensor]
_DIRECT = 4096  # latents up to which a dense solve (1 s, 128 MiB) beats conjugate gradients


def rescaled(dictionary: Dictionary, batches: Iterable[Batch], *, prior_rows: float = 10.0) -> Dictionary:
    """Return the dictionary with decoder rows times the scales that fit these rows best (rows, or pairs of a
    transcoder).

    Where the encoder's magnitudes fall short, decoder rows grow beyond 1: a latent contributes z |W_dec row|.

    >>> from theodolite.dictionaries.activations import ReluRule
    >>> x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) + 1
    >>> shrunk = Dictionary(torch.eye(2) / 2, torch.zeros(2), torch.eye(2), torch.zeros(2), ReluRule())
    >>> rescaled(shrunk, [x], prior_rows=0).W_dec.diagonal()
    tensor([2., 2.])
    """
    found, W = _moments(dictionary, batches), _wide(dictionary.W_dec)
    along_f = np.einsum("fd,fd->f", found.error_fd[:-1], W)
    gram = found.gram[:-1, :-1].tocoo()
    overlap = np.concatenate([np.empty(0), *_dots(W, gram.row, gram.col)])
    system = scipy_sparse.csr_matrix((gram.data * overlap, (gram.row, gram.col)), shape=gram.shape)
    scale = 1 + _solved(system, along_f[:, None], _prior(system.diagonal(), found.fired[:-1], prior_rows))[:, 0]
    W_dec = dictionary.W_dec * torch.from_numpy(scale).to(dictionary.W_dec)[:, None]
    return replace(dictionary, W_dec=W_dec, info=dictionary.info_after(rescaled_on=found.rows))


def redecoded(dictionary: Dictionary, batches: Iterable[Batch], *, prior_rows: float = 10.0) -> Dictionary:
    """Return the dictionary with the decoder and its bias that fit these rows best; decoder rows keep no norm."""
    found = _moments(dictionary, batches)
    prior = _prior(found.gram.diagonal(), found.fired, prior_rows)
    prior[-1] = 0.0
    change = torch.from_numpy(_solved(found.gram, found.error_fd, prior)).to(dictionary.W_dec)
    b_enc = dictionary.b_enc
    if dictionary.subtract_b_dec:  # the latents stay: what b_dec changes in the encoder, b_enc undoes
        b_enc = b_enc + dictionary.W_enc @ change[-1]
    weights: dict[str, Any] = {
        "W_dec": dictionary.W_dec + change[:-1],
        "b_dec": dictionary.b_dec + change[-1],
        "b_enc": b_enc,
    }
    return replace(dictionary, **weights, info=dictionary.info_after(redecoded_on=found.rows))


@dataclass
class _Moments:
    """Sums over rows: f f^T (f + 1, f + 1), f r^T (f + 1, d), and how often each latent fired; a constant 1 is last."""

    gram: scipy_sparse.csr_matrix
    error_fd: np.ndarray
    fired: np.ndarray

    @property
    def rows(self) -> int:
        return int(self.fired[-1])


def _moments(dictionary: Dictionary, batches: Iterable[Batch]) -> _Moments:
    if dictionary.activation.reads_decoder or dictionary.refit:
        how = "refit=True" if dictionary.refit else dictionary.activation.name
        raise UserError(f"latents of this dictionary depend on its decoder ({how}): there is no encoder to keep")
    found = None
    for batch in batches:
        x_nd, y_nd = batch if isinstance(batch, tuple) else (batch, batch)
        idx, val, y_hat = dictionary.code(x_nd)
        weight = _row_scale(dictionary, x_nd)
        z = to_csr(idx, val.double() * weight, dictionary.width)
        z = scipy_sparse.hstack([z, scipy_sparse.csr_matrix(_wide(weight))], format="csr")
        now = _Moments(z.T @ z, z.T @ _wide(y_nd.double() - y_hat.double()), np.diff(z.tocsc().indptr))
        found = (
            now
            if found is None
            else _Moments(found.gram + now.gram, found.error_fd + now.error_fd, found.fired + now.fired)
        )
    if found is None:
        raise UserError("no rows were given: a decoder is fitted to at least one batch")
    return found


def _row_scale(dictionary: Dictionary, x_nd: Tensor) -> Tensor:
    """Factor (n, 1) by which the dictionary multiplies each row's reconstruction: latents act through it."""
    scale = dictionary.normalised(x_nd)[1]
    ones = torch.ones(len(x_nd), 1, dtype=torch.float64, device=x_nd.device)
    return ones * scale


def _prior(diagonal: np.ndarray, fired: np.ndarray, rows: float) -> np.ndarray:
    """`rows` times each latent's mean share of the diagonal per row in which it fired; 1 where it never did."""
    return np.where(fired > 0, rows * diagonal / np.maximum(fired, 1), 1.0)


def _dots(W_fd: np.ndarray, row: np.ndarray, column: np.ndarray, chunk: int = 2**16) -> Iterable[np.ndarray]:
    for start in range(0, len(row), chunk):
        part = slice(start, start + chunk)
        yield np.einsum("md,md->m", W_fd[row[part]], W_fd[column[part]])


def _solved(system: scipy_sparse.csr_matrix, target_fd: np.ndarray, prior_f: np.ndarray) -> np.ndarray:
    """(system + diag(prior))^-1 target for a positive semi-definite system; where it has no say, the least change."""
    size = system.shape[0]
    prior = prior_f + 1e-12 * max(float(system.diagonal().max()), np.finfo(float).tiny)
    if size <= _DIRECT + 1:
        return np.linalg.solve(system.toarray() + np.diag(prior), target_fd)
    return _conjugate_gradients(system, target_fd, prior)


def _conjugate_gradients(
    system: scipy_sparse.csr_matrix, target_fd: np.ndarray, prior_f: np.ndarray, tolerance: float = 1e-8
) -> np.ndarray:
    """All columns at once, preconditioned by the diagonal."""
    inverse = 1 / (system.diagonal() + prior_f)[:, None]
    found, left = np.zeros_like(target_fd), target_fd.copy()
    step = inverse * left
    size = start = (left * step).sum(0)
    for _ in range(1000):
        if (size <= tolerance**2 * start).all():
            break
        image = system @ step + prior_f[:, None] * step
        along = size / np.maximum((step * image).sum(0), np.finfo(float).tiny)
        found += along * step
        left -= along * image
        ahead = inverse * left
        last, size = size, (left * ahead).sum(0)
        step = ahead + size / np.maximum(last, np.finfo(float).tiny) * step
    return found


def _wide(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
