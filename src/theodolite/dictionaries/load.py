"""A dictionary for one's own work in Python."""

from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.opening import open_dictionary, read_named


def load_dictionary(spec: str | Path, model: Any = None, site: Any = None) -> Dictionary:
    """A dictionary by folder, `hub:OWNER/REPO/PATH`, `saelens:RELEASE/ID`, or `shipped` for a site of a model.

    With a model and a site, one that was made for another site or width is refused; without them it is read as it is.

    >>> dictionary = load_dictionary("hub:OWNER/REPO/PATH")                              # doctest: +SKIP
    >>> dictionary = load_dictionary("shipped", model, "blocks.17.resid_post")           # doctest: +SKIP
    """
    if (model is None) != (site is None):
        raise UserError("a dictionary is checked for a site of a model: give both model and site, or neither")
    if model is not None:
        return open_dictionary(str(spec), model, site)
    if str(spec) == "shipped":
        raise UserError("'shipped' stands for the dictionaries of one model at one site: give model and site")
    return read_named(str(spec))
