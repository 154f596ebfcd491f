"""Fits are cached under everything a score depends on; every method of every view can be fitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from theodolite.comparison import fits
from theodolite.comparison.fits import reader_folder, run
from theodolite.comparison.jobs import Job
from theodolite.comparison.stages import peak_mb
from theodolite.comparison.views import Views
from theodolite.core.atomic import publish

SITE = "blocks.1.resid_post"
DICTIONARY = "toy-0"


def made_views(folder: Path, *, seed: int = 0, over_refusal: tuple[str, ...] = ()) -> Views:
    """State and latents of 90 rows that the first column separates."""
    views = Views(folder / "views", f"origin-{seed}", over_refusal=over_refusal, stations={("", SITE): [DICTIONARY]})
    rng, label = np.random.default_rng(seed), np.arange(90) % 2
    names = [f"row:{i}" for i in range(90)]
    frame = pd.DataFrame({"id": names, "text": "", "label": label, "source": "toy", "cluster": np.arange(90)})
    frame = frame.assign(hash=names, template="", request=names, template_tokens=0)
    publish(views.path("train"), frame.to_parquet(index=False))
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
    scores, record = fits._one_seed(Job(f"{method}@state+latents", SITE), views, 0, tmp_path / "fit")
    assert scores["score"].notna().all()
    assert (record["params"].get("split") == 5) == (method == "logistic")


def test_a_reader_remembers_which_dictionary_it_reads(views: Views, tmp_path: Path) -> None:
    from theodolite.comparison.saved_readers import saved_about

    for method, station in (("logistic@latents", DICTIONARY), ("logistic", "")):
        fits._one_seed(Job(method, SITE), views, 0, tmp_path / method)
        assert saved_about(tmp_path / method / "reader")["station"] == station


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
    monkeypatch.setattr(fits, "_work", None)
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
        return str(reader_folder(tmp_path, job, views, seeds))

    first = key()
    assert key() == first
    keys = {first, key(seeds=3), key(job=Job("logistic@latents", SITE, tuned=False))}
    keys |= {key(made_views(tmp_path, seed=1)), key(made_views(tmp_path, over_refusal=("xstest",)))}
    fits.code.cache_clear()
    monkeypatch.setattr(fits, "version", lambda name: "0.0.0")
    keys.add(key())
    fits.code.cache_clear()
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"edited")
    keys.add(key())
    fits.code.cache_clear()
    assert len(keys) == 7


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 2**20)])
def test_peak_memory_is_in_mb_everywhere(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: type("Usage", (), {"ru_maxrss": 300 * unit}))
    assert peak_mb() == 300


def test_peak_memory_is_unknown_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert np.isnan(peak_mb())
