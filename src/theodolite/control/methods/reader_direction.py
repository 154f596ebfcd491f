"""A linear reader's direction as a control: the direction that reads is the direction that steers."""

from typing import Any

from theodolite.control.control import Control, VectorControl
from theodolite.control.material import Material
from theodolite.control.method import Method, linear_reader
from theodolite.core.errors import UserError
from theodolite.core.metrics import auroc


class ReaderDirection(Method):
    """h + strength * v, where v is the unit direction along which a linear reader of the state scores higher.

    The reader comes from `readers/` unchanged, is fitted on the training rows in their order, and names the control:
    `difference_in_means` (Zou et al. 2023, arXiv:2310.01405; Marks and Tegmark 2023, arXiv:2310.06824), `logistic`,
    `lat`, `lda`, `ridge`, `random_direction`, ... Where its grid has several configurations, the one with the largest
    AUROC on the development rows is taken (the first of equal ones); without development rows it keeps its own
    defaults. A reader's contract is that a higher score means the positive class, so v points there.

    It sees training rows and labels, and development rows where its grid has more than one configuration. No extra
    pass; one fit per configuration.

    >>> ReaderDirection("logistic(C=0.1)").reader
    'logistic(C=0.1)'
    """

    saw = "training rows and labels; development rows for the settings of the reader"

    def __init__(self, reader: str = "difference_in_means") -> None:
        self.reader = reader

    def made_by(self) -> tuple[type, ...]:
        """Return this class and the reader's, which is found by its name."""
        return (type(self), linear_reader(self.reader).cls)

    def fit(self, material: Material) -> Control:
        """Return the control along the reader's direction."""
        method, rows = linear_reader(self.reader), material.training
        chosen, fits, settings = _chosen(method.reader(material.seed), method.params, material)
        if not chosen.direction_.any():
            raise UserError(f"{self.reader!r} found no direction: its score is the same for all {rows.n} training rows")
        self._done(passes=0, fits=fits, parameters=rows.rows.shape[1], settings=settings)
        direction_d, distance = chosen.direction_, material.class_distance
        return VectorControl.scaled(material.model, method.spec, material.site, direction_d, distance)


def _chosen(reader: Any, fixed: dict[str, Any], material: Material) -> tuple[Any, int, dict[str, Any]]:
    """Return the fitted reader with the best configuration on development rows, fits made, and that configuration."""
    rows, other = material.training, material.development
    grid = reader.grid(**fixed)
    if other is None or len(grid) == 1:
        return reader.fit(rows.rows, rows.labels), 1, {}
    fitted = reader.fit_path(rows.rows, rows.labels, grid)
    scores = [float(auroc(other.labels, one.decision_function(other.rows))) for one in fitted]
    best = max(range(len(grid)), key=scores.__getitem__)  # the first of equal ones: grids begin with the simplest
    return fitted[best], len(grid), grid[best]
