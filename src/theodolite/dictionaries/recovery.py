"""Recovery of a known dictionary, where the true features are known.

Shapes: w learnt latents, f true features, d dimensions, n rows.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment


class Recovery(NamedTuple):
    """mcc: mean |cosine| of latents and features matched one to one. uniqueness: distinct best features per latent.

    precision, recall, f1: of each latent's firing as a detector of its best feature, averaged over latents; a latent
    that never fires counts 0.
    """

    mcc: float
    uniqueness: float
    precision: float
    recall: float
    f1: float


def mcc(learnt_wd: np.ndarray, true_fd: np.ndarray) -> float:
    """Mean |cosine| under the best one-to-one matching (Hungarian): a latent counts for one feature only.

    >>> mcc(np.array([[0.0, 2.0], [0.0, 1.0]]), np.eye(2))
    0.5
    """
    cosine_wf = np.abs(_unit(learnt_wd) @ _unit(true_fd).T)
    return float(cosine_wf[linear_sum_assignment(-cosine_wf)].mean())


def recovery(learnt_wd: np.ndarray, z_nw: np.ndarray, true_fd: np.ndarray, z_nf: np.ndarray) -> Recovery:
    """Decoder rows against true features, and firing against the presence of the feature with the largest |cosine|."""
    best_w = np.abs(_unit(learnt_wd) @ _unit(true_fd).T).argmax(1)
    fired, there = z_nw != 0, z_nf[:, best_w] != 0
    both = (fired & there).sum(0)
    precision, recall = _share(both, fired.sum(0)), _share(both, there.sum(0))
    f1 = _share(2 * precision * recall, precision + recall)
    unique = len(np.unique(best_w)) / len(best_w)
    return Recovery(mcc(learnt_wd, true_fd), unique, *(float(share.mean()) for share in (precision, recall, f1)))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros(rows.shape), where=norm > 0)
