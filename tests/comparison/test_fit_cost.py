"""The estimate of fitting: as many jobs and fits as a run makes, and a time that its own fits come near to."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import theodolite
from theodolite.comparison import fit_cost, fits
from theodolite.core.recipe import Recipe
from theodolite.models.model import Model
from theodolite.study.subjects import Subjects, settled
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

METHODS = ["difference_in_means", "logistic", "word_ngrams", "k_sparse@latents"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model("llama"), byte_tokenizer(), name="tiny", hash="tiny-0")


def table(n: int = 160) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone"]
    texts = [" ".join([*rng.choice(words, 7), "zzzz"][: 7 + at % 2]) for at in range(n)]
    return pd.DataFrame({"text": texts, "label": np.arange(n) % 2})


def test_the_plan_counts_the_fits_that_the_run_then_makes(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    asked: dict[str, Any] = {"model": model, "sae": "none", "methods": METHODS[:3], "seeds": 2}
    plan: Any = theodolite.compare(table(), **asked, dry_run=True)
    calls: list[list[fits.Fitted]] = []
    run = fits.run

    def watched(*given: Any) -> list[fits.Fitted]:
        calls.append(list(run(*given)))
        return calls[-1]

    monkeypatch.setattr(fits, "run", watched)
    theodolite.compare(table(), **asked, out=tmp_path / "run")
    made = calls[0]  # the others are those of other poolings
    assert plan.fitting.jobs == len(made)
    assert plan.fitting.fits == sum(one["n_fits"] for f in made for one in f.fits)


def test_a_plan_is_about_ten_lines_with_minutes_of_both_stages_and_their_grounds(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    plan: Any = theodolite.compare(table(), model=model, sae="none", dry_run=True)
    lines = list(plan.lines())
    assert len(lines) <= 12
    (time,) = [line for line in lines if line.startswith("time: ")]
    assert "timed on 16 texts" in time
    assert f"{plan.fitting.fits:,} fits of {plan.fitting.jobs} jobs on {plan.fitting.workers} cores" in time
    assert "each method timed on 128 drawn rows" in time
    assert any(line.startswith("disk: about ") for line in lines)
    assert lines[0].startswith(f"{plan.recipe.name}: tiny at blocks.")


def test_the_time_grows_with_the_rows_the_seeds_and_the_speed_of_a_trial(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_cost, "_seconds", lambda *what: 0.5)
    recipe = settled(
        Recipe(name="a", title="A", positive="", negative="", question="", train=[], methods=METHODS[:1], seeds=5),
        model,
    )
    texts = ["a text"] * 256  # half of them train, which is one trial's rows
    cost = fit_cost.fit_cost(recipe.model_copy(update={"quick": True}), Subjects(model), texts)
    # two thirds of the rows thrice, and all of them once, per seed and site
    assert cost.minutes * 60 * cost.workers == pytest.approx(cost.jobs * 5 * (0.5 * 2 + 0.5))
    twice = fit_cost.fit_cost(recipe.model_copy(update={"quick": True, "seeds": 10}), Subjects(model), texts * 2)
    assert twice.minutes == pytest.approx(4 * cost.minutes)
    whole = fit_cost.fit_cost(recipe, Subjects(model), texts)
    assert whole.jobs == cost.jobs + 3 * model.n_blocks  # the heat map
