"""A comparison of control methods, from the recipe to rows and page, on a tiny model."""

import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from case_kit import model_folder
from spoilt import check_pages

import theodolite
from theodolite import cli
from theodolite.comparison import runner
from theodolite.control import analysis, classifiers, ground
from theodolite.control.figures import Measured, _effect_rows
from theodolite.control.method import ADAPTER, control_methods
from theodolite.control.options import FULL, FURTHER, QUICK, with_options
from theodolite.control.recipe import CORE, SteerRecipe
from theodolite.control.statistics import mean_effect
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.core.training_sets import TrainingSets
from theodolite.data import concept_file
from theodolite.data.concept_file import neutral_openings
from theodolite.models.model import Model
from theodolite.report import html, steer_curves_section, terminal
from theodolite.study.compare_request import CompareRequest
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

STUDIES = 120
FRENCH = concept_file.load("french")
METHODS = ["difference_in_means", "logit_bias", "prompt"]
RECIPE = """
kind: steer
name: tiny
title: Which method steers a tiny model?
concept: french
site: blocks.1.resid_post
methods: [difference_in_means, logit_bias, prompt]
contrasts:
  - {method: difference_in_means, than: logit_bias}
openings: 10
disturbance_texts: 8
written_tokens: 3
draws: 6
draws_elsewhere: 2
draws_written: 2
nulls: 3
"""

# One byte is one token of the tiny model: targets of one letter cost one pass
CONCEPT = """
name: letters
title: French against English, by letters
positive: French
negative: English
texts: {file: texts.csv, group: group}
openings: [%s]
targets: {positive: [e, u], negative: [h, w]}
unseen_targets: {positive: [q], negative: [k]}
instruction: {positive: Write in French., negative: Write in English.}
choices:
  - {question: Which?, positive: oui, negative: yes indeed}
  - {question: Where?, positive: ici, negative: here}
"""


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steer")
    own = resources.files("theodolite") / "concepts" / "french.csv"
    (folder / "texts.csv").write_bytes(own.read_bytes())
    openings = ", ".join(f'"{opening}"' for opening in neutral_openings()[:12])
    (folder / "letters.yaml").write_text(CONCEPT % openings)
    (folder / "tiny.yaml").write_text(RECIPE.replace("concept: french", "concept: letters.yaml"))
    return folder


def compared(place: Path, model: Model, cache: str = "cache", **given: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(place / cache))
        patch.setattr(ground, "DAMAGE_TEXTS", 4)
        patch.setattr(classifiers, "embed_sentences", None)
        patch.setattr(ground, "fit_classifiers", _fitted)
        given = {"sae": "none", "model": model, "progress": lambda *now: None} | given
        return theodolite.compare(given.pop("what", place / "tiny.yaml"), **given)


def _fitted(texts: Any, labels: Any, groups: Any) -> Any:
    """Classifiers of the texts whose sentence vectors are letter counts: the embedder takes seconds to load."""
    return classifiers.fit_classifiers(
        texts, labels, groups, embed=lambda some: np.array([[t.count(c) for c in "aeiouqx'"] for t in some], float)
    )


@pytest.fixture(scope="module")
def run(place: Path, model: Model) -> Any:
    return compared(place, model, out=place / "run")


def rows_of(run: Any, **wanted: Any) -> pd.DataFrame:
    rows = run.rows
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return rows


def test_every_method_disturbs_by_the_same_nats(run: Any) -> None:
    for nats in (0.03, 0.1, 0.3):
        kl = rows_of(run, task="steer", metric="kl", nats=nats)
        assert len(kl) == 2 * len(METHODS)
        np.testing.assert_allclose(kl["value"], nats, rtol=0.021)


def test_the_contrast_is_the_difference_of_the_effects_on_both_signs(run: Any) -> None:
    for metric in ("effect_targets", "effect_ngrams", "effect_sentence"):
        both = rows_of(run, task="steer", metric=metric, split="both", nats=0.1).set_index("method")["value"]
        (one,) = rows_of(run, task="steer-contrast", metric=metric, versus="logit_bias")["value"]
        assert one == pytest.approx(both["difference_in_means"] - both["logit_bias"], abs=1e-9)


def test_the_effect_of_both_signs_is_half_their_distance(run: Any) -> None:
    effects = rows_of(run, task="steer", metric="effect_targets", nats=0.3).set_index(["method", "split"])["value"]
    for method in METHODS:
        assert effects[method, "both"] == pytest.approx((effects[method, "+"] - effects[method, "-"]) / 2)


def test_random_directions_have_their_band(run: Any) -> None:
    bands = rows_of(run, task="steer-null", method="random_direction").set_index(["nats", "metric"])
    assert bands.loc[(0.1, "effect_targets"), "n"] == 6
    assert bands.loc[(0.3, "effect_targets"), "n"] == 2
    assert bands.loc[(0.1, "effect_ngrams"), "n"] == 2
    assert (bands["value"] > 0).any()


def test_other_nulls_are_matched_as_a_method_is_and_have_a_line_each(run: Any) -> None:
    bands = rows_of(run, task="steer-null", metric="effect_targets", nats=0.1).set_index("method")
    for null in ("other_concepts", "neutral_halves", "stratified_shuffles"):
        assert bands.loc[null, "n"] + bands.loc[null, "n_unscored"] == 3
        assert bands.loc[null, "value"] > 0
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "halves of neutral text" in page
    assert "other concepts" in page


def test_slopes_are_of_the_matched_levels_in_root_nats(run: Any) -> None:
    effects = rows_of(run, task="steer", metric="effect_targets", method="logit_bias")
    effects = effects[effects["split"].isin(["+", "-"]) & effects["nats"].notna()]
    size = np.sqrt(effects["nats"]) * np.where(effects["split"] == "+", 1, -1)
    (slope,) = rows_of(run, task="steer-curve", metric="effect_targets:slope", method="logit_bias")["value"]
    assert slope == pytest.approx(np.polyfit(size, effects["value"], 1)[0])


def test_the_whole_instruction_is_a_point_and_is_never_interpolated(run: Any) -> None:
    points = rows_of(run, task="steer", method="prompt")
    points = points[points["nats"].isna()]
    assert set(points["strength"]) == {1.0, -1.0}
    assert {"kl", "effect_targets", "effect_ngrams", "effect_sentence"} <= set(points["metric"])
    others = rows_of(run, task="steer")
    assert not (others["nats"].isna() & (others["method"] != "prompt")).any()
    assert "the whole instruction" in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(place: Path, model: Model) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("written_tokens", 2), ("samples", 1)):
            patch.setitem(FULL, name, value)
        return compared(place, model, out=place / "full", full=True, seeds=1, methods=METHODS[:2])


def test_the_full_table_has_every_depth_once_and_agrees_with_the_core_table(full: Any, run: Any) -> None:
    depths = ["blocks.1.resid_post", "blocks.2.resid_post"]
    both = rows_of(full, task="steer", metric="effect_targets", split="both", nats=0.1)
    assert sorted(both["site"]) == ["", *depths]  # the bias is at no depth
    first = both[both["site"] == depths[0]]["value"].item()
    core = rows_of(run, task="steer", metric="effect_targets", split="both", nats=0.1, method=METHODS[0])
    assert first == pytest.approx(core["value"].item(), rel=0.02)  # strengths are matched within 2 % of the nats
    assert len(rows_of(full, task="steer-contrast", metric="effect_targets")) == 1
    assert {"effect_sentence_sampled", "effect_choices"} <= set(rows_of(full, task="steer", nats=0.03)["metric"])
    assert set(rows_of(full, task="steer", metric="effect_ngrams")["nats"].dropna()) == {0.03, 0.1, 0.3, 1.0}
    page = (full.folder / "report.html").read_text(encoding="utf-8")
    assert "Depths" in page
    assert "overdrive" in page


def test_the_curve_has_seven_strengths_of_each_sign(full: Any) -> None:
    curve = rows_of(full, task="steer-curve", method="logit_bias")
    for split, sign in (("+", 1), ("-", -1)):
        side = curve[curve["split"] == split].pivot(index="strength", columns="metric", values="value")
        assert (np.sign(side.index) == sign).all()
        assert len(side) == 7
        ratio = np.sort(abs(side.index))[1:] / np.sort(abs(side.index))[:-1]
        np.testing.assert_allclose(ratio, ratio[0])
        kl = side["kl"].to_numpy()[np.argsort(abs(side.index))]
        assert (np.diff(kl) > 0).all()
        assert kl[0] == pytest.approx(0.01, rel=0.1)
        assert kl[-1] == pytest.approx(1, rel=0.03)


def test_a_dry_run_counts_what_the_run_measures_and_writes_nothing(run: Any, place: Path, model: Model) -> None:
    plan: Any = compared(place, model, out=place / "planned", dry_run=True)
    assert not (place / "planned").exists()
    cells = rows_of(run, task="steer", metric="kl")
    bands = rows_of(run, task="steer-null", metric="effect_targets")
    is_random = bands["method"] == "random_direction"
    count = plan.units
    assert (count.cells, count.points) == (cells["nats"].notna().sum(), cells["nats"].isna().sum())
    assert count.written == len(rows_of(run, task="steer", metric="effect_ngrams", nats=0.1)) - len(METHODS)  # + and -
    assert count.draws == bands[is_random][["n", "n_unscored"]].sum().sum()
    assert count.nulls == bands[~is_random][["n", "n_unscored"]].sum().sum()
    assert plan.minutes_in_all == pytest.approx(sum(plan.minutes.values()))
    assert all(minutes > 0 for minutes in plan.minutes.values())
    text = repr(plan)
    assert "3 fits at 0.03, 0.1, 0.3 nats" in text
    assert "10 openings with targets" in text
    assert len(text.splitlines()) <= 12


def test_a_dry_run_says_what_will_be_left_out_and_why(place: Path, model: Model) -> None:
    plan: Any = compared(
        place, model, dry_run=True, seeds=2, methods=["lat", "latent", "neurons", "frozen_encoder_latent_set"]
    )
    assert plan.absent == {
        "latent": "a dictionary",
        "neurons": "a dictionary",
        "frozen_encoder_latent_set": "a control dictionary",
    }
    assert plan.units.fits == 2
    assert "no interval and no verdict: 2 training sets" in repr(plan)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": "difference_in_meens"}, "did you mean 'difference_in_means'"),
        ({"seeds": 0}, "recipe 'tiny': seeds: Input should be greater than or equal to 1 .got 0"),
        ({"margin": -1.0}, "margin: Input should be greater than 0"),
        ({"margin": float("inf")}, "margin: Input should be a finite number"),
        ({"admit": True, "alpha": 2.0}, "--alpha 2: give a share of right moves above 0.5 and below 1"),
        ({"sites": "blocks.9"}, "blocks.9"),
        ({"methods": ["lat", "word_ngrams"]}, "'word_ngrams' has no direction in the state"),
        ({"methods": "latent"}, "none of the methods could be fitted .latent: latent needs a dictionary"),
        ({"limit": 50}, "--limit does not apply to recipes of kind 'steer', which take .*--seeds"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(place: Path, model: Model, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compared(place, model, out=place / "wrong", **given)
    assert not (place / "wrong").exists()


def test_a_wrong_request_with_force_leaves_the_run_that_it_would_replace(
    run: Any, place: Path, tmp_path: Path, model: Model
) -> None:
    folder = shutil.copytree(run.folder, tmp_path / "copy")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="none of the methods could be fitted"):
        compared(place, model, out=folder, force=True, methods="latent")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_other_weights_at_the_same_path_are_another_recipe(tmp_path: Path) -> None:
    def digest() -> str:
        asked = CompareRequest("steer/joy", model=str(model_folder(tmp_path / "m", seed=seed)), sae=str(sae))
        return analysis._resolve(asked, "").digest()

    seed, sae = 0, tmp_path / "sae"
    sae.mkdir()
    first = digest()
    assert digest() == first
    (sae / "cfg.json").write_text("{}")
    second = digest()
    seed = 1
    assert len({first, second, digest()}) == 3


def test_a_method_that_is_named_twice_is_one_method() -> None:
    recipe = SteerRecipe(kind="steer", name="a", title="A", concept="joy")
    asked = with_options(recipe, CompareRequest("a", methods=["lat", "logit_bias", "lat"]))
    assert asked.methods == ["lat", "logit_bias"]


def test_quick_and_full_contradict_each_other(place: Path, model: Model) -> None:
    with pytest.raises(UserError, match="quick and full contradict"):
        compared(place, model, quick=True, full=True)


def test_the_full_table_has_every_method_of_control() -> None:
    named = {spec.partition("(")[0] for spec in (*CORE, *FURTHER)}
    assert set(control_methods()) - {ADAPTER} <= named
    asked = with_options(SteerRecipe(kind="steer", name="a", title="A", concept="joy"), CompareRequest("a", full=True))
    assert (asked.seeds, asked.samples, asked.written_tokens, asked.curve) == (3, 3, 40, 7)
    assert asked.methods == [*CORE, *FURTHER]


def test_a_stopped_run_goes_on_where_it_was(place: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    whole = analysis.measure

    def counted(control: Any, *rest: Any) -> Any:
        if len(made) == 1 and not resumed:
            raise KeyboardInterrupt
        made.append(control.method)
        return whole(control, *rest)

    monkeypatch.setattr(analysis, "measure", counted)
    resumed = False
    with pytest.raises(KeyboardInterrupt):
        compared(place, model, cache="stopped", out=place / "stopped", methods=METHODS[:2])
    resumed = True
    compared(place, model, cache="stopped", out=place / "stopped", methods=METHODS[:2])
    assert made == ["difference_in_means", "logit_bias"]


def test_intervals_from_three_seeds_on_are_over_training_sets() -> None:
    training, concept = concept_file.training_sets(FRENCH, 3), FRENCH
    direction = [set(concept_file.parts(concept, seed).direction.texts) for seed in range(3)]
    pool = sorted(set().union(*direction))
    member_sn = np.array([[text in one for text in pool] for one in direction])
    ground = SimpleNamespace(openings=["a"] * 20, groups=np.arange(20))
    covered = {"measured": 0, "halves": 0}
    for study in range(STUDIES):
        rng = np.random.default_rng(study)
        # the effect of a fit is the mean of what its texts bring, whose mean over all pools is 0; openings agree
        fits_s = np.array([rng.normal(size=len(pool)) @ member / member.sum() for member in member_sn])
        cells = [
            {
                "split": split,
                "nats": 0.1,
                "strength": 1.0,
                "reason": "",
                "effects": {"effect_targets": [sign * fit] * 20},
            }
            for split, sign in (("+", 1), ("-", -1))
            for fit in fits_s
        ]
        seeds = [{"cells": [cells[s], cells[3 + s]], "site": "blocks.1.resid_post"} for s in range(3)]
        for name, sets in (("measured", training), ("halves", TrainingSets())):
            found = Measured(SimpleNamespace(nats=[0.1]), ground, {"planted": seeds}, sets)  # type: ignore[arg-type]
            row = next(r for r in _effect_rows(found) if r["split"] == "both" and r["metric"] == "effect_targets")
            covered[name] += row["lo"] <= 0 <= row["hi"]
    assert covered["measured"] / STUDIES > 0.9
    assert covered["halves"] < covered["measured"]  # as halves, three quarters of a pool would look too different


def test_one_seed_is_about_one_fit_and_two_have_no_interval() -> None:
    effect = np.tile(np.linspace(0, 1, 20), (3, 1)) + np.array([[0.0], [0.2], [0.4]])
    widths = []
    for n in (1, 2, 3):
        one = mean_effect(effect[:n], np.arange(20), training=concept_file.training_sets(FRENCH, n))
        widths.append(one.hi - one.lo)
    assert np.isnan(widths[1])
    assert widths[2] > widths[0]


def test_a_rerun_with_another_cache_gives_the_same_numbers(run: Any, place: Path, model: Model) -> None:
    again = compared(place, model, cache="other", out=place / "again")
    columns = [c for c in run.rows.columns if c != "run"]
    pd.testing.assert_frame_equal(run.rows[columns], again.rows[columns], check_exact=True)


def test_a_page_of_spoilt_facts_is_an_error_or_holds_no_script(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steer_curves_section, "dose_chart", lambda *given: None)  # drawing takes most of the time

    def page(facts: Any) -> str:
        monkeypatch.setattr(Run, "read_json", lambda self, name: facts if name == "steering" else None)
        return html.page(run.run)

    check_pages(run.run.read_json("steering"), page, "steering.json")


def test_the_page_answers_first(run: Any) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert page.index("Was the dictionary needed?") < page.rindex("Effects at equal disturbance")
    assert "NOT ASKED" in page
    assert run.table("effects").shape[0] == len(METHODS) + 5  # random directions, three other nulls, the ceiling
    matched = [*run.rows[(run.rows["task"] == "steer-damage") & (run.rows["nats"] == 0.1)]["method"].unique()]
    assert run.table("damage").shape[0] == 1 + len(matched) * 2  # the unchanged model first
    assert run.table("acting").shape[0] == len(matched)
    assert "vocabulary logit bias" in page
    assert run.plot("curves") is not None


def test_latents_without_a_dictionary_are_counted_and_left_out(place: Path, model: Model) -> None:
    found = compared(place, model, out=place / "latents", methods=["difference_in_means", "latent", "neurons"])
    assert [(n["kind"], n["text"].partition(":")[0]) for n in found.notes if n["kind"] == "absent"] == [
        ("absent", "latent"),
        ("absent", "neurons"),
    ]
    assert set(rows_of(found, task="steer")["method"]) == {"difference_in_means"}


def own_table(folder: Path, **given: Any) -> dict[str, Any]:
    """Arguments of `compare steer --data` on a table of the user's, with files of openings and targets."""
    rows = pd.read_csv(resources.files("theodolite") / "concepts" / "french.csv")  # type: ignore[arg-type]
    rows = rows.rename(columns={"text": "line"}).assign(tongue=rows["label"].map({1: "fr", 0: "en"}))
    rows.drop(columns="label").to_csv(folder / "mine.csv", index=False)
    (folder / "openings.txt").write_text("".join(f"{opening}\n" for opening in neutral_openings()[:10]))
    (folder / "targets.csv").write_text("target,label\ne,1\nu,1\nh,0\n")
    asked = {"table": folder / "mine.csv", "text": "line", "label": "tongue", "positive": "fr", "quick": True}
    return asked | {"openings": folder / "openings.txt", "targets": folder / "targets.csv"} | given


def steered(folder: Path, model: Model, **given: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("written_tokens", 3), ("draws", 2), ("disturbance_texts", 8)):
            patch.setitem(QUICK, name, value)
        return compared(folder, model, out=folder / "run", what="steer", methods=METHODS, **own_table(folder, **given))


def test_a_table_of_ones_own_is_a_concept(tmp_path: Path, model: Model) -> None:
    found = steered(tmp_path, model)
    assert (found.folder / "report.html").is_file()
    assert set(rows_of(found, task="steer")["method"]) == {"difference_in_means", "logit_bias"}
    assert "prompt needs an instruction" in next(n["text"] for n in found.notes if n["kind"] == "absent")
    assert set(rows_of(found, task="steer", metric="effect_targets")["n"]) == {10}
    assert found.rows["dataset"].unique().tolist() == ["mine"]
    assert str(tmp_path) not in (found.folder / "manifest.json").read_text(encoding="utf-8")


def test_without_targets_the_page_has_no_column_of_them(tmp_path: Path, model: Model) -> None:
    """Nothing was asked there; "not matched" would say that no strength has the disturbance."""
    found = steered(tmp_path, model, targets=None)
    assert {one["reason"] for one in found.run.read_json("steering")["methods"]["logit_bias"]["strengths"]} == {""}
    table = found.table("effects")
    assert table.shape[0] == 2  # no prompt without an instruction, and no random directions that wrote text
    assert not [name for name in table.columns if "targets" in str(name)]
    assert "not matched" not in table.to_string()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"table": None}, "give it with --data"),
        ({"table": "steer/french"}, "--data 'steer/french': give a"),
        ({"label": "tung"}, "tung"),
        ({"positive": ["en", "fr"]}, "one class only"),
        ({"targets": "targets.csv"}, "begin"),
        ({"openings": "gone.txt"}, "gone.txt"),
        ({"openings": "seen.txt"}, "1 openings stand in a text of the concept: .*`theodolite data check`"),
        ({"site": "blocks.9.resid_post"}, "no site blocks.9"),
        ({"what": "steer/french"}, "belong to a table of yours"),
    ],
)
def test_what_is_wrong_with_a_table_of_ones_own_is_said(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = own_table(tmp_path, **given)
    (tmp_path / "seen.txt").write_text(FRENCH.texts.texts[0])
    if given.get("targets"):
        (tmp_path / "targets.csv").write_text("target,label\n go,1\n goes,0\n")
    with pytest.raises(UserError, match=said):
        compared(tmp_path, model, out=tmp_path / "run", **({"what": "steer"} | asked))
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_a_table_beside_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CompareRequest] = []
    monkeypatch.setattr(runner, "compare", asked.append)
    monkeypatch.setattr(terminal, "show", lambda result: None)
    cli.app(
        ["compare", "steer", "--data", "mine.csv", "--text", "a", "--label", "b", "--full"],
        result_action="return_value",
    )
    (one,) = asked
    assert (one.data, one.table, one.text, one.label, one.full) == ("steer", "mine.csv", "a", "b", True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("methods: [difference_in_means", "methods: [difference_in_meens", "difference_in_means"),
        ("openings: 10", "openings: 3", "greater than or equal to 10"),
        ("concept: french", "concept: frensh", "did you mean 'french'"),
        ("title:", "nats: [.2]\ntitle:", "primary 0.1 is not among nats"),
        ("than: logit_bias", "than: latent", "'latent', which is not among the methods"),
        ("site: blocks.1", "site: blocks.9", "no site blocks.9"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_said_and_leaves_nothing(
    place: Path, tmp_path: Path, model: Model, old: str, new: str, said: str
) -> None:
    assert old in RECIPE
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(UserError, match=said):
        compared(tmp_path, model, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
