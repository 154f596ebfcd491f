"""Another pooling of the rows on disk gives what a run with that pooling gives, under keys of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from theodolite.comparison import fits, other_poolings
from theodolite.comparison.jobs import jobs
from theodolite.comparison.tables import matched
from theodolite.core.recipe import Contrast, Recipe, Source
from theodolite.data import concept
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model
from theodolite.study import build
from theodolite.study.subjects import SiteDictionary, Subjects
from theodolite.study.views import Views
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near"]
BOTH_WAYS = torch.cat([torch.eye(32), -torch.eye(32)])  # x = relu(x) - relu(-x)
Make = Callable[..., tuple[Recipe, Views]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Subjects, concept.Concept, Recipe]:
    """Ninety short texts, a tiny model, and one dictionary with a control."""
    import pandas as pd

    folder, draw = tmp_path_factory.mktemp("poolings"), np.random.default_rng(0)
    texts = [" ".join([*draw.choice(WORDS, 4 + i % 3), "zz" if i % 2 else "ee"]) for i in range(90)]
    pd.DataFrame({"text": texts, "label": np.arange(90) % 2}).to_csv(folder / "mine.csv", index=False)
    source = Source(source="mine", file=str(folder / "mine.csv"), field="text", label="label")
    recipe = Recipe(
        name="toy",
        title="toy",
        positive="1",
        negative="0",
        question="",
        site=SITE,
        sites=[SITE],
        train=[source],
        seeds=2,
        methods=["difference_in_means", "logistic@latents", "length"],
        contrasts=[
            Contrast(method="logistic@latents", than="difference_in_means"),
            Contrast(method="difference_in_means", than="length"),
        ],
    )
    model = Model(tiny_model(), byte_tokenizer(), name="tiny")
    dictionary = Dictionary(BOTH_WAYS, torch.zeros(64), BOTH_WAYS, torch.zeros(32), ReluRule(), subtract_b_dec=False)
    site_dictionary = SiteDictionary("both", "", SITE, dictionary, dictionary)
    return folder, Subjects(model, (site_dictionary,)), concept.load(recipe), recipe


@pytest.fixture(scope="module")
def views_of(world: tuple[Path, Subjects, concept.Concept, Recipe]) -> Callable[..., tuple[Recipe, Views]]:
    folder, subjects, found, recipe = world

    def make(**changes: str) -> tuple[Recipe, Views]:
        changed = recipe.model_copy(update=changes)
        return changed, build.build_views(changed, found, subjects, folder / "cache", lambda done, total: None)

    return make


def test_pooling_and_positions_are_in_every_key_that_depends_on_them(views_of: Make) -> None:
    ways = [{"pooling": "mean"}, {"pooling": "max"}, {"pooling": "last"}, {"positions": "content[-1]"}]
    made = [views_of(**way)[1] for way in ways]
    for view in ("state", "latents", "error", "control"):
        assert len({views.key(view, SITE) for views in made}) == len(ways), view
    assert len({views.path("train", "state", SITE) for views in made}) == len(ways)
    again = views_of(pooling="mean")[1]
    assert again.key("state", SITE) == made[0].key("state", SITE)
    rows = [views.get("train", "state", SITE) for views in made]
    assert all(not np.allclose(a, b, atol=1e-3) for at, a in enumerate(rows) for b in rows[:at])


@pytest.mark.parametrize(("own", "other"), [("mean", "last"), ("mean", "max"), ("last", "mean")])
def test_another_pooling_is_what_a_run_with_that_pooling_reads(
    world: tuple[Path, Subjects, concept.Concept, Recipe],
    views_of: Make,
    own: str,
    other: str,
) -> None:
    _, subjects, found, _ = world
    recipe, views = views_of(pooling=own)
    again = other_poolings.pooled_views(other_poolings.Compared(recipe, found, subjects, views), other)
    run = views_of(pooling=other)[1]
    for view in ("state", "reconstruction", "error"):
        np.testing.assert_allclose(again.get("train", view, SITE), run.get("train", view, SITE), rtol=1e-4, atol=1e-5)
    for view in ("latents", "control"):
        assert abs(again.get("train", view, SITE) - run.get("train", view, SITE)).max() < 1e-4
    assert len({handle.key("state", SITE) for handle in (views, again, run)}) == 3, "no two share a place on disk"


def test_the_fixed_contrasts_are_given_for_the_other_poolings_with_n_and_cost(
    world: tuple[Path, Subjects, concept.Concept, Recipe], views_of: Make
) -> None:
    folder, subjects, found, _ = world
    recipe, views = views_of(pooling="mean")
    quiet, cache = lambda done, total: None, folder / "fits"
    fitted = list(fits.run(jobs(recipe, views, []), views, recipe.seeds, cache, quiet))
    compared = other_poolings.Compared(recipe, found, subjects, views, fitted)
    others = other_poolings.evaluated(compared, cache, quiet)
    assert list(others) == ["last", "max"]
    pairs = [(c.method, c.versus) for c in others["last"].evaluation.contrasts]
    assert pairs == [("logistic@latents", "difference_in_means"), ("difference_in_means", "length")]
    facts = other_poolings.facts(others, matched(fitted, recipe), recipe)
    assert list(facts) == ["mean", "last", "max"]
    level = {p: {x["method"]: x["value"] for x in part["levels"]} for p, part in facts.items()}
    assert level["mean"]["length"] == level["last"]["length"] == level["max"]["length"], "the text has no pooling"
    for pooling, part in facts.items():
        for line in part["contrasts"]:
            gap = level[pooling][line["method"]] - level[pooling][line["than"]]
            assert line["value"] == pytest.approx(gap)
    # what a run of that pooling finds, from its own pass of the model
    last, own = views_of(pooling="last")
    alone = list(fits.run(jobs(last, own, []), own, last.seeds, cache, quiet))
    wanted = {
        r["method"]: r["value"]
        for r in matched(alone, last).rows
        if (r["task"], r["metric"], r["seed"]) == ("matched", "auroc", "all")
    }
    assert level["last"] == pytest.approx({m: wanted[m] for m in level["last"]}, abs=0.02)
    rows = other_poolings.rows(others)
    assert {(row["task"], row["pooling"]) for row in rows} == {("poolings", "last"), ("poolings", "max")}


def test_of_a_single_token_there_is_no_other_mean_or_maximum(
    world: tuple[Path, Subjects, concept.Concept, Recipe], views_of: Make
) -> None:
    folder, subjects, found, _ = world
    recipe, views = views_of(positions="content[-1]")
    compared = other_poolings.Compared(recipe, found, subjects, views)
    others = other_poolings.evaluated(compared, folder / "fits", lambda done, total: None)
    assert list(others) == ["last"]
