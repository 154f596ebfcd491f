"""A debate from its recipe to rows and page, on a tiny model."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import theodolite
from theodolite.control import classifiers, ground
from theodolite.core.claim_file import load
from theodolite.core.errors import UserError
from theodolite.core.recipe import names
from theodolite.core.run import Run
from theodolite.debate.nested import wanted
from theodolite.models.model import Model
from theodolite.study.analysis import Analyses, load_recipe
from theodolite.study.claim_rules import Figures
from theodolite.study.compare_request import CompareRequest
from theodolite.study.kinds import resolved
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

READING = """
name: tiny-reading
title: French for a tiny model
positive: French
negative: English
question: Is this text in French?
format: raw
site: blocks.1.resid_post
sites: [blocks.1.resid_post]
max_tokens: 16
primary: other-genre
methods: [difference_in_means, logistic, lat, ridge]
seeds: 2
limit: 60
train:
  - {source: french, concept: french, group: group}
shifts:
  other-genre:
    rows:
      - {source: french-shift, concept: french, member: shift, group: group}
"""
STEERING = """
kind: steer
name: tiny-steering
title: Which method steers a tiny model?
concept: french
site: blocks.1.resid_post
methods: [difference_in_means, logistic, lat, ridge, logit_bias]
contrasts:
  - {method: difference_in_means, than: logit_bias}
nats: [0.1]
openings: 10
disturbance_texts: 8
written_tokens: 3
draws: 0
"""
DEBATE = """
kind: debate
name: tiny-debate
title: Is the best reader of French its best controller?
pairs:
  - {concept: french, reading: reading.yaml, steering: steering.yaml}
readers: {difference_in_means: difference_in_means, logistic: logistic, lat: lat, ridge: ridge, prompt: majority}
neurons: false
"""


def fitted(texts: Any, labels: Any, groups: Any) -> Any:
    """Classifiers of the texts whose sentence vectors are letter counts: the embedder takes seconds to load."""
    return classifiers.fit_classifiers(
        texts, labels, groups, embed=lambda some: np.array([[t.count(c) for c in "aeiouqx'"] for t in some], float)
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("debate")
    for name, text in (("reading", READING), ("steering", STEERING), ("debate", DEBATE)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def compared(place: Path, what: str, model: Model, **given: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(place / "cache"))
        patch.chdir(place)
        patch.setattr(ground, "DAMAGE_TEXTS", 4)
        patch.setattr(classifiers, "embed_sentences", None)
        patch.setattr(ground, "fit_classifiers", fitted)
        return theodolite.compare(place / what, model=model, sae="none", progress=lambda *now: None, **given)


@pytest.fixture(scope="module")
def run(place: Path, model: Model) -> Any:
    return compared(place, "debate.yaml", model, out=place / "runs" / "debate")


def rows_of(run: Any, **wanted: Any) -> pd.DataFrame:
    rows = run.rows
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return rows


def test_each_comparison_is_a_run_of_its_own_that_the_debate_names(run: Any, place: Path) -> None:
    named = {one["part"]: one for one in run.run.facts["runs"]}
    assert set(named) == {"reading", "steering"}
    beside = {found.id: found for found in map(Run.open, (place / "runs").glob("tiny-*"))}
    for one in named.values():
        found = beside[one["id"]]
        assert found.finished
        assert (found.manifest["digest"], found.recipe["name"]) == (one["digest"], one["name"])


def test_a_dry_run_names_what_is_finished(run: Any, place: Path, model: Model) -> None:
    plan: Any = compared(place, "debate.yaml", model, dry_run=True)
    assert "2 comparisons, 2 of them finished in runs" in repr(plan)
    assert plan.minutes_in_all == 0


def test_a_dry_run_sums_the_plans_of_what_is_to_be_made(place: Path, model: Model, tmp_path: Path) -> None:
    for name in ("reading", "steering", "debate"):
        shutil.copy(place / f"{name}.yaml", tmp_path)
    there: Any = compared(tmp_path, "debate.yaml", model, dry_run=True)
    assert [part.wanted.part for part in there.parts] == ["reading", "steering"]
    assert there.minutes_in_all == pytest.approx(sum(part.plan.minutes_in_all for part in there.parts))
    assert "2. steering of french (tiny-steering): about" in repr(there)
    assert not (tmp_path / "runs").exists()


def test_the_points_are_the_figures_of_the_two_runs(run: Any, place: Path) -> None:
    by_part = {one["part"]: one["id"] for one in run.run.facts["runs"]}
    runs = {found.id: found.rows for found in map(Run.open, (place / "runs").glob("tiny-*"))}
    read, steered = (runs[by_part[part]] for part in ("reading", "steering"))
    for method in ("difference_in_means", "logistic", "lat", "ridge"):
        (auroc,) = rows_of(run, task="debate", method=method, metric="auroc")["value"]
        alike = (read["task"] == "matched") & (read["metric"] == "auroc") & (read["seed"] == "all")
        (wanted,) = read[alike & (read["dataset"] == "other-genre") & (read["method"] == method)]["value"]
        assert auroc == pytest.approx(wanted)
        (effect,) = rows_of(run, task="debate", method=method, metric="effect_targets")["value"]
        alike = (steered["task"] == "steer") & (steered["metric"] == "effect_targets") & (steered["split"] == "both")
        (wanted,) = steered[alike & (steered["method"] == method)]["value"]
        assert effect == pytest.approx(wanted)


def test_the_contrast_is_that_of_the_steering_run(run: Any, place: Path) -> None:
    (of,) = [one["id"] for one in run.run.facts["runs"] if one["part"] == "steering"]
    (steered,) = [found.rows for found in map(Run.open, (place / "runs").glob("tiny-*")) if found.id == of]
    for column in ("value", "lo", "hi"):
        (ours,) = rows_of(run, task="debate-contrast", metric="effect_targets")[column]
        (wanted,) = steered[(steered["task"] == "steer-contrast") & (steered["metric"] == "effect_targets")][column]
        assert ours == pytest.approx(wanted)


def test_the_claim_finds_its_row(run: Any) -> None:
    rule = load("best-reader-is-best-controller").rule
    for statement in rule.regimes["sentiment"]:
        found = Figures.of(run.rows).row(statement.model_copy(update={"dataset": "french"}))
        assert not isinstance(found, str)
        assert found["n"] == 4


def test_the_page_answers_first(run: Any) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert page.index("On tiny (39.9k), the best reader of french (") < page.rindex("Contrasts of control")
    assert repr(run).count("rank correlation") == 1
    assert run.table("points").shape[0] == 6  # four methods, and two that are absent
    assert "no reader is its counterpart" in page
    assert "its reader is not in the reading Run" in page


def test_another_call_opens_the_runs_that_are_there(run: Any, place: Path, model: Model) -> None:
    before = sorted((place / "runs").iterdir())
    again = compared(place, "debate.yaml", model, out=place / "runs" / "again")
    assert again.run.facts["runs"] == run.run.facts["runs"]
    assert sorted((place / "runs").iterdir()) == sorted([*before, place / "runs" / "again"])
    columns = [c for c in run.rows.columns if c != "run"]
    pd.testing.assert_frame_equal(run.rows[columns], again.rows[columns], check_exact=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steering: steering.yaml", "steering: reading.yaml", "is of kind 'compare', and a debate takes 'steer' for"),
        ("reading: reading.yaml", "reading: steering.yaml", "is of kind 'steer', and a debate takes 'compare' for"),
        ("lat: lat", "lat: latt", "latt"),
        ("lat: lat", "neurons: lat", "readers names 'neurons'"),
        ("neurons: false", "neurons: false\nmodels: x", "models: Extra inputs are not permitted"),
        (
            "steering: steering.yaml}",
            "steering: steering.yaml}\n  - {concept: french, steering: steering.yaml}",
            "concept 'french' stands in two pairs",
        ),
    ],
)
def test_what_is_wrong_in_a_recipe_is_said_and_leaves_nothing(
    place: Path, tmp_path: Path, model: Model, old: str, new: str, said: str
) -> None:
    assert old in DEBATE
    for name in ("reading.yaml", "steering.yaml"):
        (tmp_path / name).write_text((place / name).read_text())
    (tmp_path / "debate.yaml").write_text(DEBATE.replace(old, new))
    with pytest.raises(UserError, match=said):
        compared(tmp_path, "debate.yaml", model, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_shipped_recipes_pair_every_concept_that_is_steered() -> None:
    every = load_recipe("debate/all")
    steered = {name.removeprefix("steer/") for name in names("steer")}
    assert {pair.concept for pair in every.pairs} == steered  # type: ignore[attr-defined]
    read = {name.removeprefix("reading/") for name in names("compare") if name.startswith("reading/")}
    assert set(every.spine) == set(load_recipe("debate/spine").spine) == read  # type: ignore[attr-defined]


def test_the_recipes_of_a_debate_are_part_of_its_digest(place: Path, tmp_path: Path) -> None:
    digests = set()
    for openings in (10, 11):
        for name in ("reading.yaml", "debate.yaml"):
            (tmp_path / name).write_text((place / name).read_text())
        (tmp_path / "steering.yaml").write_text(STEERING.replace("openings: 10", f"openings: {openings}"))
        digests.add(resolved(Analyses()["debate"], CompareRequest(tmp_path / "debate.yaml")).digest())
    assert len(digests) == 2


def test_a_quick_debate_asks_for_quick_comparisons_of_the_same_model() -> None:
    recipe = resolved(Analyses()["debate"], CompareRequest("debate/sentiment", quick=True, model="other", sae="none"))
    parts = {one.part: one.recipe for one in wanted(recipe)}  # type: ignore[arg-type]
    assert set(parts) == {"reading", "steering", "neurons"}
    assert all(one.quick and one.model == "other" and one.dictionaries == [] for one in parts.values())  # type: ignore[attr-defined]
    neurons = parts["neurons"]
    assert (neurons.site, neurons.methods) == ("blocks.17.mlp_act", ["k_sparse@state"])  # type: ignore[attr-defined]
