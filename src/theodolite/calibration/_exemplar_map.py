"""The trained linear exemplar map of SDM (2509.12760): a linear probe with a hidden layer to compare rows in."""

from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from theodolite.calibration import _sdm
from theodolite.calibration._neighbours import CAP, Array, Neighbours
from theodolite.core.reader import Reader
from theodolite.core.seeds import generator

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's defaults


class ExemplarMap(Reader):
    """h' = G (h - mean) / sd, z' = W h' + b, trained on -log_{2+q} P_y with q and d measured anew after every epoch.

    mean and sd are one number each, over all entries of the rows. q and d of a training row come from the other
    training rows. The first epoch has q = e - 2 and d = 1, which is cross-entropy. The weights are those of the epoch
    with the least class-balanced loss on a fifth of the rows that no step sees; the paper takes the calibration rows
    for that, which then are no longer like new ones. m: width of h'.
    """

    log_odds = True
    order_free = False

    def __init__(
        self, m: int = 64, epochs: int = 30, lr: float = 1e-3, batch: int = 50, k: int = CAP, seed: int = 0
    ) -> None:
        self.m = m
        self.epochs = epochs
        self.lr = lr
        self.batch = batch
        self.k = k
        self.seed = seed

    def transform(self, X: Any) -> Array:
        """Return h', (n, m)."""
        return self._normalised(self._rows(X, reset=False)) @ self.map_

    def _fit(self, rows: Any, target_n: Array) -> None:
        label_n, rng = target_n.astype(int), generator(self.seed, "exemplar map")
        self.mean_, self.sd_ = float(rows.mean()), float(rows.std(ddof=1)) or 1.0
        x_nd = self._normalised(rows)
        train, out = _two_parts(label_n, self.seed)
        weights = [
            rng.normal(size=(x_nd.shape[1], self.m)) / np.sqrt(x_nd.shape[1]),
            rng.normal(size=(self.m, 2)) / np.sqrt(self.m),
            np.zeros(2),
        ]
        moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
        q_n, d_n = np.full(len(train), np.e - 2), np.ones(len(train))
        best, step = np.inf, 0
        for _ in range(self.epochs):
            for chosen in np.array_split(rng.permutation(len(train)), max(1, len(train) // self.batch)):
                step += 1
                at = train[chosen]
                gradients = _gradients(weights, x_nd[at], label_n[at], q_n[chosen], d_n[chosen])
                for w, g, moment in zip(weights, gradients, moments, strict=True):
                    _adam(w, g, moment, self.lr, step)
            q_n, d_n, loss = self._measured(weights, x_nd, label_n, train, out)
            if loss <= best:
                best, weights_of_best = loss, [w.copy() for w in weights]
        self.map_, self.W_, self.b_ = weights_of_best

    def _scores(self, rows: Any) -> Array:
        logits_nc = self._normalised(rows) @ self.map_ @ self.W_ + self.b_
        return logits_nc[:, 1] - logits_nc[:, 0]

    def _normalised(self, rows: Any) -> Array:
        return (np.asarray(rows, dtype=np.float64) - self.mean_) / self.sd_

    def _measured(
        self, weights: list[Array], x_nd: Array, label_n: Array, train: Array, out: Array
    ) -> tuple[Array, Array, float]:
        """Return q and d of the training rows, and the loss on the rows held out."""
        G, W, b = weights
        h_nm = x_nd @ G
        logits_nc = h_nm @ W + b
        predicted_n, support = logits_nc.argmax(1), Neighbours(h_nm[train])
        right_m = predicted_n[train] == label_n[train]
        q_and_d = []
        for rows, itself in ((train, True), (out, False)):
            distance_nk, near_nk = support.nearest(h_nm[rows], self.k, itself=itself)
            q_n = _sdm.similarity(right_m, label_n[train], near_nk, predicted_n[rows])
            near_n = distance_nk[:, 0]
            of_class = [np.sort(near_n[(label_n[rows] == c) & (q_n > 0)]) for c in (0, 1)]
            q_and_d.append((q_n, _sdm.distance_quantile(near_n, of_class)))
        (q_n, d_n), (q_out, d_out) = q_and_d
        return q_n, d_n, _sdm.balanced_loss(logits_nc[out], q_out, d_out, label_n[out])


def _gradients(weights: list[Array], x_nd: Array, label_n: Array, q_n: Array, d_n: Array) -> list[Array]:
    """Return the gradients of the mean loss; the base of the logarithm cancels: dL/dz' = d (P - onehot) / n."""
    G, W, b = weights
    h_nm = x_nd @ G
    proba_nc = _sdm.probabilities(h_nm @ W + b, q_n, d_n)
    g_nc = d_n[:, None] * (proba_nc - np.eye(2)[label_n]) / len(label_n)
    return [x_nd.T @ (g_nc @ W.T), h_nm.T @ g_nc, g_nc.sum(0)]


def _adam(w: Array, g: Array, moment: tuple[Array, Array], lr: float, step: int) -> None:
    mean, square = moment
    mean += (1 - _BETAS[0]) * (g - mean)
    square += (1 - _BETAS[1]) * (g * g - square)
    corrected = np.sqrt(square / (1 - _BETAS[1] ** step)) + _EPSILON
    w -= lr * mean / (1 - _BETAS[0] ** step) / corrected


def _two_parts(label_n: Array, seed: int) -> tuple[Array, Array]:
    """Return four fifths to train on and a fifth to choose the epoch; all rows twice where a class is too small."""
    n_folds = min(5, int(np.bincount(label_n).min()))
    if n_folds < 2:
        return np.arange(len(label_n)), np.arange(len(label_n))
    train, out = next(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(label_n)), label_n))
    return train, out
