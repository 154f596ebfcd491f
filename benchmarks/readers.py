"""Processor seconds to tune each reader (12 configurations x 3 folds, refit) on rows like the comparison's own.

    OMP_NUM_THREADS=1 python benchmarks/readers.py

Dense rows have 576 correlated columns of very unequal size, as hidden states do; sparse rows are pooled latents, 4,096
columns of which about 300 are non-zero in a row; texts have 5 to 80 words from a Zipf vocabulary.
"""

import time

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from theodolite.core.methods import parse
from theodolite.study.tune import tune

N = 800
#: method, seconds that one thread may take
BARS = {
    "difference_in_means": 0.3,
    "difference_in_means@latents": 0.3,
    "lat": 1.0,
    "lat@latents": 1.0,
    "logistic": 1.2,
    "logistic@latents": 2.5,
    "logistic(split=576)@state+latents": 2.5,
    "ridge": 0.3,
    "ridge@latents": 1.0,
    "lda": 0.3,
    "lda@latents": 1.0,
    "mlp": 6.0,
    "mlp@latents": 6.0,
    "k_sparse": 2.0,
    "k_sparse(k=16)": 2.0,
    "word_ngrams": 4.0,
    "char_ngrams": 8.0,
    "length": 1.0,
    "prompting": 0.3,
    "random_direction": 0.3,
    "shuffled_labels": 1.2,
    "majority": 0.3,
}


def views(seed: int = 0) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """One view of each kind, labels that are readable but not separable, and three folds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, N)
    state = rng.normal(size=(N, 576)) @ (rng.normal(size=(576, 576)) * np.arange(1, 577) ** -0.7)
    state += np.outer(y - 0.5, 0.03 * rng.normal(size=576)) + 50 * rng.normal(size=576) ** 3
    state = state.astype(np.float32)
    chance = np.clip(0.08 * rng.lognormal(0, 1.2, 4096), 0, 0.9)
    active = rng.random((N, 4096)) < chance * (1 + 0.1 * np.outer(y - 0.5, rng.normal(size=4096)))
    latents = sp.csr_array((active * rng.exponential(size=(N, 4096))).astype(np.float32))
    texts = np.array(
        [" ".join(f"w{word}" for word in rng.zipf(1.3, rng.integers(5, 80)) + 3 * label) for label in y], object
    )
    stacked = sp.hstack([sp.csr_array(state), latents], format="csr")
    answer = rng.normal(size=(N, 2)) + y[:, None]
    return (
        {"state": state, "latents": latents, "state+latents": stacked, "text": texts, "answer": answer},
        y,
        np.arange(N) % 3,
    )


def main() -> None:
    """Print one line per method: processor seconds, the bar, fits, log-loss and what was chosen."""
    view, y, folds = views()
    print(f"{'method':36s} {'seconds':>8s} {'bar':>5s} {'fits':>5s} {'log-loss':>9s}  chosen")
    for spec, bar in BARS.items():
        method = parse(spec)
        start = time.process_time()
        with threadpool_limits(1):
            tuned = tune(method, view[method.view], y, folds)
        seconds = time.process_time() - start
        cost = f"{seconds:8.2f} {bar:5.1f} {tuned.n_fits:5d} {tuned.cv_log_loss:9.4f}"
        print(f"{spec:36s} {cost}  {tuned.params}{' LATE' if seconds > bar else ''}")


if __name__ == "__main__":
    main()
