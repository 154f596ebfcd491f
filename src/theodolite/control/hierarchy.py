"""Mean over concepts of an effect or contrast: a random-effects model, so that the mean is about concepts like these.

    y_k = mu + u_k + e_k,   u_k ~ N(0, tau2),   e_k ~ N(0, v_k),   k = 1..K concepts

v_k is the squared standard error within concept k. tau2 is the REML estimate: the root of

    sum w_k^2 (y_k - mu)^2  =  sum w_k - sum w_k^2 / sum w_k,     w_k = 1 / (v_k + tau2),   mu = sum w_k y_k / sum w_k

or 0 where the left side is smaller already at 0. The interval is that of Hartung & Knapp (2001, doi:10.1002/sim.791),

    mu +- t_{K-1} sqrt(q / sum w_k),     q = sum w_k (y_k - mu)^2 / (K - 1)

with q no smaller than 1 (Roever, Knapp & Friede 2015, doi:10.1186/s12874-015-0091-1): otherwise concepts that happen
to agree would make the interval narrower than the errors within concepts allow. REML has q close to 1 wherever
tau2 > 0. With K of 8 to 12 the normal interval of DerSimonian & Laird (1986) is too narrow; Student's t repairs that.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2
from scipy.stats import t as student

from theodolite.core.errors import UserError

Array = np.ndarray
_LEVEL = 0.05


@dataclass(frozen=True)
class OverConcepts:
    """Mean over concepts with its 95 % interval and two-sided p of no effect.

    se: standard error after Hartung and Knapp. tau: standard deviation between concepts of the true effects. q, p_same:
    Cochran's Q and its p of no difference between concepts. n: concepts with a standard error; n_left_out: others.
    """

    value: float
    lo: float
    hi: float
    se: float
    p: float
    tau: float
    q: float
    p_same: float
    n: int
    n_left_out: int


def over_concepts(effect_k: Array, se_k: Array) -> OverConcepts:
    """Random-effects mean of one number per concept, (K,), with standard errors (K,); formula in the module docstring.

    A concept without a number or a standard error (NaN) is left out, and counted. One concept has a mean and no
    interval.

    >>> found = over_concepts(np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 0.001))
    >>> round(found.value, 3), round(found.tau, 2), round(found.lo, 2), round(found.hi, 2)   # 2.5 +- t_3 sd / 2
    (2.5, 1.29, 0.45, 4.55)
    """
    effect_k, se_k = np.asarray(effect_k, float), np.asarray(se_k, float)
    if effect_k.shape != se_k.shape or effect_k.ndim != 1:
        raise UserError(
            f"{effect_k.shape} effects and {se_k.shape} standard errors: give one of each for every concept"
        )
    known = np.isfinite(effect_k) & np.isfinite(se_k)
    y_k, v_k = effect_k[known], se_k[known] ** 2
    n, left_out = int(known.sum()), int((~known).sum())
    if (v_k <= 0).any():
        raise UserError("a standard error of 0 gives one concept all the weight: leave out a concept without spread")
    if n < 2:
        value = float(y_k[0]) if n else math.nan
        none = math.nan
        return OverConcepts(value, none, none, none, none, none, none, none, n, left_out)
    tau2 = _between(y_k, v_k)
    w_k = 1 / (v_k + tau2)
    value = float(w_k @ y_k / w_k.sum())
    spread = float(w_k @ (y_k - value) ** 2 / (n - 1))
    se = math.sqrt(max(spread, 1.0) / w_k.sum())
    reach = float(student.ppf(1 - _LEVEL / 2, n - 1)) * se
    p = float(2 * student.sf(abs(value) / se, n - 1))
    # Cochran's Q weighs by the errors within concepts alone
    fixed = float(y_k @ (1 / v_k) / (1 / v_k).sum())
    q = float(((y_k - fixed) ** 2 / v_k).sum())
    return OverConcepts(
        value, value - reach, value + reach, se, p, math.sqrt(tau2), q, float(chi2.sf(q, n - 1)), n, left_out
    )


def _between(y_k: Array, v_k: Array) -> float:
    """Variance between concepts, by REML."""
    if _score(0.0, y_k, v_k) <= 0:
        return 0.0
    # the weights are nearly equal at a tau2 far above all v and (y - mean)^2, where the score is negative
    high = float(v_k.max() + np.var(y_k, ddof=1))
    while _score(high, y_k, v_k) > 0:
        high *= 2
    return float(brentq(_score, 0.0, high, args=(y_k, v_k), xtol=1e-15, rtol=1e-12))


def _score(tau2: float, y_k: Array, v_k: Array) -> float:
    """Twice the derivative of the restricted log-likelihood by tau2."""
    w_k = 1 / (v_k + tau2)
    mu = w_k @ y_k / w_k.sum()
    return float(w_k**2 @ (y_k - mu) ** 2 - (w_k.sum() - (w_k**2).sum() / w_k.sum()))
