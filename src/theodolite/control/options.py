"""Recipe of kind `steer` as a request asks for it: its options, less of everything for a first look, all of it."""

from typing import Any

from theodolite.control.recipe import SteerRecipe
from theodolite.core.control_limits import OVERDRIVE
from theodolite.core.errors import UserError
from theodolite.core.recipe import AUTO
from theodolite.core.site import Site
from theodolite.core.strict import validated
from theodolite.selection.protocol import ALPHA
from theodolite.study.compare_request import CompareRequest
from theodolite.study.option import listed
from theodolite.study.subjects import default_sites

# Beside the core methods: other directions, and the two other ways to choose one latent
FURTHER = (
    *("lat", "pca", "leace", "contrast_vector", "reft"),
    *("latent(choose=output)", "latent(choose=unsupervised)"),
)
# Most of each that a first look takes, at the primary level alone
QUICK: dict[str, int] = {
    "openings": 16,
    "written_tokens": 12,
    "disturbance_texts": 16,
    "draws": 12,
    "draws_elsewhere": 0,
    "draws_written": 0,
    "nulls": 0,
}
FULL: dict[str, Any] = {
    "seeds": 3,
    "written_tokens": 40,
    "written_at": "all",
    "samples": 3,
    "curve": 7,
}
# Options of `theodolite compare` that a recipe of this kind takes, by the field that each replaces
OPTIONS = {"model": "model", "revision": "revision", "dtype": "dtype", "seeds": "seeds", "margin": "margin"}


def with_options(recipe: SteerRecipe, request: CompareRequest) -> SteerRecipe:
    """Return the recipe with what a request asks for in the place of its own fields.

    Of fewer methods only the contrasts between them are left. `quick` takes the primary level of disturbance alone and
    fewer openings, texts and random draws. `full` adds all methods, a level of overdrive, three training sets, further
    depths (chosen when the model is known), samples and curves.

    >>> few = {"nats": [0.2, 0.4], "primary": 0.2, "openings": 10}
    >>> recipe = SteerRecipe(kind="steer", name="a", title="A", concept="joy", **few)
    >>> quick = with_options(recipe, CompareRequest("a", quick=True))
    >>> quick.nats, quick.openings, with_options(recipe, CompareRequest("a", full=True)).nats
    ([0.2], 10, [0.2, 0.4, 1.0])
    """
    if request.quick and request.full:
        raise UserError("quick and full contradict each other: give one of them")
    changes: dict[str, Any] = {}
    if request.quick:
        changes = {name: min(getattr(recipe, name), most) for name, most in QUICK.items()}
        changes |= {"nats": [recipe.primary], "quick": True}
    if request.full:
        methods = list(dict.fromkeys([*recipe.methods, *FURTHER]))
        changes = FULL | {"nats": [*recipe.nats, OVERDRIVE], "methods": methods, "full": True}
    changes |= {field: getattr(request, name) for name, field in OPTIONS.items() if getattr(request, name) is not None}
    changes |= _admitted(recipe, request)
    if request.sites:
        changes |= {"site": request.sites[0], "sites": list(request.sites)}
    if request.sae is not None:
        named = [str(one) for one in listed(request.sae) or ()]
        changes["dictionaries"] = [] if named == ["none"] else named
    if request.methods:
        kept = list(listed(request.methods) or ())
        changes["methods"] = kept
        for family in ("contrasts", "secondary"):
            changes[family] = [c for c in getattr(recipe, family) if {c.method, c.than} <= set(kept)]
    # a method that is named twice would count as a second fit of it
    changes["methods"] = list(dict.fromkeys(changes.get("methods", recipe.methods)))
    return validated(SteerRecipe, recipe.model_dump() | changes, f"recipe {recipe.name!r}")


def with_sites(recipe: SteerRecipe, n_blocks: int) -> SteerRecipe:
    """Return the recipe with its sites spelt out, the one of the contrasts first; `full` adds those of other depths.

    >>> recipe = SteerRecipe(kind="steer", name="a", title="A", concept="joy", site="blocks.3.resid_post", full=True)
    >>> with_sites(recipe, 30).sites
    ['blocks.3.resid_post', 'blocks.17.resid_post', 'blocks.9.resid_post']
    """
    default = default_sites(n_blocks)
    site = default[0] if recipe.site == AUTO else str(Site.parse(recipe.site))
    further = [str(Site.parse(one)) for one in recipe.sites] or (default if recipe.full else [])
    sites = list(dict.fromkeys([site, *further]))
    # a depth beside the default ones is one of three, not a fourth
    return recipe.model_copy(update={"site": site, "sites": sites if recipe.sites else sites[: len(default)]})


def _admitted(recipe: SteerRecipe, request: CompareRequest) -> dict[str, float]:
    """Return the share of right moves wanted of accepted prompts, where there is to be selective steering."""
    wanted = list(listed(request.alpha) or ())
    if wanted and not (request.admit or recipe.admit):
        raise UserError("--alpha gives the share wanted of accepted prompts: give --admit too")
    if len(wanted) > 1:
        raise UserError(f"--alpha {' '.join(map(str, wanted))}: a comparison of control methods takes one share")
    if wanted and not 0.5 < wanted[0] < 1:
        raise UserError(f"--alpha {wanted[0]:g}: give a share of right moves above 0.5 and below 1, such as {ALPHA:g}")
    return {"admit": wanted[0] if wanted else recipe.admit or ALPHA} if request.admit or wanted else {}
