"""Input that no estimator can use is one clear error, and nothing is accepted silently."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from theodolite.calibration.certified import Certified
from theodolite.calibration.conformal import Conformal
from theodolite.calibration.gated import GatedConfidence
from theodolite.calibration.knn_agreement import KnnAgreement
from theodolite.calibration.sdm import Sdm
from theodolite.calibration.sgr import Sgr
from theodolite.core.discover import discover
from theodolite.core.errors import UserError
from theodolite.toys.selective import gaussians

METHODS = discover("theodolite.calibration", group="theodolite.calibrators", kind="calibrator")
X, Y = gaussians(200, 3, seed=0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 1.5])
def test_alpha_outside_its_range_is_refused(name: str, alpha: float) -> None:
    with pytest.raises(UserError, match=f"alpha={alpha}: give"):
        METHODS[name](alpha=alpha).fit(X, Y)


@pytest.mark.parametrize("name", METHODS)
def test_identical_rows_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="all 400 rows are the same"):
        METHODS[name]().fit(np.ones((400, 3)), np.repeat([0, 1], 200))


@pytest.mark.parametrize("name", METHODS)
def test_one_class_nan_and_another_width_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="1 class"):
        METHODS[name]().fit(X, np.ones(200))
    with pytest.raises(UserError, match="NaN"):
        METHODS[name]().fit(np.where(X > 2, np.nan, X), Y)
    fitted = METHODS[name]().fit(*gaussians(400, 3, seed=1))
    with pytest.raises(UserError, match="4 features"):
        fitted.accept(np.ones((2, 4)))


def test_parts_must_name_every_row_and_hold_both_classes() -> None:
    with pytest.raises(UserError, match="one word per row"):
        Sdm().fit(X, Y, part=["support"] * 3)
    with pytest.raises(UserError, match=r"part 'support' holds rows of 1 class\(es\): give it rows of both"):
        Sdm().fit(X, Y, part=np.where(Y > 0, "support", "calibrate"))
    with pytest.raises(UserError, match="unknown part 'calibrat': did you mean 'calibrate'"):
        Sdm().fit(X, Y, part=["support", "calibrat"] * 100)
    with pytest.raises(UserError, match="unknown part 'certify'"):
        Sdm().fit(X, Y, part=np.resize(["support", "calibrate", "certify"], 200))
    with pytest.raises(UserError, match=r"part 'certify' holds rows of 0 class\(es\)"):
        Certified().fit(X, Y, part=["support", "calibrate"] * 100)


def test_a_taxonomy_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="unknown taxonomy 'clas': did you mean 'class'"):
        Conformal(within="clas").fit(X, Y)


@pytest.mark.parametrize("cls", [Sdm, Certified])
def test_a_row_in_two_parts_is_refused_by_its_id_and_by_its_values(cls: type) -> None:
    part = np.resize(["support", "calibrate", "certify"] if cls is Certified else ["support", "calibrate"], 200)
    ids = np.arange(200)
    ids[1] = ids[0]
    with pytest.raises(UserError, match=r"rows 0 and 1 have the same id.*'support', the other in 'calibrate'"):
        cls().fit(X, Y, part=part, ids=ids)
    rows = X.copy()
    rows[1] = rows[0]
    with pytest.raises(UserError, match="rows 0 and 1 have the same values"):
        cls().fit(rows, Y, part=part)
    with pytest.raises(UserError, match="3 ids for 200 rows"):
        cls().fit(X, Y, part=part, ids=[1, 2, 3])


def test_equal_rows_stay_together_where_no_part_is_named() -> None:
    rule = Sdm().fit(np.repeat(X, 2, axis=0), np.repeat(Y, 2))
    support, calibrate = set(rule.rows_[:, 0]), set(rule.calibrate_.rows[:, 0])
    assert not support & calibrate
    assert len(rule.rows_) == 2 * len(support)


def test_only_a_calibrator_without_a_guarantee_of_its_own_can_be_wrapped() -> None:
    with pytest.raises(
        UserError, match=r"method is LogisticRegression: give a calibrator .* MaxSoftmax\(LogisticRegression"
    ):
        Certified(LogisticRegression()).fit(X, Y)
    for method in (Certified(Sgr()), GatedConfidence(method=Certified())):
        with pytest.raises(UserError, match="give a calibrator without a guarantee of its own"):
            method.fit(*gaussians(400, 3, seed=1))
    with pytest.raises(UserError, match="gate is KnnAgreement, which never rejects a row as far"):
        GatedConfidence(gate=KnnAgreement()).fit(*gaussians(400, 3, seed=1))
