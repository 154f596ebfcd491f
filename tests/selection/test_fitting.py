"""A planted half-population whose label is reversed: its rows are told apart where a probe is sure, and wrong."""

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
from theodolite.core.errors import UserError
from theodolite.core.metrics import mean
from theodolite.core.recipe import Recipe
from theodolite.core.stats import Interval, Sample
from theodolite.selection import accuracies, fitting, spaces
from theodolite.selection.accuracies import _claims, evaluate
from theodolite.selection.fitting import CHOSEN, Admitted
from theodolite.selection.protocol import Case, foresight, require_enough
from theodolite.selection.saved import Evidence, Kept
from theodolite.selection.scored_rows import Sighted
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


def case(seed: int) -> Case:
    return Case("logistic", seed, SITE, (SITE,), (0.8, LEVEL), 1)


@pytest.fixture(scope="module", autouse=True)
def few_maps() -> Iterator[None]:
    """Two maps, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.spaces, "names", lambda reader, has_dictionary: ["state", "pls"])
        yield


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Views, Path, list[Admitted]]:
    folder = tmp_path_factory.mktemp("admission")
    views = planted(folder)
    return views, folder, list(fitting.run([case(s) for s in range(5)], views, folder / "cache", lambda *_: None))


@pytest.fixture(scope="module")
def evaluated(judged):
    return evaluate(judged[2], lambda *_: None, n_boot=400)


def figure(rows: list[dict], dataset: str, judge: str, on: str, metric: str) -> dict:
    (found,) = [
        r
        for r in rows
        if (r["dataset"], r["metric"]) == (dataset, metric)
        and f'"judge": "{judge}"' in r["params"]
        and f'"alpha": {LEVEL}' in r["params"]
        and (on is None or f'"map": "{on}"' in r["params"])
    ]
    return found


def test_the_softmax_is_fooled_by_the_pockets_and_the_chosen_judge_is_not(evaluated) -> None:
    rows, _ = evaluated
    fooled = [figure(rows, "same", "max_softmax", "", f"accuracy_{c}")["value"] for c in accuracies.CELLS]
    assert min(fooled) < 0.88
    trusted = [figure(rows, "same", CHOSEN, None, f"accuracy_{c}")["value"] for c in accuracies.CELLS]
    assert min(trusted) > LEVEL
    assert figure(rows, "same", CHOSEN, None, "admitted")["value"] > 0.5
    assert (
        figure(rows, "same", CHOSEN, None, "augrc")["value"] < figure(rows, "same", "max_softmax", "", "augrc")["value"]
    )


def test_claims_say_kept_where_it_is_so_and_broken_where_another_rule_holds(evaluated) -> None:
    words = {claim.dataset: claim.word for claim in evaluated[1]}
    off = words.pop("off-support")
    assert words == {"in-distribution": "kept", "same": "kept", "flipped": "broken"}
    assert off in ("nothing admitted", "open")
    assert {c.family for c in evaluated[1] if c.dataset != "in-distribution"} == {3}


def test_rows_off_the_support_are_rejected_as_far(judged) -> None:
    detail = pd.concat([one.detail for one in judged[2]])
    off = detail[detail["dataset"] == "off-support"]
    assert (off["reason"] == "").mean() < 0.02
    assert (off["reason"] == "far from the data").mean() > 0.9


def test_the_certify_rows_choose_nothing(judged) -> None:
    """With every certify label turned round, map and confidence are chosen as before, and nothing is certified."""
    views, _, (one, *_) = judged
    sighted = Sighted(case(0), views)
    sighted.label = sighted.label.copy()
    sighted.label[sighted.at["certify"]] = 1 - sighted.label[sighted.at["certify"]]
    _, detail, record, _ = fitting._judge(sighted)
    assert record["options"] == one.record["options"]
    assert record["threshold"][str(LEVEL)] is None
    assert (detail["reason"] != "").all()


def test_scores_of_the_support_come_from_readers_that_did_not_see_the_row(judged) -> None:
    sighted = Sighted(case(0), judged[0])
    support = sighted.at["support"]
    X = judged[0].get("train", "state", SITE)[support]
    own = sighted.platt.log_odds(sighted.reader.decision_function(X))
    assert not np.allclose(own, sighted.log_odds["train"][support])


def home_of(cache: Path, views: Views) -> Path:
    return cache / fitting._key(case(0), views)[:32]


def test_a_kept_judge_says_what_it_said(judged) -> None:
    views, folder, (one, *_) = judged
    kept, sighted = Kept(home_of(folder / "cache", views) / "judge"), Sighted(case(0), views)
    said = kept.say(sighted.rows("same"), sighted.log_odds["same"])
    then = one.detail[one.detail["dataset"] == "same"]
    assert said.reason.astype(str).tolist() == then["reason"].tolist()
    assert said.probability == pytest.approx(then["probability"].to_numpy())
    assert [" ".join(ids) for ids in said.exemplars] == then["exemplars"].tolist()
    place = {name: i for i, name in enumerate(kept.sdm.ids_)}
    near = np.vectorize(place.get)(said.exemplars)
    rows = spaces.coordinates(kept.map, sighted.rows("same"), sighted.log_odds["same"])
    asked, support = (kept.sdm.space_.transform(of) for of in (rows, kept.sdm.rows_))
    assert said.apart == pytest.approx(np.linalg.norm(asked[:, None] - support[near], axis=2), rel=1e-4, abs=1e-6)


def test_a_finished_case_is_not_judged_again_and_a_rerun_is_the_same(judged, tmp_path, monkeypatch) -> None:
    views, _, (one, *_) = judged
    (other,) = fitting.run([case(0)], views, tmp_path / "cache", lambda *_: None)
    pd.testing.assert_frame_equal(one.judgements, other.judgements)
    pd.testing.assert_frame_equal(one.detail, other.detail)
    monkeypatch.setattr(fitting, "_judge", None)
    assert len(list(fitting.run([case(0)], views, tmp_path / "cache", lambda *_: None))) == 1


def test_damaged_judgements_are_made_again_and_counted(judged, tmp_path: Path) -> None:
    views, folder, (one, *_) = judged
    cache, notes = tmp_path / "cache", []
    home = home_of(cache, views)
    shutil.copytree(home_of(folder / "cache", views), home)
    path = home / "judgements.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (again,) = fitting.run([case(0)], views, cache, lambda *_: None, lambda *note: notes.append(note))
    pd.testing.assert_frame_equal(one.judgements, again.judgements)
    assert [note[:2] for note in notes] == [("remade", 1)]
    (home / "judge" / ".config.json.0123abcd.tmp").write_bytes(b"half")
    assert set(fitting.judge_files(cache, case(0), views)) == {"config.json", "judge.safetensors"}


def test_too_few_rows_to_calibrate_are_refused_before_the_model_reads(judged) -> None:
    train = judged[0].frame("train")
    recipe = Recipe.model_construct(methods=["lat"], seeds=2)
    require_enough(recipe, train, False)
    with pytest.raises(UserError, match="leaves 11 of the 73 of label 0: give at least 200 rows"):
        require_enough(recipe, train[:150], False)
    with pytest.raises(UserError, match="none of them can be fitted here: add one with --method"):
        require_enough(recipe.model_copy(update={"methods": ["k_sparse@latents"]}), train, False)


def test_delta_is_divided_among_the_readers_and_the_other_rungs() -> None:
    ladder = Case("logistic", 0, SITE, (), (0.7, 0.8, 0.9, 0.95), 3)
    assert ladder.level == 0.9
    assert ladder.delta(0.9) == pytest.approx(0.1 / 3)
    assert ladder.delta(0.95) == pytest.approx(0.1 / 9)
    assert replace(ladder, alphas=(0.8,)).level == 0.8


def test_foresight_counts_what_a_certificate_needs(judged) -> None:
    recipe = Recipe.model_construct(admit=[0.9], methods=["logistic"], seeds=2)
    (line,) = foresight(recipe, judged[0].frame("train"), False)
    assert line.startswith(
        "certifying 0.9 needs at least 22 rows without an error in every cell at delta 0.1; the rarer"
    )
    (line,) = foresight(recipe, judged[0].frame("train")[:150], False)
    assert line.endswith("the rarer class has 11 to 11, by training set: with fewer, nothing will be relied on at it")


def interval(value: float, sd: float, n_groups: int = 400) -> Interval:
    return Interval(value, value, value, n_groups, n_groups, 0, sd, 0.0, 0.0, 0.0, n_groups - 1, 5, 0.5)


def cells(*values: float, n: int = 2000) -> dict[str, Interval]:
    """Accuracies of n independent rows each."""
    return {c: interval(v, (v * (1 - v) / n) ** 0.5, n) for c, v in zip(accuracies.CELLS, values, strict=True)}


def test_a_claim_is_kept_by_all_cells_and_broken_by_one() -> None:
    found = {
        ("logistic", "a"): cells(0.95, 0.96, 0.95, 0.97),
        ("logistic", "b"): cells(0.95, 0.96, 0.95, 0.85),
        ("logistic", "c"): cells(0.95, 0.96, 0.95, 0.905),
    }
    assert [c.word for c in _claims(found, 0.9)] == ["kept", "broken", "open"]
    assert [c.least for c in _claims(found, 0.9)][1:] == ["predicted_1", "predicted_1"]


def test_accuracies_without_an_error_on_few_groups_show_nothing() -> None:
    none_wrong = {name: interval(1.0, 0.0, n_groups=12) for name in accuracies.CELLS}
    assert _claims({("lat", "a"): none_wrong}, 0.9)[0].word == "open"
    many = {name: interval(1.0, 0.0, n_groups=300) for name in accuracies.CELLS}
    assert _claims({("lat", "a"): many}, 0.9)[0].word == "kept"
    few_seeds = {name: replace(f, n_seeds=4) for name, f in many.items()}
    assert _claims({("lat", "a"): few_seeds}, 0.9)[0].word == "open"


def test_holm_makes_a_large_family_harder_to_convince() -> None:
    alone = cells(0.9135, 0.95, 0.95, 0.95)
    assert _claims({("logistic", "a"): alone}, 0.9)[0].word == "kept"
    family = {("logistic", str(i)): cells(0.9, 0.95, 0.95, 0.95) for i in range(20)} | {("logistic", "a"): alone}
    assert {c.word for c in _claims(family, 0.9)} == {"open"}


@pytest.mark.parametrize(("right", "n"), [(94, 100), (96, 100), (97, 100), (285, 300), (45, 45), (850, 1000)])
def test_the_tail_of_a_claim_is_that_of_a_binomial_or_a_little_more(right: int, n: int) -> None:
    figure = interval(right / n, (right / n * (1 - right / n) / n) ** 0.5, n)
    above, below = binom.sf(right - 1, n, LEVEL), binom.cdf(right, n, LEVEL)
    for side, exact in ((False, above), (True, below)):
        said = accuracies._p_value(figure, LEVEL, below=side)
        assert exact < 1e-4 > said or 0.5 * exact < said < max(4 * exact, exact + 0.06)


def test_one_row_that_is_wrong_breaks_nothing() -> None:
    of = cells(0.95, 0.95, 0.95, 0.95) | {"class_1": interval(0.0, 0.0, n_groups=1)}
    (claim,) = _claims({("lat", "a"): of}, 0.9)
    assert (claim.word, claim.least, claim.n) == ("open", "class_1", 1)
    assert claim.p_broken > 0.05


def test_sets_of_one_label_make_no_claim_and_an_empty_cell_shows_nothing() -> None:
    one_label = {name: f for name, f in cells(0.99, 0.99, 0.99, 0.0).items() if name != "class_1"}
    empty = cells(0.99, 0.99, 0.99, 0.99) | {"predicted_1": replace(interval(0.9, 0.0), value=math.nan, n=0)}
    (claim,) = _claims({("lat", "edgy"): one_label, ("lat", "a"): empty}, 0.9)
    assert (claim.dataset, claim.word, claim.p_kept) == ("a", "open", 1.0)


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
    evidence = Evidence(X, y, part, np.arange(900))
    plain, certified = evidence.fit(Sdm()), evidence.fit(Certified(Sdm()))
    assert (len(plain.rows_), len(plain.calibrate_.rows)) == (300, 600)
    assert len(certified.method_.calibrate_.rows) == 300
    assert len(evidence.uncertified().rows) == 600
