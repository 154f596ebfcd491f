"""Jobs to fit: every method at the matched site, at the other sites, without a source, and over all blocks."""

from collections.abc import Iterator
from dataclasses import dataclass

from theodolite.core import methods
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe
from theodolite.study.views import SITELESS, Views

# The heat-map fixes the strength of regularisation: 30 blocks x 12 configurations would be a search of its own.
HEATMAP = ("difference_in_means", "logistic(C=0.01)", "ridge(alpha=100.0)")
# Dictionaries of another corpus stand beside the main one with these methods only.
BESIDE = ("k_sparse@latents", "logistic@latents", "logistic@reconstruction")


@dataclass(frozen=True)
class Job:
    """One method at one site on one training set, for every seed.

    leave_out: prefix of the sources kept out of training; "" trains on the whole mix.
    family: whose dictionaries the latents come from; "" are those the comparison is about.
    tuned: False takes the parameters as written, with no search.
    """

    method: str
    site: str
    leave_out: str = ""
    family: str = ""
    tuned: bool = True

    @property
    def label(self) -> str:
        """The method's name in every table: the method, and the family where it is not the main one."""
        return self.method + (f" [{self.family}]" if self.family else "")


def jobs(recipe: Recipe, views: Views, blocks: list[str]) -> list[Job]:
    """All jobs of a recipe whose views exist, the matched site first."""
    found = list(_tuned(recipe, views, [recipe.site]))
    if not found:
        raise UserError(
            f"nothing to fit: {', '.join(recipe.methods)} read a dictionary, and there is none for {recipe.site}: "
            "name one with --sae, or add a method that reads something else"
        )
    found += [job for job in _tuned(recipe, views, recipe.sites) if job not in found]
    families = {family for family, _ in views.dictionaries} - {""}
    beside = [Job(m, recipe.site, family=f) for f in sorted(families) for m in recipe.methods if m in BESIDE]
    found += [job for job in beside if views.has(methods.parse(job.method).view, job.site, job.family)]
    found += [Job(j.method, j.site, left) for left in recipe.leave_out for j in _tuned(recipe, views, [recipe.site])]
    return found + [Job(method, block, tuned=False) for block in blocks for method in HEATMAP]


def absent(recipe: Recipe, views: Views) -> list[str]:
    """Methods of the recipe that cannot run because nothing gives them their view."""
    return [m for m in recipe.methods if not views.has(methods.parse(m).view, recipe.site)]


def _tuned(recipe: Recipe, views: Views, sites: list[str]) -> Iterator[Job]:
    for spec in recipe.methods:
        view = methods.parse(spec).view
        for site in [""] if view in SITELESS else sites:
            if views.has(view, site):
                yield Job(spec, site)
