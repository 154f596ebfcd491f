"""One latent of a dictionary, chosen in one of three ways."""

import numpy as np

from theodolite.control.control import Control, LatentControl
from theodolite.control.latent_choice import column_aurocs, firing, instructed_difference, output_scores
from theodolite.control.material import Material
from theodolite.control.method import Method
from theodolite.core.errors import UserError, unknown

CHOICES = ("auroc", "output", "unsupervised")


class Latent(Method):
    """Strength s sets one latent to s times the 99th percentile of its firing, towards the positive class.

    choose: how the latent is found, always on texts other than those that the control is measured on.
    `auroc`: the AUROC of the pooled latent for the training labels that is farthest from .5 (AxBench's SAE-A, Wu et
    al. 2025, arXiv:2501.17148); below .5 the sign is negative. `output`: of the `candidates` latents with the largest
    training AUROC, the one with the largest output score (Arad et al. 2025, arXiv:2505.20063; see `output_scores`); the
    score is of a latent that is raised, so the sign is positive. `unsupervised`: no label is seen; the latent whose
    mean moves farthest, in units of its standard deviation over texts, when the same training texts stand behind the
    instruction for the positive and behind that for the negative class; the sign is that of the move.

    Extra passes: one per training text for the latents; `output` one short sentence for each candidate and one more;
    `unsupervised` two per training text. One fit, and one for each candidate of `output`.

    >>> Latent(choose="output", candidates=8).choose
    'output'
    """

    saw = "training texts and labels; with choose=unsupervised no labels, but the instructions"
    needs = ("dictionary",)

    def __init__(self, choose: str = "auroc", candidates: int = 16) -> None:
        self.choose = choose
        self.candidates = candidates

    def fit(self, material: Material) -> Control:
        """Return the control of the chosen latent."""
        if self.choose not in CHOICES:
            raise unknown("choice of a latent", self.choose, CHOICES)
        dictionary = material.needed("dictionary", "latent")
        found, n = material.latents(material.training, dictionary), material.training.n
        fires = firing(found, n)
        if self.choose == "unsupervised":
            material.needed("instruction", "latent(choose=unsupervised)")
            score_f, passes, fits = instructed_difference(material, dictionary), 3 * n, 1
            # a latent can move behind an instruction and be silent on the bare texts: then nothing says how far to set
            latent = int(fires[np.abs(score_f[fires]).argmax()])
        else:
            score_f, passes, fits = column_aurocs(found.rows, material.training.labels) - 0.5, n, 1
            latent = int(fires[np.abs(score_f[fires]).argmax()])
        facts: dict[str, object] = {"choose": self.choose}
        if self.choose == "output":
            likely = self._likely(fires, score_f)
            scores = output_scores(material.model, material.site, dictionary, likely)
            latent, fits, passes = likely[int(scores.argmax())], len(likely), n + len(likely) + 1
            facts["output_score"] = float(scores.max())
        sign = 1.0 if score_f[latent] >= 0 else -1.0
        facts |= {"latents": [latent], "signs": [int(sign)], "k": 1, "parameters": 1}
        self._done(passes=passes, fits=fits, **facts)
        level, signs = found.p99[[latent]], np.array([sign])
        return LatentControl(material.model, "latent", material.site, dictionary, [latent], level, signs)

    def _likely(self, fires: np.ndarray, score_f: np.ndarray) -> list[int]:
        """Return the latents that fire most reliably on the positive class, the best first."""
        if self.candidates < 1:
            raise UserError(f"candidates={self.candidates}: give at least one latent to score")
        order = fires[np.argsort(-score_f[fires], kind="stable")]
        likely = [int(latent) for latent in order[: self.candidates] if score_f[latent] > 0]
        if not likely:
            raise UserError(
                "no latent fires more on the positive class: take choose=auroc, which allows a negative sign"
            )
        return likely
