"""Temperature scaling."""

from scipy.special import expit

from theodolite.calibration._temperature import best_temperature
from theodolite.core.calibrator import Array, Calibrator, Part


class Temperature(Calibrator):
    """Divides the score by the one number with the least log loss on the calibration rows (Guo et al., 1706.04599)."""

    def _calibrate(self, support: Part, calibrate: Part) -> None:
        self.temperature_ = best_temperature(calibrate.score_n, calibrate.target_n)

    def _probability(self, part: Part) -> Array:
        return expit(part.score_n / self.temperature_)
