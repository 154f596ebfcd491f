"""A planted half-population whose label is reversed: where a probe is confident and wrong, and rules must reject."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from theodolite.calibration.certified import Certified
from theodolite.calibration.sdm import Sdm
from theodolite.comparison import fits as comparison_fits
from theodolite.comparison.jobs import Job
from theodolite.core.errors import Damaged, UserError
from theodolite.core.methods import parse
from theodolite.core.metrics import mean
from theodolite.core.recipe import Recipe
from theodolite.core.seeds import child_seed
from theodolite.core.stats import Interval, Sample
from theodolite.data.splits import folds
from theodolite.selection import accuracies, fitting, spaces
from theodolite.selection.accuracies import _claims, evaluate
from theodolite.selection.fitting import CHOSEN, CaseResult
from theodolite.selection.protocol import SelectionCase, certificate_needs, require_enough
from theodolite.selection.saved import LabelledRows, SavedRule
from theodolite.selection.scored_rows import ScoredRows
from theodolite.study.seed_fits import FitEntry
from theodolite.study.tune import tune
from theodolite.study.views import Views, frame_hash
from theodolite.toys.selective import flipped, gaussians, off_support, pocket

SITE, LEVEL = "blocks.1.resid_post", 0.9


def labelled(name: str, y: np.ndarray) -> pd.DataFrame:
    ids = [f"{name}:{i}" for i in range(len(y))]
    frame = pd.DataFrame({"id": ids, "text": ids, "label": y, "source": "toy", "cluster": np.arange(len(y))})
    return frame.assign(hash=ids, template="", request=ids, template_tokens=0)


def planted(folder: Path) -> Views:
    """Training rows with pockets; shifts that are the same, elsewhere, and of another rule."""
    X, y = gaussians(250, 4, seed=2)
    data = {
        "train": pocket(2000, 4, seed=0),
        "same": pocket(1000, 4, seed=1),
        "off-support": (off_support(X, 8, axis=3), np.random.default_rng(0).integers(0, 2, 250)),
        "flipped": (X, flipped(X, y, axis=2, above=0.0)),
    }
    frames = {name: labelled(name, y) for name, (_, y) in data.items()}
    hashes = {name: frame_hash(frame) for name, frame in frames.items()}
    views = Views(folder / "views", {name: f"pocket-{name}" for name in data}, hashes)
    for name, (x, _) in data.items():
        views.put_frame(name, frames[name])
        views.put(name, "state", SITE, x)
    return views


def quiet(done: int, total: int) -> None:
    """Progress that is told to nobody."""


def case(seed: int) -> SelectionCase:
    return SelectionCase("logistic", seed, SITE, (SITE,), (0.8, LEVEL), 1)


@pytest.fixture(scope="module", autouse=True)
def few_spaces() -> Iterator[None]:
    """Two spaces, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.spaces, "names", lambda reader, has_dictionary: ["state", "pls"])
        yield


def compared(folder: Path, views: Views, seeds: int = 5) -> FitEntry:
    """The comparison's fits of the reader of `case`."""
    job = Job("logistic", SITE)
    list(comparison_fits.run([job], views, seeds, folder, quiet))
    return comparison_fits.fit_entry(folder, job, views, seeds)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Views, Path, list[CaseResult]]:
    folder = tmp_path_factory.mktemp("selection")
    views = planted(folder)
    fits = {"logistic": compared(folder / "fits", views)}
    return views, folder, list(fitting.run([case(s) for s in range(5)], fits, views, folder / "cache", quiet))


@pytest.fixture(scope="module")
def entry(fitted) -> FitEntry:
    """The comparison's entry that the cases were evaluated on."""
    return compared(fitted[1] / "fits", fitted[0])


@pytest.fixture(scope="module")
def evaluated(fitted):
    return evaluate(fitted[2], lambda *_: None, n_boot=400)


def figure(rows: list[dict], dataset: str, rule: str, space: str, metric: str) -> dict:
    (found,) = [
        r
        for r in rows
        if (r["dataset"], r["metric"]) == (dataset, metric)
        and f'"rule": "{rule}"' in r["params"]
        and f'"alpha": {LEVEL}' in r["params"]
        and (space is None or f'"space": "{space}"' in r["params"])
    ]
    return found


def test_the_softmax_fails_in_the_pockets_and_the_chosen_rule_does_not(evaluated) -> None:
    rows, _ = evaluated
    fooled = [figure(rows, "same", "max_softmax", "", f"accuracy_{c}")["value"] for c in accuracies.CELLS]
    assert min(fooled) < 0.88
    trusted = [figure(rows, "same", CHOSEN, None, f"accuracy_{c}")["value"] for c in accuracies.CELLS]
    assert min(trusted) > LEVEL
    assert figure(rows, "same", CHOSEN, None, "coverage")["value"] > 0.5
    assert (
        figure(rows, "same", CHOSEN, None, "augrc")["value"] < figure(rows, "same", "max_softmax", "", "augrc")["value"]
    )


def test_claims_hold_on_the_same_rows_and_fail_where_labels_follow_another_rule(evaluated) -> None:
    words = {claim.dataset: claim.word for claim in evaluated[1]}
    off = words.pop("off-support")
    assert words == {"in-distribution": "holds", "same": "holds", "flipped": "fails"}
    assert off in ("nothing accepted", "inconclusive")
    assert {c.family for c in evaluated[1] if c.dataset != "in-distribution"} == {3}


def test_coverage_is_the_share_of_rows_that_the_chosen_rule_accepts(fitted, evaluated) -> None:
    predictions = pd.concat([one.predictions for one in fitted[2]])
    for dataset in ("same", "off-support", "flipped"):
        accepted = predictions.loc[predictions["dataset"] == dataset, "reason"] == ""
        assert figure(evaluated[0], dataset, CHOSEN, None, "coverage")["value"] == pytest.approx(accepted.mean())


def test_rows_off_the_support_are_rejected_as_far(fitted) -> None:
    detail = pd.concat([one.predictions for one in fitted[2]])
    off = detail[detail["dataset"] == "off-support"]
    assert (off["reason"] == "").mean() < 0.02
    assert (off["reason"] == "far from the data").mean() > 0.9


def test_the_certify_rows_choose_nothing(fitted, entry) -> None:
    """With every certify label turned round, space and confidence are chosen as before, and nothing is certified."""
    views, _, (one, *_) = fitted
    scored = ScoredRows(case(0), views, entry)
    scored.label = scored.label.copy()
    scored.label[scored.at["certify"]] = 1 - scored.label[scored.at["certify"]]
    found, _ = fitting._evaluate_case(scored)
    assert found.record["options"] == one.record["options"]
    assert found.record["threshold"][str(LEVEL)] is None
    assert (found.predictions["reason"] != "").all()


def test_scores_of_the_support_come_from_readers_that_did_not_see_the_row(fitted, entry) -> None:
    scored = ScoredRows(case(0), fitted[0], entry)
    support = scored.at["support"]
    X = fitted[0].get("train", "state", SITE)[support]
    own = scored.platt.log_odds(scored.reader.decision_function(X))
    assert not np.allclose(own, scored.log_odds["train"][support])


@pytest.mark.parametrize("seed", [0, 3])
def test_a_reader_of_the_comparison_scores_as_one_fitted_again(fitted, entry, seed: int) -> None:
    """Tuning on the support gives the bits that the comparison has kept: nothing changes by not doing it twice."""
    views, method = fitted[0], parse("logistic")
    scored, train, X = ScoredRows(case(seed), views, entry), views.frame("train"), views.get("train", "state", SITE)
    support = scored.at["support"]
    inner = folds(train.iloc[support], seed=seed)
    again = tune(method, X[support], scored.label[support], inner, seed=child_seed(seed, "logistic"))
    log_odds = again.platt.log_odds(again.estimator.decision_function(X))
    log_odds[support] = again.platt.log_odds(again.out_of_fold_n)
    assert np.array_equal(scored.log_odds["train"], log_odds)
    assert scored.reader.get_params() == again.estimator.get_params()


def test_no_reader_is_fitted_for_selection(fitted, entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a reader was fitted again")

    monkeypatch.setattr("theodolite.readers.logistic.Logistic.fit", refuse)
    monkeypatch.setattr("theodolite.readers.logistic.Logistic.fit_path", refuse)
    found, _ = fitting._evaluate_case(ScoredRows(case(0), fitted[0], entry))
    pd.testing.assert_frame_equal(found.predictions, fitted[2][0].predictions)


def test_rows_that_calibrate_or_certify_were_not_fitted_on(fitted, entry) -> None:
    scored, seen = ScoredRows(case(0), fitted[0], entry), entry.open(0, parse("logistic").cls).rows
    for part in ("calibrate", "certify"):
        assert not set(scored.at[part]) & set(seen)
    assert not set(scored.test) & set(seen)


def test_a_fit_of_other_rows_than_the_support_is_refused(fitted, entry, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = entry.open(1, parse("logistic").cls)
    monkeypatch.setattr(FitEntry, "open", lambda *_: shared)
    with pytest.raises(Damaged, match="missing or damaged"):
        ScoredRows(case(0), fitted[0], entry)


def test_a_comparison_with_more_seeds_keeps_the_cases_of_the_first(fitted, entry, tmp_path: Path) -> None:
    views = fitted[0]
    more = compared(tmp_path / "fits", views, seeds=6)
    assert more.key != entry.key
    assert fitting._key(case(0), views, more) == fitting._key(case(0), views, entry)
    assert fitting._key(case(1), views, more) != fitting._key(case(0), views, more)


def home_of(cache: Path, views: Views, entry: FitEntry) -> Path:
    return cache / fitting._key(case(0), views, entry)[:32]


def test_a_saved_rule_predicts_as_it_did(fitted, entry) -> None:
    views, folder, (one, *_) = fitted
    saved = SavedRule(home_of(folder / "cache", views, entry) / "rule")
    scored = ScoredRows(case(0), views, entry)
    again = saved.predict(scored.get_view("same"), scored.log_odds["same"])
    then = one.predictions[one.predictions["dataset"] == "same"]
    assert again.reason.astype(str).tolist() == then["reason"].tolist()
    assert again.probability == pytest.approx(then["probability"].to_numpy())
    assert [" ".join(ids) for ids in again.exemplars] == then["exemplars"].tolist()
    place = {name: i for i, name in enumerate(saved.sdm.ids_)}
    near = np.vectorize(place.get)(again.exemplars)
    rows = spaces.coordinates(saved.space, scored.get_view("same"), scored.log_odds["same"])
    new, support = (saved.sdm.space_.transform(of) for of in (rows, saved.sdm.rows_))
    assert again.distances == pytest.approx(np.linalg.norm(new[:, None] - support[near], axis=2), rel=1e-4, abs=1e-6)


def test_a_finished_case_is_not_evaluated_again_and_a_rerun_is_the_same(fitted, entry, tmp_path, monkeypatch) -> None:
    views, _, (one, *_) = fitted
    fits = {"logistic": entry}
    (other,) = fitting.run([case(0)], fits, views, tmp_path / "cache", quiet)
    pd.testing.assert_frame_equal(one.decisions, other.decisions)
    pd.testing.assert_frame_equal(one.predictions, other.predictions)
    monkeypatch.setattr(fitting, "_evaluate_case", None)
    assert len(list(fitting.run([case(0)], fits, views, tmp_path / "cache", quiet))) == 1


def test_damaged_decisions_are_made_again_and_counted(fitted, entry, tmp_path: Path) -> None:
    views, folder, (one, *_) = fitted
    cache, notes = tmp_path / "cache", []
    home = home_of(cache, views, entry)
    shutil.copytree(home_of(folder / "cache", views, entry), home)
    path = home / "decisions.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    fits = {"logistic": entry}
    (again,) = fitting.run([case(0)], fits, views, cache, quiet, lambda *note: notes.append(note))
    pd.testing.assert_frame_equal(one.decisions, again.decisions)
    assert [note[:2] for note in notes] == [("remade", 1)]
    (home / "rule" / ".config.json.0123abcd.tmp").write_bytes(b"half")
    (whole,) = fitting.run([case(0)], fits, views, cache, quiet)
    assert set(whole.rule) == {"config.json", "rule.safetensors"}


def test_too_few_rows_to_calibrate_are_refused_before_the_model_reads(fitted) -> None:
    train = fitted[0].frame("train")
    recipe = Recipe.model_construct(methods=["lat"], seeds=2)
    require_enough(recipe, train, False)
    with pytest.raises(UserError, match="leaves 11 of the 73 of label 0: give at least 200 rows"):
        require_enough(recipe, train[:150], False)
    with pytest.raises(UserError, match="none of them can be fitted here: add one with --method"):
        require_enough(recipe.model_copy(update={"methods": ["k_sparse@latents"]}), train, False)


def test_delta_is_divided_among_the_readers_and_the_other_rungs() -> None:
    ladder = SelectionCase("logistic", 0, SITE, (), (0.7, 0.8, 0.9, 0.95), 3)
    assert ladder.level == 0.9
    assert ladder.delta(0.9) == pytest.approx(0.1 / 3)
    assert ladder.delta(0.95) == pytest.approx(0.1 / 9)
    assert replace(ladder, alphas=(0.8,)).level == 0.8


def test_a_plan_counts_what_a_certificate_needs(fitted) -> None:
    recipe = Recipe.model_construct(admit=[0.9], methods=["logistic"], seeds=2)
    (enough,) = certificate_needs(recipe, fitted[0].frame("train"), False)
    assert (enough.alpha, enough.delta, enough.needed) == (0.9, 0.1, 22)
    assert 22 < enough.fewest <= enough.most
    (short,) = certificate_needs(recipe, fitted[0].frame("train")[:150], False)
    assert short == replace(enough, fewest=11, most=11)


def interval(value: float, sd: float, n_groups: int = 400) -> Interval:
    return Interval(value, value, value, n_groups, n_groups, 0, sd, 0.0, 0.0, 0.0, n_groups - 1, 5, 0.5)


def cells(*values: float, n: int = 2000) -> dict[str, Interval]:
    """Accuracies of n independent rows each."""
    return {c: interval(v, (v * (1 - v) / n) ** 0.5, n) for c, v in zip(accuracies.CELLS, values, strict=True)}


def test_a_claim_holds_by_all_cells_and_fails_by_one() -> None:
    found = {
        ("logistic", "a"): cells(0.95, 0.96, 0.95, 0.97),
        ("logistic", "b"): cells(0.95, 0.96, 0.95, 0.85),
        ("logistic", "c"): cells(0.95, 0.96, 0.95, 0.905),
    }
    assert [c.word for c in _claims(found, 0.9)] == ["holds", "fails", "inconclusive"]
    assert [c.worst for c in _claims(found, 0.9)][1:] == ["predicted_1", "predicted_1"]


def test_accuracies_without_an_error_on_few_groups_show_nothing() -> None:
    none_wrong = {name: interval(1.0, 0.0, n_groups=12) for name in accuracies.CELLS}
    assert _claims({("lat", "a"): none_wrong}, 0.9)[0].word == "inconclusive"
    many = {name: interval(1.0, 0.0, n_groups=300) for name in accuracies.CELLS}
    assert _claims({("lat", "a"): many}, 0.9)[0].word == "holds"
    few_seeds = {name: replace(f, n_seeds=4) for name, f in many.items()}
    assert _claims({("lat", "a"): few_seeds}, 0.9)[0].word == "inconclusive"


def test_holm_makes_a_large_family_harder_to_convince() -> None:
    alone = cells(0.9135, 0.95, 0.95, 0.95)
    assert _claims({("logistic", "a"): alone}, 0.9)[0].word == "holds"
    family = {("logistic", str(i)): cells(0.9, 0.95, 0.95, 0.95) for i in range(20)} | {("logistic", "a"): alone}
    assert {c.word for c in _claims(family, 0.9)} == {"inconclusive"}


@pytest.mark.parametrize(("right", "n"), [(94, 100), (96, 100), (97, 100), (285, 300), (45, 45), (850, 1000)])
def test_the_tail_of_a_claim_is_that_of_a_binomial_or_a_little_more(right: int, n: int) -> None:
    figure = interval(right / n, (right / n * (1 - right / n) / n) ** 0.5, n)
    above, below = binom.sf(right - 1, n, LEVEL), binom.cdf(right, n, LEVEL)
    for side, exact in ((False, above), (True, below)):
        found = accuracies._p_value(figure, LEVEL, below=side)
        assert exact < 1e-4 > found or 0.5 * exact < found < max(4 * exact, exact + 0.06)


def test_one_wrong_row_fails_no_claim() -> None:
    of = cells(0.95, 0.95, 0.95, 0.95) | {"class_1": interval(0.0, 0.0, n_groups=1)}
    (claim,) = _claims({("lat", "a"): of}, 0.9)
    assert (claim.word, claim.worst, claim.n) == ("inconclusive", "class_1", 1)
    assert claim.p_fails > 0.05


def test_sets_of_one_label_make_no_claim_and_an_empty_cell_shows_nothing() -> None:
    one_label = {name: f for name, f in cells(0.99, 0.99, 0.99, 0.0).items() if name != "class_1"}
    empty = cells(0.99, 0.99, 0.99, 0.99) | {"predicted_1": replace(interval(0.9, 0.0), value=math.nan, n=0)}
    (claim,) = _claims({("lat", "edgy"): one_label, ("lat", "a"): empty}, 0.9)
    assert (claim.dataset, claim.word, claim.p_holds) == ("a", "inconclusive", 1.0)


def test_a_mean_over_training_sets_rests_on_no_more_groups_than_the_small_ones_have() -> None:
    y, n = np.zeros(300, int), 300
    sample = Sample.of(y, [np.arange(n)], np.ones((5, n), bool), n_boot=20)
    right = np.full((5, n), np.nan)
    right[0, :200], right[1:, 250] = 1.0, 1.0
    assert accuracies._over(sample, "accuracy", mean, right)[1].n_groups == 6
    assert accuracies._over(sample, "accuracy", mean, np.ones((5, n)))[1].n_groups == n


def test_certify_rows_are_more_to_calibrate_on_where_nothing_is_certified() -> None:
    X, y = gaussians(900, 3, seed=0)
    part = np.repeat(np.array(["support", "calibrate", "certify"], dtype=object), 300)
    labelled_rows = LabelledRows(X, y, part, np.arange(900))
    plain, certified = labelled_rows.fit(Sdm()), labelled_rows.fit(Certified(Sdm()))
    assert (len(plain.rows_), len(plain.calibrate_.rows)) == (300, 600)
    assert len(certified.method_.calibrate_.rows) == 300
    assert len(labelled_rows.without_certify().rows) == 600
