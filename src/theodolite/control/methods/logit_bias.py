"""A vocabulary bias from the words of the training texts: the simple baseline of control."""

import numpy as np

from theodolite.control.control import Control
from theodolite.control.logit_bias import LogitBiasControl
from theodolite.control.material import Material
from theodolite.control.method import Method
from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.models.tokens import Tokens


class LogitBias(Method):
    """logits + strength * bias, bias the log-odds of each token's frequency in positive against negative texts.

    bias = log(c+ + a) - log(c- + a), where c+ and c- are a token's counts in the texts of each class, scaled to the
    mean number of tokens of the two, and a = `smoothing` is a count added to each (additive smoothing; 1 is Laplace's).
    A token in neither class gets exactly 0; between classes of equal size one that was seen once gets log 2 at most,
    and a frequent one its true log-odds. Nothing is tuned. All tokens of a text count but special ones.

    It sees training texts and labels, not the model's states. No extra pass; one fit.
    """

    saw = "training texts and labels, no states"
    at_depth = False

    def __init__(self, smoothing: float = 1.0) -> None:
        self.smoothing = smoothing

    def fit(self, material: Material) -> Control:
        """Return the bias as a control."""
        if not (np.isfinite(self.smoothing) and self.smoothing > 0):
            raise UserError(
                f"logit_bias: smoothing={self.smoothing} must be above 0, or an unseen token has no log-odds"
            )
        model, width = material.model, material.model.network.module.get_output_embeddings().weight.shape[0]
        negative_v, positive_v = (
            _counts(model.tokens(material.training.of_class(label), format="raw"), width) for label in (0, 1)
        )
        bias_v = _log_odds(negative_v, positive_v, self.smoothing)
        if not bias_v.any():
            raise UserError(
                "logit_bias: the texts of the two classes hold the same tokens: there is nothing to promote"
            )
        self._done(passes=0, fits=1, parameters=int((bias_v != 0).sum()))
        return LogitBiasControl(model, "logit_bias", bias_v)


def _counts(tokens: Tokens, width: int) -> np.ndarray:
    """Return how often each token of the vocabulary occurs in texts."""
    chosen = tokens.mask & (tokens.roles != Role.SPECIAL)
    return np.bincount(tokens.ids[chosen].numpy(), minlength=width).astype(np.float64)


def _log_odds(negative_v: np.ndarray, positive_v: np.ndarray, smoothing: float) -> np.ndarray:
    """Return the smoothed log-odds of two vectors of counts.

    >>> _log_odds(np.array([3.0, 1.0, 0.0]), np.array([0.0, 4.0, 0.0]), 1.0).round(3).tolist()
    [-1.386, 0.916, 0.0]
    """
    # classes of unlike size would shift the log-odds of all tokens: both count as texts of the mean size
    mean = (negative_v.sum() + positive_v.sum()) / 2
    scaled = [counts * mean / counts.sum() + smoothing for counts in (positive_v, negative_v)]
    return np.log(scaled[0]) - np.log(scaled[1])
