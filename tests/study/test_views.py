"""A view exists where every dictionary of its family has it, and belongs to the code that made it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from theodolite.core.errors import Damaged
from theodolite.study.views import Views

SITE = "blocks.1.resid_post"


@pytest.fixture
def views(tmp_path: Path) -> Views:
    """Two dictionaries of one family, of which the first alone has a control."""
    made = Views(tmp_path, {"train": "one", "new": "two"}, {}, dictionaries={("", SITE): ["a", "b"]})
    for name in ("train", "new"):
        made.put(name, "state", SITE, np.ones((2, 3)))
        for number, dictionary in enumerate(("a", "b")):
            made.put(name, "latents", SITE, np.full((2, 3), number), dictionary)
        made.put(name, "control", SITE, np.ones((2, 3)), made.control("a"))
    return made


def test_a_view_that_one_dictionary_of_the_family_lacks_does_not_exist(views: Views) -> None:
    assert not views.has("control", SITE)
    assert views.has("latents", SITE)
    assert views.has("state+latents", SITE)
    assert views.has("state", SITE)
    assert views.has("text")
    for name in ("train", "new"):
        views.put(name, "control", SITE, np.ones((2, 3)), views.control("b"))
    assert views.has("control", SITE)
    assert not views.has("control", SITE, family="other")


def test_seeds_take_turns_among_the_dictionaries_of_a_family(views: Views) -> None:
    assert [views.get("train", "latents", SITE, seed)[0, 0] for seed in range(3)] == [0, 1, 0]


def test_what_other_code_made_is_another_view(views: Views) -> None:
    changed = replace(views, makers={"latents": "newer"})
    assert not changed.has("latents", SITE)
    assert changed.has("state", SITE)
    assert changed.key("latents", SITE) != views.key("latents", SITE)
    assert changed.key("state", SITE) == views.key("state", SITE)
    for name in ("train", "new"):
        for dictionary in ("a", "b"):
            changed.put(name, "latents", SITE, np.full((2, 3), 7), dictionary)
    assert changed.get("train", "latents", SITE)[0, 0] == 7
    assert views.get("train", "latents", SITE)[0, 0] == 0


def test_steps_of_two_models_whose_files_were_swapped_with_their_records_are_made_again(views: Views) -> None:
    other, notes = replace(views, inputs={"train": "three", "new": "two"}), []
    for each, value in ((views, 1), (other, 2)):
        file = each.put("train", "state", SITE, np.full((2, 3), value))
        each.end_part("train", "state", {"tokens": value}, [file])
    homes = [each.home("train") for each in (views, other)]
    homes[0].rename(views.folder / "kept")
    homes[1].rename(homes[0])
    (views.folder / "kept").rename(homes[1])
    for each in (views, other):
        assert not each.has_part("train", "state", lambda *note: notes.append(note))
        with pytest.raises(Damaged):
            each.facts("train", "state")
    assert [note[:2] for note in notes] == [("remade", 1)] * 2
    assert not views.has_part("train", "never made", lambda *note: notes.append(note))
    assert len(notes) == 2
