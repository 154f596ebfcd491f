"""The subjects of a study: the model, and the dictionaries and controls that exist for it, by site."""

import hashlib
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch

from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel
from theodolite.core.recipe import AUTO, Recipe
from theodolite.core.site import Site
from theodolite.core.slug import slug
from theodolite.core.tick import Tell, silent, told
from theodolite.dictionaries import native, opening, origin
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops import tiles
from theodolite.dictionaries.training import corpus
from theodolite.dictionaries.training.learner import frozen_part
from theodolite.models import offload, preflight
from theodolite.models.model import Model
from theodolite.study.hardware import DEFAULT, Machine

MAIN_CORPUS = "text-chat"
DEPTHS = (0.57, 0.3, 0.43)  # of a model whose recipe names no site; the first is the matched one


@dataclass(frozen=True)
class SiteDictionary:
    """One dictionary at one site, with its frozen-encoder control if it has one.

    device: where rows are coded with it: the model's, if it fits there beside the model, else the CPU, where it lies.

    family: "" for the dictionaries the comparison is about; the name of another corpus, size or `--sae` for rows that
    stand beside them. Seeds of a comparison take turns among a family's dictionaries, so these differ in nothing but
    their own seed.
    """

    name: str
    family: str
    site: str
    dictionary: Dictionary
    control: Dictionary | None = None
    device: str = "cpu"

    @property
    def key(self) -> str:
        """Name (of a path its last component) with the start of the weights' fingerprint.

        Names files and stands in Runs, so it says nothing of where the dictionary lies on this machine.
        """
        name = re.split(r"[/\\]", self.name.rstrip("/\\"))[-1]
        return f"{slug(name)}-{self.dictionary.fingerprint()[:12]}"


@dataclass(frozen=True)
class Subjects:
    """The model under study and every dictionary that reads it."""

    model: Model
    dictionaries: tuple[SiteDictionary, ...] = ()

    @property
    def blocks(self) -> list[str]:
        """The residual stream after every block."""
        return [str(Site(block, "resid_post")) for block in range(self.model.n_blocks)]

    @property
    def dictionary_sites(self) -> list[str]:
        """Sites that have at least one dictionary."""
        return sorted({s.site for s in self.dictionaries})

    def at(self, site: str, family: str = "") -> list[SiteDictionary]:
        """One family's dictionaries at one site, in a fixed order."""
        return [s for s in self.dictionaries if (s.site, s.family) == (site, family)]


def open_subjects(
    recipe: Recipe, model: Model | None = None, machine: Machine = DEFAULT, tell: Tell = silent
) -> Subjects:
    """Open the model of a recipe (or take one already loaded) and the dictionaries it names.

    `shipped` stands for what the package carries and whatever `theodolite train` made for these weights. Nothing
    found is no error: the SAE rows are then absent, and the verdict says so. Every other name is one dictionary at the
    matched site, of a family of its own unless it is a further seed of one that is there.
    """
    if model is None:
        tell(f"loading {recipe.model}", 0, 0)
        dtype = compute_dtype(recipe.dtype)
        where: dict[str, Any] = {"device": machine.device, "device_map": machine.device_map}
        model = Model.from_pretrained(recipe.model, revision=recipe.revision, dtype=dtype, **where)
    elif machine.device_map is not None:
        raise UserError("device_map places a model while it is loaded, and this one is: load it with device_map=")
    recipe = settled(recipe, model)
    sites = {recipe.site, *recipe.sites}
    if unknown := [site for site in sorted(sites) if (Site.parse(site).block or 0) >= model.n_blocks]:
        raise UserError(f"{recipe.model!r} has {model.n_blocks} blocks: no site {', '.join(unknown)}; choose --sites")
    tell("opening dictionaries", 0, 0)
    dictionaries = [s for s in _shipped(model) if s.site in sites] if "shipped" in recipe.dictionaries else []
    if len({s.family for s in dictionaries}) == 1:  # a single kind is what the comparison is about, whatever its corpus
        dictionaries = [replace(s, family="") for s in dictionaries]
    for spec in told(recipe.dictionaries, "opening dictionaries", tell):
        if spec != "shipped":
            dictionaries.append(
                _named(spec, opening.open_dictionary(spec, model, recipe.site), recipe.site, dictionaries)
            )
    return Subjects(model, tuple(replace(s, device=coding_device(s.dictionary, model)) for s in dictionaries))


def coding_device(dictionary: Dictionary, model: Model) -> str:
    """The device to code rows on: the model's, where a copy of the dictionary and a tile of codes fit; else the CPU."""
    device = str(offload.entrance(model.network.module))
    if device == "cpu":
        return device
    tensors = (*dictionary.weights().values(), *dictionary.activation.tensors().values())
    needed = sum(t.numel() * t.element_size() for t in tensors) + 3 * 4 * tiles.CELLS
    return device if needed + needed // 10 <= preflight.available(device) else "cpu"


def unchecked_notes(subjects: Subjects) -> list[tuple[str, int, str]]:
    """Counted warnings (kind, count, text) of a run: dictionaries whose training text nothing can be compared with."""
    known = corpus.names()
    trained = [s for s in subjects.dictionaries if not s.dictionary.info.get("untrained")]
    trained_on = {s.name: (s.dictionary.info.get("training") or {}).get("corpus") for s in trained}
    unknown = [name for name, text in trained_on.items() if text not in known]
    text = f"dictionaries trained on text that is unknown here, so no row was compared with it: {', '.join(unknown)}"
    return [("unchecked", len(unknown), text)] if unknown else []


def origin_notes(subjects: Subjects, max_tokens: int) -> list[tuple[str, int, str]]:
    """Counted warnings of a run: what each dictionary was made for and does not get here."""
    return [
        ("dictionary", 1, f"{site_dictionary.name} {remark}")
        for site_dictionary in subjects.dictionaries
        for remark in origin.remarks(site_dictionary.dictionary, subjects.model, max_tokens)
    ]


def settled(recipe: Recipe, model: LanguageModel) -> Recipe:
    """The recipe with its sites by our own names, and spelt out where it leaves them to the depth of the model."""
    sites = [str(Site.parse(site)) for site in recipe.sites]
    if recipe.site != AUTO:
        return recipe.model_copy(update={"site": str(Site.parse(recipe.site)), "sites": sites})
    default = default_sites(model.n_blocks)
    return recipe.model_copy(update={"site": default[0], "sites": sites or default})


def default_sites(n_blocks: int) -> list[str]:
    """Sites for a recipe that names none, and for training dictionaries; the first is the matched one.

    >>> default_sites(30)
    ['blocks.17.resid_post', 'blocks.9.resid_post', 'blocks.13.resid_post']
    """
    sites = [str(Site(round(depth * n_blocks), "resid_post")) for depth in DEPTHS]
    return list(dict.fromkeys(sites))


def compute_dtype(asked: str) -> str:
    """bfloat16 where the processor multiplies it natively, else float32; `benchmarks/dtype.py` measures what it costs.

    On a processor without such instructions bfloat16 is emulated and slower than float32.
    """
    if asked != "auto" or torch.cuda.is_available():
        return asked
    return (
        "bfloat16"
        if torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
        else "float32"
    )


def _shipped(model: Model) -> list[SiteDictionary]:
    pairs = opening.paired(opening.find(model))
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}  # that of the first of its kind, so of a shipped one
    for one, _ in pairs:
        sizes.setdefault((one.site, one.corpus, one.label), (one.width, one.k))
    return [_site_dictionary(one, control, sizes[one.site, one.corpus, one.label]) for one, control in pairs]


def _site_dictionary(one: opening.Found, control: opening.Found | None, size: tuple[int, int]) -> SiteDictionary:
    """A dictionary of another variant or size than its site's first stands beside, under its variant and size."""
    other = "" if one.label == "topk" else f"-{one.label}"
    if (one.width, one.k) != size:
        other += f"-w{one.width}" + (f"-k{one.k}" if one.k else "")
    family = "" if one.corpus == MAIN_CORPUS and not other else one.corpus + other
    loaded_control = native.load(control.path) if control else None
    return SiteDictionary(f"{one.corpus}-{one.seed}{other}", family, one.site, native.load(one.path), loaded_control)


def _named(spec: str, dictionary: Dictionary, site: str, others: list[SiteDictionary]) -> SiteDictionary:
    """A dictionary named by the user; `open_dictionary` has refused one that is not for this site."""
    here = [s for s in others if s.site == site]
    prints = {s.dictionary.fingerprint(): s.name for s in here}
    if (same := dictionary.fingerprint()) in prints:
        raise UserError(f"dictionary {spec!r} has the very weights of {prints[same]!r}: name it once")
    procedure, taken = _procedure(dictionary), {s.family for s in others}
    control = opening.control_beside(spec, dictionary)
    same_kind = next((s for s in here if procedure and _procedure(s.dictionary) == procedure), None)
    if same_kind is not None:
        return SiteDictionary(spec, same_kind.family, site, dictionary, control)
    if all(s.family for s in here):
        return SiteDictionary(spec, "", site, dictionary, control)
    family = f"./{spec}" if spec in taken else spec  # a folder may be called text-only
    return SiteDictionary(spec, family, site, dictionary, control)


def _procedure(dictionary: Dictionary) -> tuple[Any, ...] | None:
    """Facts that two dictionaries of one site share if they differ by their seed; None where the file does not say."""
    info, rule = dictionary.info, dictionary.activation
    trained_on = (info.get("training") or {}).get("corpus")
    k = rule.k if isinstance(rule, TopKRule) else info.get("k")
    if not trained_on or not info.get("model_hash") or not (isinstance(rule, TopKRule) or info.get("label")):
        return None
    return trained_on, info["model_hash"], dictionary.width, k, info.get("label", "topk"), frozen_part(info)


def available(recipe: Recipe, model_hash: str) -> dict[str, str]:
    """Each dictionary that `shipped` stands for now at a settled recipe's sites, with the hash of its configuration.

    The configuration names the hash of the weights, so neither these nor the model have to be read.
    """
    if "shipped" not in recipe.dictionaries:
        return {}
    pairs = opening.paired(opening.find(SimpleNamespace(hash=model_hash)))
    used = [one for pair in pairs for one in pair if one is not None and one.site in {recipe.site, *recipe.sites}]
    return {_title(one): hashlib.sha256((one.path / "config.json").read_bytes()).hexdigest() for one in used}


def _title(one: opening.Found) -> str:
    control = " (control)" if one.control else ""
    variant = "" if one.label == "topk" else f", {one.label}"
    return f"{one.corpus}-{one.seed} at {one.site}{variant}, {one.width} latents, k {one.k}{control}"
