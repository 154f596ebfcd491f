"""What sights the concept: the model, and the dictionaries and twins that exist for it, by site."""

import hashlib
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from theodolite.core.errors import UserError
from theodolite.core.recipe import AUTO, Recipe
from theodolite.core.site import Site
from theodolite.dictionaries import native
from theodolite.dictionaries import open as opening
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models.model import Model

MAIN_CORPUS = "text-chat"
DEPTHS = (0.57, 0.3, 0.43)  # of a model whose recipe names no site; the first is the matched one


@dataclass(frozen=True)
class Station:
    """One dictionary at one site, with its frozen-encoder twin if it has one.

    family: "" for the dictionaries the comparison is about; another corpus's name for rows that stand beside them.
    """

    name: str
    family: str
    site: str
    dictionary: Dictionary
    twin: Dictionary | None = None

    @property
    def key(self) -> str:
        """The name with what tells its weights from those of another dictionary of that name."""
        return f"{self.name.replace('/', '-')}-{self.dictionary.fingerprint()[:12]}"


@dataclass(frozen=True)
class Instruments:
    """The model under study and every dictionary that reads it."""

    model: Model
    stations: tuple[Station, ...] = ()

    @property
    def blocks(self) -> list[str]:
        """The residual stream after every block."""
        return [str(Site(block, "resid_post")) for block in range(self.model.n_blocks)]

    @property
    def dictionary_sites(self) -> list[str]:
        """Sites that have at least one dictionary."""
        return sorted({s.site for s in self.stations})

    def at(self, site: str, family: str = "") -> list[Station]:
        """One family's dictionaries at one site, in a fixed order."""
        return [s for s in self.stations if (s.site, s.family) == (site, family)]

    def names(self, site: str) -> list[str]:
        """Names of the main family's dictionaries at one site."""
        return [s.name for s in self.at(site)]


def open_instruments(recipe: Recipe, model: Model | None = None, device: str = "auto") -> Instruments:
    """The model of a recipe (or one already loaded) and the dictionaries it names.

    `shipped` stands for what the package carries and whatever `theodolite train` made for these weights. Nothing
    found is no error: the SAE rows are then absent, and the verdict says so.
    """
    if model is None:
        dtype = compute_dtype(recipe.dtype)
        model = Model.from_pretrained(recipe.model, revision=recipe.revision, device=device, dtype=dtype)
    recipe = settled(recipe, model)
    sites = {recipe.site, *recipe.sites}
    if unknown := [site for site in sorted(sites) if (Site.parse(site).block or 0) >= model.n_blocks]:
        raise UserError(f"{recipe.model!r} has {model.n_blocks} blocks: no site {', '.join(unknown)}; choose --sites")
    stations = [s for spec in recipe.dictionaries for s in _stations(spec, model, recipe.site) if s.site in sites]
    return Instruments(model, tuple(stations))


def settled(recipe: Recipe, model: Model) -> Recipe:
    """The recipe with its sites spelt out, where it leaves them to the depth of the model."""
    if recipe.site != AUTO:
        return recipe
    sites = default_sites(model.n_blocks)
    return recipe.model_copy(update={"site": sites[0], "sites": recipe.sites or sites})


def default_sites(n_blocks: int) -> list[str]:
    """Where a recipe that names no site reads, and where a dictionary is trained; the first is the matched one.

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


def _stations(spec: str, model: Model, site: str) -> list[Station]:
    if spec != "shipped":
        dictionary = opening.open_dictionary(spec, model, site)
        return [Station(spec, "", dictionary.info.get("site", site), dictionary)]
    pairs = opening.paired(opening.find(model))
    sizes: dict[tuple[str, str], tuple[int, int]] = {}  # by site and corpus: that of the first, so of a shipped one
    for one, _ in pairs:
        sizes.setdefault((one.site, one.corpus), (one.width, one.k))
    return [_station(one, twin, sizes[one.site, one.corpus]) for one, twin in pairs]


def _station(one: opening.Found, twin: opening.Found | None, size: tuple[int, int]) -> Station:
    """A dictionary of another size than its site's first stands beside, under its size.

    Seeds of a comparison take turns among a family's dictionaries, so these must differ in nothing but their seed.
    """
    other = "" if (one.width, one.k) == size else f"-w{one.width}-k{one.k}"
    family = "" if one.corpus == MAIN_CORPUS and not other else one.corpus + other
    loaded_twin = native.load(twin.path) if twin else None
    return Station(f"{one.corpus}-{one.seed}{other}", family, one.site, native.load(one.path), loaded_twin)


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
    twin = " (twin)" if one.twin else ""
    return f"{one.corpus}-{one.seed} at {one.site}, {one.width} latents, k {one.k}{twin}"
