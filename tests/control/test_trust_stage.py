"""Selective steering inside a comparison: its prompts, its outcomes, its rows and facts, on a tiny model."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import theodolite
from theodolite.control import analysis, ground, trust_stage
from theodolite.control.control import VectorControl
from theodolite.control.material import Examples, Material
from theodolite.control.measure import Numbers
from theodolite.control.options import with_options
from theodolite.control.recipe import SteerRecipe
from theodolite.control.trust_prompts import beginning, trust_prompts
from theodolite.core.errors import UserError
from theodolite.data import concept_file
from theodolite.data.concept_fields import occurs
from theodolite.data.sources import packaged
from theodolite.models.model import Model
from theodolite.study.compare_request import CompareRequest
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

METHODS = ["difference_in_means", "logit_bias"]
RECIPE = """
kind: steer
name: tiny
title: Which prompts of a tiny model may be steered?
concept: mini.yaml
site: blocks.1.resid_post
methods: [difference_in_means, logit_bias]
contrasts: []
nats: [0.1]
openings: 10
disturbance_texts: 8
written_tokens: 2
draws: 6
draws_elsewhere: 0
draws_written: 0
admit: 0.9
"""
# French, whose classes a tiny model tells apart, with targets of one byte: longer ones take a pass each
CONCEPT = """
name: mini
title: French with targets of one token
positive: French
negative: English
licence: Apache-2.0
texts: {{file: '{texts}', group: group}}
targets: {{positive: [q], negative: [x]}}
"""


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    (folder / "tiny.yaml").write_text(RECIPE)
    (folder / "mini.yaml").write_text(CONCEPT.format(texts=packaged.folder() / "french.csv"))
    return folder


def compared(place: Path, model: Model, **given: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(place / "cache"))
        patch.setattr(ground, "DAMAGE_TEXTS", 4)
        patch.setattr(ground, "fit_classifiers", lambda texts, labels, groups: ())
        patch.setattr(trust_stage, "N", 120)
        return theodolite.compare(
            place / "tiny.yaml", **{"sae": "none", "model": model, "progress": lambda *now: None} | given
        )


@pytest.fixture(scope="module")
def run(place: Path, model: Model) -> Any:
    return compared(place, model, out=place / "run")


@pytest.fixture(scope="module")
def before(place: Path, model: Model) -> trust_stage.Before:
    """What earlier stages hand over, without running them: one draw in three is unmatched."""
    concept = concept_file.load(place / "mini.yaml")
    recipe = SteerRecipe.model_validate(
        {"kind": "steer", "name": "n", "title": "t", "concept": "mini", "site": "blocks.1.resid_post"}
        | {"methods": METHODS, "contrasts": [], "draws": 6, "admit": 0.9, "quick": True}
    )
    part = concept_file.parts(concept, 0).direction
    rows = model.read(part.texts, recipe.site, pooling="mean", format="raw")[model.site(recipe.site)].rows
    texts = Examples(part.texts, part.labels, part.groups, rows)
    material = Material(model, model.site(recipe.site), texts.texts, texts.labels, texts.groups, texts.rows)
    draws = [{"cells": [{"nats": 0.1, "strength": 1.0 + i, "reason": "cap" if i % 3 == 2 else ""}]} for i in range(6)]
    here: Any = type("Opened", (), {"model": model})
    return trust_stage.Before(recipe, concept, here, material, {}, draws)


def at_once(about: Sequence[Any], make: Any) -> Numbers:
    return make()


def test_prompts_are_scored_nowhere_else_and_hold_no_target() -> None:
    for name, expected in (("sentiment", "beginnings"), ("french", "openings"), ("joy", "beginnings")):
        concept = concept_file.load(name)
        prompts, kind = trust_prompts(concept, concept.openings[:100], 96)
        assert kind == expected
        assert len(prompts) == len(set(prompts)) >= 200
        assert not set(prompts) & set(concept.openings[:100])
        assert concept.fields.targets is not None
        assert not any(occurs(target, one) for target in concept.fields.targets.all for one in prompts)
        assert not any(text.startswith(one) for one in prompts for text in concept.texts.texts)


def test_a_beginning_ends_where_a_word_has_to_follow() -> None:
    assert beginning("One, two, three, four, five, six.") == "One, two, three"
    assert beginning("It rains.") == "It rains"


def test_unmatched_draws_are_left_out_of_the_band(before: trust_stage.Before) -> None:
    asked = trust_stage.ask(before)
    effect_mn = trust_stage.random_effects(before, asked, at_once)
    numbers = [number for number, *_ in trust_stage.random_policies(before)]
    assert numbers == [0, 1, 3, 4]
    assert effect_mn.shape == (4, len(asked.prompts.texts))
    for row, (_, _, policy) in zip(effect_mn, trust_stage.random_policies(before), strict=True):
        np.testing.assert_array_equal(row, asked.scored.score(policy) - asked.prompts.margin_n)


def test_states_are_those_before_the_edit_and_edited_ones_lie_a_strength_away(before: trust_stage.Before) -> None:
    asked = trust_stage.ask(before)
    after = trust_stage._states(before, asked.prompts.texts, push(before).at(3.0))
    np.testing.assert_allclose(np.linalg.norm(after - asked.prompts.state_nd, axis=1), 3.0, rtol=1e-4)


def test_a_push_far_out_leaves_the_support_and_a_logit_bias_changes_no_state(before: trust_stage.Before) -> None:
    asked, control = trust_stage.ask(before), push(before)
    far, near = (trust_stage._support(before, asked, control, control.at(size)) for size in (1e3, 1e-6))
    assert far is not None
    assert far.after_n.all()
    assert near is not None
    assert near.after == near.before == far.before
    assert trust_stage.steered(before, asked, "logit_bias", {"strength": 0.1})["left"] is None


def push(before: trust_stage.Before) -> VectorControl:
    d = before.material.training.rows.shape[1]
    return VectorControl(before.ground.model, "push", before.material.site, np.full(d, d**-0.5))


def test_a_run_has_the_outcomes_that_its_effects_and_bands_give(run: Any) -> None:
    told = json.loads((run.folder / "artefacts" / "trust.json").read_text())
    rows = run.rows[run.rows["task"] == "trust-steer"]
    assert (told["alpha"], told["nats"], told["prompts"], told["kind"]) == (0.9, 0.1, 120, "openings")
    assert list(told["methods"]) == METHODS
    assert set(rows["method"]) == set(METHODS)
    assert (rows["split"] == "+").all()
    assert (rows["strength"] > 0).all()
    for method, about in told["methods"].items():
        shares = rows[(rows["method"] == method) & (rows["metric"] == "right_share")]
        assert shares["value"].to_list() == [about["right_share"]["value"]]
        assert sum(about["prompts"].values()) <= 120
        assert about["verdict"] in ("selected", "accept all", "nothing accepted", "not steerable")


def test_asking_later_reuses_what_was_measured_and_leaves_other_rows_as_they_are(
    run: Any, place: Path, model: Model
) -> None:
    (place / "tiny.yaml").write_text(RECIPE.replace("admit: 0.9\n", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "measure", None)  # nothing is measured anew
        without = compared(place, model, out=place / "without")
        again = compared(place, model, out=place / "again", admit=True)
    assert not (without.folder / "artefacts" / "trust.json").exists()
    columns = [c for c in run.rows.columns if c != "run"]
    pd.testing.assert_frame_equal(again.rows[columns], run.rows[columns], check_exact=True)
    others = run.rows[run.rows["task"] != "trust-steer"][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(without.rows[columns], others, check_exact=True)


def test_the_page_says_what_is_certified(run: Any) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Which prompts may be steered?" in page
    assert page.index("Contrasts fixed before the run") < page.index("Which prompts may be steered?")
    assert run.table("trust").shape[0] == len(METHODS)


def test_options_are_those_of_selective_prediction() -> None:
    recipe = SteerRecipe.model_validate({"kind": "steer", "name": "n", "title": "t", "concept": "joy"})
    assert with_options(recipe, CompareRequest("n")).admit is None
    assert with_options(recipe, CompareRequest("n", admit=True)).admit == 0.9
    assert with_options(recipe, CompareRequest("n", admit=True, alpha=0.8)).admit == 0.8
    with pytest.raises(UserError, match="give --admit too"):
        with_options(recipe, CompareRequest("n", alpha=0.8))
    with pytest.raises(UserError, match="takes one share"):
        with_options(recipe, CompareRequest("n", admit=True, alpha=[0.8, 0.9]))
    with pytest.raises(ValueError, match="admit needs random directions"):
        SteerRecipe.model_validate(recipe.model_dump() | {"admit": 0.9, "draws": 0})


def test_what_cannot_be_certified_is_said_before_the_model_runs(place: Path, model: Model) -> None:
    concept, recipe = (
        concept_file.load("sentiment"),
        SteerRecipe.model_validate({"kind": "steer", "name": "n", "title": "t", "concept": "sentiment", "admit": 0.99}),
    )
    with pytest.raises(UserError, match=r"--admit 0.99 takes 767 prompts beside the 100 scored openings"):
        trust_stage.check(concept, recipe)
    without = concept_file.ConceptFile(
        concept.fields.model_copy(update={"targets": None}), concept.texts, None, None, concept.openings
    )
    with pytest.raises(UserError, match="--admit needs targets"):
        trust_stage.check(without, recipe)


@pytest.mark.parametrize(("moved", "verdict"), [(5.0, "accept all"), (1.0, "not steerable"), (-5.0, "not steerable")])
def test_a_right_move_is_towards_the_concept_and_beyond_the_band(
    before: trust_stage.Before, moved: float, verdict: str
) -> None:
    """Four random directions move every prompt by one nat, up or down: the band is 1.96 nats on either side."""
    n = len(trust_stage.ask(before).prompts.texts)
    cell = {"split": "+", "nats": 0.1, "kl": 0.1, "strength": 1.0, "reason": ""}
    method = {"site": "blocks.1.resid_post", "cells": [cell | {"split": "-", "strength": -1.0}, cell]}
    point = {"site": "", "cells": []}  # of a control without a dial

    def keep(about: Sequence[Any], make: Any) -> Numbers:
        if about[3] == "draws":
            return {"effects": [[size] * n for size in (1.0, -1.0, 1.0, -1.0)]}
        return {"effect": [moved] * n, "left": None}

    measured = {"difference_in_means": method, "without_a_dial": point}
    _, told = trust_stage.select(replace(before, measured=measured), keep, lambda words: None)
    assert told["band"] == pytest.approx(1.96, abs=0.01)
    assert told["methods"]["difference_in_means"]["verdict"] == verdict
    assert told["methods"]["without_a_dial"] == {"verdict": "not matched", "why": "no dial"}
