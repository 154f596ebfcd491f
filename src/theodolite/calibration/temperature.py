"""Temperature scaling."""

from scipy.special import expit

from theodolite.calibration._temperature import best_temperature
from theodolite.core.calibrator import Array, Calibrator, ScoredSet


class Temperature(Calibrator):
    """Divides the score by the one number with the least log loss on the calibration rows (Guo et al., 1706.04599)."""

    def _calibrate(self, support: ScoredSet, calibrate: ScoredSet) -> None:
        self.temperature_ = best_temperature(calibrate.score_n, calibrate.target_n)

    def _probability(self, part: ScoredSet) -> Array:
        return expit(part.score_n / self.temperature_)
