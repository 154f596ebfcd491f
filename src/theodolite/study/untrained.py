"""Untrained controls of dictionaries that were made elsewhere, as subjects with rows of their own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theodolite.core.recipe import Recipe
from theodolite.dictionaries.untrained import untrained_controls
from theodolite.study.subjects import SiteDictionary, Subjects

ROWS = 4096  # training rows on which the controls' number of active latents is matched
TEXTS = 128  # texts that are read for them, at most
LABEL = "untrained"


def with_untrained(subjects: Subjects, recipe: Recipe, texts: Sequence[str]) -> Subjects:
    """Return the subjects with untrained controls for each dictionary from elsewhere that has no trained control.

    texts: of the training rows; the first of them are read once more, for the number of active latents. A control's
    family is the word "untrained" and its kind, as in its rows, its key and on the page:
    `logistic@latents [untrained random encoder]`.
    """
    foreign = [s for s in subjects.dictionaries if needs_control(s)]
    if not foreign:
        return subjects
    rows = {site: _rows(subjects, recipe, site, texts) for site in {s.site for s in foreign}}
    found = [each for number, s in enumerate(foreign) for each in _controls(s, rows[s.site], number)]
    return replace(subjects, dictionaries=(*subjects.dictionaries, *found))


def needs_control(site_dictionary: SiteDictionary) -> bool:
    """Return whether a dictionary was made elsewhere and nothing trained stands beside it."""
    info = site_dictionary.dictionary.info
    ours = "training" in info or LABEL in info
    return site_dictionary.control is None and not ours and not site_dictionary.dictionary.is_transcoder


def _rows(subjects: Subjects, recipe: Recipe, site: str, texts: Sequence[str]) -> Tensor:
    """Token rows of the first training texts at a site."""
    how: dict[str, Any] = {"positions": recipe.positions, "format": recipe.format, "max_tokens": recipe.max_tokens}
    read = subjects.model.read(list(texts[:TEXTS]), site, pooling=None, **how)[site]
    return torch.from_numpy(read.rows[:ROWS])


def _controls(of: SiteDictionary, x_nd: Tensor, number: int) -> list[SiteDictionary]:
    """One subject per kind; dictionaries of one family give their controls one family, with other seeds."""
    source = f" of {Path(of.family).name}" if of.family else ""
    return [
        SiteDictionary(
            f"{LABEL} {kind} of {of.key} seed {number}", f"{LABEL} {kind}{source}", of.site, control, device=of.device
        )
        for kind, control in untrained_controls(of.dictionary, x_nd, seed=number).items()
    ]
