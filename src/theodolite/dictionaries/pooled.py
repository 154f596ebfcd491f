"""A dictionary's views of texts: latents are encoded per token, then pooled; so are reconstruction and error."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from theodolite.core.backoff import Backoff
from theodolite.core.errors import UserError
from theodolite.core.positions import pool
from theodolite.core.sealed import Note, no_note
from theodolite.dictionaries.dictionary import Dictionary, to_csr
from theodolite.dictionaries.metrics import fvu_of_sums

ROUNDING = 1e-5  # of a row's length: an error below it is float32 arithmetic (6e-7 in a basis that misses nothing)
ADVICE = "close other programs on that device, or choose --device cpu or a narrower dictionary"
TokenRows = Iterable[tuple[np.ndarray, np.ndarray, Tensor]]


class Pooled(NamedTuple):
    """One row per text: latents (n, width), reconstruction (n, d) and what it misses (n, d).

    fvu: energy of the error over the variance of the token rows that were encoded, before pooling.
    """

    latents: sparse.csr_matrix
    reconstruction: np.ndarray
    error: np.ndarray
    fvu: float


def pooled_latents(
    dictionary: Dictionary,
    token_rows: TokenRows,
    n_texts: int,
    pooling: str,
    *,
    chunk: int = 4096,
    device: str | torch.device | None = None,
    note: Note = no_note,
) -> Pooled:
    """Encode token rows and pool them per text; codes are kept sparse, on the CPU.

    device: where to encode (default: where the dictionary lies). chunk: rows at once; halved, with a note, where memory
    runs out.

    token_rows: (text number, whether selected, row) per token in chunks that hold whole texts, tokens in order. `mean`
    and `max` go over the selected tokens; `last` takes a text's last row, selected or not. A text without such a token
    is an error, not a row of zeros.
    """
    latents, numbers, dense = [], [], []
    dictionary = dictionary if device is None else dictionary.to(device)
    rows = Backoff(chunk, "rows that a dictionary codes at once", ADVICE, note)
    sums_1m = np.zeros((1, dictionary.d_in + 4))
    for text_n, selected_n, x_nd in token_rows:
        text_n, selected_n = np.asarray(text_n), np.asarray(selected_n, bool)
        order = np.argsort(text_n, kind="stable")
        last_n = np.append(np.diff(text_n[order]) != 0, True)
        order = order[last_n if pooling == "last" else selected_n[order]]  # other rows need no encoding
        if not len(order):
            continue
        z, x_hat, x = _encoded(dictionary, x_nd[order], rows)
        error = _error(x, x_hat)
        y, missed = dictionary.explainable(x), np.square(error, dtype=np.float64).sum()
        energy = np.square(y, dtype=np.float64).sum()
        sums_1m += np.concatenate([y.sum(0, dtype=np.float64), [energy, missed, 0.0, len(y)]])
        latents.append(pool(z, text_n[order], pooling))
        dense.append(np.hstack([pool(x_hat, text_n[order], pooling), pool(error, text_n[order], pooling)]))
        numbers.append(np.unique(text_n[order]))
    found = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    assert len(np.unique(found)) == len(found), "a chunk holds whole texts"
    assert len(found) == n_texts, f"{n_texts - len(found)} texts have no token to pool"
    back = np.argsort(found)
    both = np.concatenate(dense)[back]
    return Pooled(
        sparse.vstack(latents, format="csr")[back].astype(np.float32),
        both[:, : dictionary.d_in],
        both[:, dictionary.d_in :],
        float(fvu_of_sums(sums_1m)[0][0]),
    )


def _error(x_nd: np.ndarray, x_hat_nd: np.ndarray) -> np.ndarray:
    """Error of the reconstruction, 0 where that is rounding: a reader that scales its columns would read it."""
    overflown = np.isfinite(x_nd).all(1) & ~np.isfinite(x_hat_nd).all(1)
    if overflown.any():
        raise UserError(
            f"dictionary: no finite reconstruction of {overflown.sum()} of {len(x_nd)} tokens whose states are "
            f"finite (largest: {np.abs(x_nd[overflown]).max():.1e}): it overflows, or is for rows of another scale"
        )
    error = x_nd - x_hat_nd
    error[np.linalg.norm(error, axis=1) <= ROUNDING * np.linalg.norm(x_nd, axis=1)] = 0.0
    return error


def _encoded(dictionary: Dictionary, x_nd: Tensor, rows: Backoff) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Latents, reconstruction and the rows themselves, on the CPU in float32, some rows at a time."""
    codes, hats, done = [], [], 0
    while done < len(x_nd):
        code, x_hat, taken = rows(lambda size: _chunk(dictionary, x_nd[done : done + size]))  # noqa: B023
        codes.append(code)
        hats.append(x_hat)
        done += taken
    return sparse.vstack(codes, format="csr"), np.concatenate(hats), x_nd.float().cpu().numpy()


def _chunk(dictionary: Dictionary, x_nd: Tensor) -> tuple[sparse.csr_matrix, np.ndarray, int]:
    idx, val, x_hat = dictionary.code(x_nd.to(dictionary.W_dec.device))
    return to_csr(idx, val, dictionary.width), x_hat.float().cpu().numpy(), len(x_nd)
