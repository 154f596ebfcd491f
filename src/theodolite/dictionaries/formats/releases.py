"""SAELens' list of released dictionaries: `RELEASE/ID` to a folder of the hub and what the list says beside it.

The list is a file of the sae-lens package, which is not needed for anything else: it is read from where that package
lies, and the package is not imported.
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from theodolite.core.errors import UserError, unknown
from theodolite.dictionaries import formats
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.formats import saelens

LIST = "pretrained_saes.yaml"
READ = {
    None,
    "sae_lens",
    "gemma_2",
    "gemma_2_transcoder",
    "gemma_3",
    "dictionary_learning_1",
}  # the list's names for layouts that are read here


@dataclass(frozen=True)
class Release:
    """Place of one dictionary on the hub, and the changes that SAELens makes after opening it."""

    path: str
    native: bool = True
    overrides: dict[str, Any] = field(default_factory=dict)
    factor: float | None = None

    def read(self, folder: Path) -> Dictionary:
        """The dictionary, once its folder has been fetched."""
        return saelens.read(folder, self.overrides, self.factor) if self.native else formats.read(folder)


def find(name: str) -> Release:
    """The release entry of `RELEASE/ID`; the part before the first slash is the release."""
    release, _, sae_id = name.partition("/")
    listed = _listed()
    if release not in listed:
        raise unknown("SAELens release", release, listed)
    entry = listed[release]
    saes = {str(one["id"]): one for one in entry["saes"]}
    if sae_id not in saes:
        raise unknown(f"dictionary of the SAELens release {release}", sae_id, saes)
    layout = entry.get("conversion_func")
    if layout not in READ:
        raise UserError(f"saelens:{name} is laid out as {layout!r}, which is not read here")
    path = f"{entry['repo_id']}/{saes[sae_id]['path']}"
    return Release(
        path, layout in (None, "sae_lens"), entry.get("config_overrides") or {}, saes[sae_id].get("norm_scaling_factor")
    )


def _listed() -> dict[str, Any]:
    package = importlib.util.find_spec("sae_lens")
    places = package.submodule_search_locations if package else None
    if not places:
        raise UserError(
            "saelens:RELEASE/ID needs the list of releases in the sae-lens package: pip install sae-lens, or name the "
            "folder itself as hub:OWNER/REPO/PATH or, without a network, by its path"
        )
    with open(Path(places[0]) / LIST, encoding="utf-8") as file:
        loaded: dict[str, Any] = yaml.load(
            file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )  # 5 times as quick
    return loaded
