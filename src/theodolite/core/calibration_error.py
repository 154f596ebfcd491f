"""Expected calibration error with an interval that can reach 0.

A gap between mean probability and share of label 1 is never 0 in a sample, and its absolute value averages to more than
that of the true gap: a calibrated reader shows .05 on 400 rows. With a bin's observed gap g and its true one t,

    |g| <= |t| + |g - t|,   so   ECE observed <= ECE true + noise,   noise = sum over bins of |g - t|

and the bootstrap of g about itself draws that noise, clusters of rows included. So the lower end is the observed error
less the noise's 97.5 % point, and 0 where that is more. The upper end needs no such step, since the observed error is
too large on average: it is the usual one. The value is the observed error less the bias that the bootstrap sees
(Efron & Tibshirani 1993, 10.6), which removes most of it where a reader is off, and two fifths where it is calibrated.
"""

import math
from dataclasses import replace

import numpy as np
from scipy.stats import norm

from theodolite.core.bootstrap import crossed_variance
from theodolite.core.metrics import ece, ece_noise
from theodolite.core.stats import Estimate, Interval, Sample

Array = np.ndarray


def calibration_error(sample: Sample, probabilities: Array) -> Interval:
    """Expected calibration error of probabilities (S, n), the mean over S training sets, with its 95 % interval.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(size=500)
    >>> y = (rng.random(500) < p).astype(int)                   # calibrated: the true error is 0
    >>> sample = Sample.of(y, [np.arange(500)], np.ones((5, 500), bool), n_boot=500)
    >>> found = calibration_error(sample, np.tile(p, (5, 1)))
    >>> found.lo, found.value < float(ece(y, p))
    (0.0, True)
    """
    estimate = sample.estimate(ece, probabilities)
    plain = estimate.interval(bounded=False)
    bias = max(float(estimate.draws.mean()) - plain.value, 0.0)
    level, spread = _noise(sample.estimate(ece_noise, probabilities))
    down = level + float(norm.ppf(0.975)) * math.hypot(spread, plain.sd_seeds)
    return replace(
        plain,
        value=max(plain.value - bias, 0.0),
        lo=max(plain.value - down, 0.0) if not math.isnan(plain.lo) else math.nan,
        hi=min(plain.hi, 1.0) if not math.isnan(plain.hi) else math.nan,
    )


def _noise(estimate: Estimate) -> tuple[float, float]:
    """Mean and standard deviation of the noise over replicates; of crossed groupings squares add as variances do."""
    of_mean = estimate.draws.mean(0)
    level = crossed_variance(of_mean.mean(1) ** 2 * estimate.small_sample)
    return math.sqrt(level), math.sqrt(crossed_variance(of_mean.var(1) * estimate.small_sample))
