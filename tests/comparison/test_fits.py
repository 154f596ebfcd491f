"""Fits are cached under everything a score depends on; every method of every view can be fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from case_kit import damage
from scipy import sparse

from theodolite.comparison import fits
from theodolite.comparison.fits import run
from theodolite.comparison.jobs import Job
from theodolite.core import code_hash, sealed
from theodolite.core.errors import Damaged, UserError
from theodolite.core.methods import parse
from theodolite.study.stages import peak_mb
from theodolite.study.views import Views, frame_hash

SITE = "blocks.1.resid_post"
DICTIONARY = "toy-0"


def made_views(folder: Path, *, seed: int = 0, over_refusal: tuple[str, ...] = ()) -> Views:
    """State and latents of 90 rows that the first column separates."""
    rng, label = np.random.default_rng(seed), np.arange(90) % 2
    names = [f"row:{i}" for i in range(90)]
    frame = pd.DataFrame({"id": names, "text": "", "label": label, "source": "toy", "cluster": np.arange(90)})
    frame = frame.assign(hash=names, template="", request=names, template_tokens=0)
    views = Views(
        folder / "views",
        {"train": f"given-{seed}"},
        {"train": frame_hash(frame)},
        over_refusal,
        {("", SITE): [DICTIONARY]},
    )
    views.put_frame("train", frame)
    X = rng.normal(size=(90, 5)) + 3 * label[:, None] * np.eye(5)[0]
    views.put("train", "state", SITE, X)
    views.put("train", "latents", SITE, sparse.csr_matrix(np.maximum(X, 0).astype(np.float32)), DICTIONARY)
    return views


@pytest.fixture
def views(tmp_path: Path) -> Views:
    return made_views(tmp_path)


@pytest.mark.parametrize("method", ["ridge", "logistic", "lda", "difference_in_means"])
def test_every_reader_can_be_given_state_and_latents_together(views: Views, tmp_path: Path, method: str) -> None:
    """Only `logistic` knows of two blocks; the others must not be told."""
    scores, record, _ = fits._one_seed(Job(f"{method}@state+latents", SITE), views, 0, tmp_path / "fit")
    assert scores["score"].notna().all()
    assert (record["params"].get("split") == 5) == (method == "logistic")


def test_a_reader_remembers_which_dictionary_it_reads(views: Views, tmp_path: Path) -> None:
    from theodolite.study.saved_readers import saved_about

    for method, dictionary in (("logistic@latents", DICTIONARY), ("logistic", "")):
        fits._one_seed(Job(method, SITE), views, 0, tmp_path / method)
        assert saved_about(tmp_path / method / "readers" / "0")["dictionary"] == dictionary


def test_jobs_in_processes_give_the_scores_of_jobs_in_this_one(
    views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, scores = [Job("difference_in_means", SITE), Job("ridge", SITE)], []
    for cores in ("1", "2"):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", cores)
        scores.append([f.scores for f in run(jobs, views, 2, tmp_path / cores, lambda done, total: None)])
    for one, other in zip(*scores, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_finished_job_is_not_fitted_again(views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [Job("difference_in_means", SITE)]
    (first,) = run(jobs, views, 2, tmp_path / "fits", lambda done, total: None)
    monkeypatch.setattr(fits, "_one_seed", None)
    told: list[tuple[int, int]] = []
    (again,) = run(jobs, views, 2, tmp_path / "fits", lambda *now: told.append(now))
    assert told == [(1, 1)]
    pd.testing.assert_frame_equal(first.scores, again.scores)
    assert set(first.scores["seed"]) == {"0", "1"}


def test_the_key_names_rows_seeds_code_and_versions(
    views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("logistic@latents", SITE)

    def key(views: Views = views, seeds: int = 2, job: Job = job) -> str:
        return fits._key(job, views, seeds)

    first = key()
    assert key() == first
    keys = {first, key(seeds=3), key(job=replace(job, tuned=False)), key(job=replace(job, method="ridge@latents"))}
    keys |= {key(made_views(tmp_path, seed=1)), key(made_views(tmp_path, over_refusal=("xstest",)))}
    keys.add(key(replace(views, inputs=views.inputs | {"new": "rows"}, frames=views.frames | {"new": "labels"})))
    keys.add(key(replace(views, frames={"train": "other labels of the same texts"})))
    monkeypatch.setattr(code_hash, "version", lambda name: "0.0.0")
    keys.add(key())
    monkeypatch.setattr(fits, "code_hash", lambda *entries: "edited")
    keys.add(key())
    assert len(keys) == 10


def test_a_fit_depends_on_its_reader_and_the_numerics_and_not_on_report_or_models() -> None:
    """A word changed on the page refits nothing; a reader's own modules and libraries refit it."""
    parts = {
        method: code_hash.closure(fits._work, Job, Views, parse(method).cls)
        for method in ("difference_in_means", "k_sparse")
    }
    for found in parts.values():
        rooms = {name.split(".")[1] for name in found.modules if "." in name}
        assert rooms == {"core", "study", "comparison", "data", "readers"}
        assert {f"theodolite.{name}" for name in ("study.tune", "study.views", "data.splits", "core.newton")} <= (
            found.modules.keys()
        )
        assert {"numpy", "scipy", "scikit-learn"} <= found.libraries.keys()
    assert "theodolite.readers._span" in parts["k_sparse"].modules
    assert "theodolite.readers._span" not in parts["difference_in_means"].modules


def test_a_worker_that_would_make_another_key_refuses(views: Views, tmp_path: Path) -> None:
    """Code that was edited after the key was made would be kept under the key of the old code."""
    job = Job("difference_in_means", SITE)
    with pytest.raises(UserError, match="edited while it ran"):
        fits._work(job, views, 1, "key-of-older-code", tmp_path, Path.cwd())
    assert not (tmp_path / "key-of-older-code").exists()


def home(folder: Path, job: Job, views: Views) -> Path:
    return folder / "fits" / fits._key(job, views, 1)[:32]


def kept_files(folder: Path, job: Job, views: Views) -> dict[str, bytes]:
    files = fits.fit_entry(folder / "fits", job, views, 1).reader_files()
    return {name: path.read_bytes() for name, path in files.items()}


@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
@pytest.mark.parametrize("file", ["scores.parquet", "fits.json", "readers/0/config.json", "out_of_fold/0.safetensors"])
def test_a_damaged_fit_is_made_again_and_counted(views: Views, tmp_path: Path, file: str, how: str) -> None:
    jobs, notes = [Job("difference_in_means", SITE)], []
    nothing = lambda done, total: None  # noqa: E731
    (first,) = run(jobs, views, 1, tmp_path / "fits", nothing)
    before = kept_files(tmp_path, jobs[0], views)
    damage(home(tmp_path, jobs[0], views) / file, how)
    (again,) = run(jobs, views, 1, tmp_path / "fits", nothing, lambda *note: notes.append(note))
    pd.testing.assert_frame_equal(first.scores, again.scores)
    assert again.fits[0]["params"] == first.fits[0]["params"]
    after = kept_files(tmp_path, jobs[0], views)
    assert after == before
    assert set(before) == {"config.json", "model.safetensors"}
    # a record that is gone is a job that is not finished, which is no damage
    counted = [] if (file, how) == ("fits.json", "deleted") else [("remade", 1)]
    assert [note[:2] for note in notes] == counted


def test_what_a_killed_write_left_beside_a_reader_is_not_copied(views: Views, tmp_path: Path) -> None:
    job = Job("difference_in_means", SITE)
    list(run([job], views, 1, tmp_path / "fits", lambda done, total: None))
    (home(tmp_path, job, views) / "readers" / "0" / ".config.json.0123abcd.tmp").write_bytes(b"half")
    assert set(kept_files(tmp_path, job, views)) == {"config.json", "model.safetensors"}


def test_no_near_duplicate_of_a_left_out_source_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a left-out row that lies in another source would be the row itself, seen in training."""
    views, seen = made_views(tmp_path), []
    frame = views.frame("train")
    cluster = np.arange(90)
    cluster[[10, 11, 12]] = cluster[[0, 1, 2]]  # rows of "kept" that are near rows 0 to 2 of "left"
    frame = frame.assign(source=np.where(np.arange(90) < 10, "left:a", "kept"), cluster=cluster, text=np.arange(90))
    views = replace(views, frames={"train": frame_hash(frame)})
    views.put_frame("train", frame)
    views.put("train", "state", SITE, np.column_stack([np.arange(90), frame["label"]]))

    class Watched(parse("difference_in_means").cls):  # type: ignore[misc]
        def fit(self, X: np.ndarray, y: np.ndarray) -> "Watched":
            seen.extend(X[:, 0].astype(int))
            return super().fit(X, y)

    method = replace(parse("difference_in_means"), cls=Watched)
    monkeypatch.setattr(fits, "configured", lambda *_: method)
    for seed in range(3):
        scores, _, _ = fits._one_seed(Job("difference_in_means", SITE, leave_out="left"), views, seed, tmp_path / "fit")
        assert set(scores["row"]) == {f"row:{i}" for i in range(10)}
    assert len(set(seen)) > 50
    assert not set(frame.iloc[sorted(set(seen))]["cluster"]) & set(cluster[:10])


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 2**20)])
def test_peak_memory_is_in_mb_everywhere(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    resource = pytest.importorskip("resource", reason="needs the limits and counts of POSIX, which Windows lacks")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: type("Usage", (), {"ru_maxrss": 300 * unit}))
    assert peak_mb() == 300


def test_peak_memory_is_unknown_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert np.isnan(peak_mb())


def test_whole_fits_of_two_methods_that_were_swapped_are_made_again(views: Views, tmp_path: Path) -> None:
    jobs, notes = [Job("difference_in_means", SITE), Job("lat", SITE)], []
    nothing = lambda done, total: None  # noqa: E731
    first = list(run(jobs, views, 1, tmp_path / "fits", nothing))
    one, two = (home(tmp_path, job, views) for job in jobs)
    one.rename(tmp_path / "kept")
    two.rename(one)
    (tmp_path / "kept").rename(two)
    with pytest.raises(Damaged):
        kept_files(tmp_path, jobs[0], views)
    again = list(run(jobs, views, 1, tmp_path / "fits", nothing, lambda *note: notes.append(note)))
    for before, after in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(before.scores, after.scores)
    assert [note[:2] for note in notes] == [("remade", 1)] * 2


@pytest.mark.parametrize("other", [{"method": "lat"}, {"site": "blocks.9.resid_post"}, {"seed": "7"}])
def test_scores_of_another_job_are_refused_though_the_record_is_whole(
    views: Views, tmp_path: Path, other: dict[str, str]
) -> None:
    job, nothing = Job("difference_in_means", SITE), lambda done, total: None
    (first,) = run([job], views, 1, tmp_path / "fits", nothing)
    folder, key = home(tmp_path, job, views), fits._key(job, views, 1)
    first.scores.assign(**other).to_parquet(folder / fits.SCORES, index=False)
    sealed.seal(folder / fits.RECORD, key, [folder / fits.SCORES], first.fits)
    with pytest.raises(Damaged, match="is not of difference_in_means"):
        list(run([job], views, 1, tmp_path / "fits", nothing))


def test_a_view_with_other_rows_than_its_data_set_is_refused(views: Views, tmp_path: Path) -> None:
    views.put("train", "state", SITE, np.ones((91, 5)))
    with pytest.raises(Damaged, match="holds 91 rows, the data set 90"):
        fits._one_seed(Job("difference_in_means", SITE), views, 0, tmp_path)


def test_in_distribution_scores_are_of_test_rows_alone(views: Views) -> None:
    """Rows of `calibrate` and `certify` set thresholds of selection rules, and rows of `train` the readers."""
    part = np.array(["train", "calibrate", "certify", "test", "train"] * 18)
    (evaluation,) = fits._evaluations(Job("ridge", SITE), views, views.frame, part)
    assert evaluation[:2] == ("in-distribution", "train")
    assert evaluation[2].tolist() == [at for at in range(90) if at % 5 == 3]
