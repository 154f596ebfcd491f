"""The dry run: what a comparison would read, fit and take, and the smallest difference it could find."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from theodolite.comparison.fit_cost import TRIAL_ROWS, FitCost, fit_cost
from theodolite.core import methods
from theodolite.core.bootstrap import effective_groups
from theodolite.core.detectable import Assumed, smallest_detectable
from theodolite.core.recipe import Recipe
from theodolite.core.stats import FEWEST_SEEDS, HALVES
from theodolite.core.training_sets import TrainingSets
from theodolite.data.concept import Concept
from theodolite.data.dataset import Count
from theodolite.data.splits import PARTS, SHARES, dominant, require_splittable
from theodolite.models.model import Model
from theodolite.report.certificates import need
from theodolite.selection.protocol import certificate_needs, require_enough
from theodolite.study.datasets import load_concept, template_notes
from theodolite.study.hardware import Machine
from theodolite.study.resources import TRIAL, resources
from theodolite.study.settle import adaptation_notes, adapted
from theodolite.study.subjects import Subjects, open_subjects
from theodolite.study.training_sets import measured

FEW = 6  # methods that are named one by one
MOST_DETECTABLE = 0.35  # from the AUROC of .85 that is assumed down to chance
CORRELATIONS = (0.3, 0.5, 0.8)  # between the scores of two methods on the same rows


@dataclass(frozen=True, repr=False)
class ComparisonPlan:
    """Rows and tokens per data set, minutes of reading and coding, gigabytes, and the AUROC differences to be found.

    gigabytes: on disk, in the cache. memory: gigabytes by device; "cpu" is main memory.
    detectable: one per correlation of `CORRELATIONS`, NaN under five seeds. dictionaries: those that will be read.
    foresight: what the model made of the recipe, then what certificates need, and what there is. lost, kept: rows
    that left, and near-copies that stayed. remarks: how labels and groups were read. training: what the training sets
    will have in common, with the reason where there can be no interval. fitting: what the fits will take.
    """

    recipe: Recipe
    rows: dict[str, int]
    tokens: dict[str, int]
    minutes: float
    gigabytes: float
    detectable: tuple[float, ...]
    dictionaries: tuple[str, ...]
    foresight: tuple[str, ...] = ()
    lost: tuple[Count, ...] = ()
    kept: tuple[Count, ...] = ()
    training: TrainingSets = HALVES
    remarks: tuple[str, ...] = ()
    fitting: FitCost | None = None
    memory: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    @property
    def minutes_in_all(self) -> float:
        """Minutes of reading, coding and fitting, with nothing of it cached."""
        return self.minutes + (self.fitting.minutes if self.fitting else 0.0)

    def lines(self) -> Iterator[str]:
        """The plan as text, in about ten lines; the whole recipe is `plan.recipe`, or `theodolite data show NAME`."""
        recipe = self.recipe
        yield (
            f"{recipe.name}: {recipe.model} at {recipe.site}, format: {recipe.format}, max_tokens: "
            f"{recipe.max_tokens}, pooling: {recipe.pooling} of {recipe.positions}, seeds: {recipe.seeds}"
        )
        few = len(recipe.methods) <= FEW
        yield f"methods: {', '.join(recipe.methods) if few else f'{len(recipe.methods)} of them'}"
        yield "rows: " + "; ".join(f"{name} {n:,} rows, {self.tokens[name]:,} tokens" for name, n in self.rows.items())
        counted = [f"{c.dataset} {c.n:,} rows left out: {c.cause}" for c in self.lost]
        counted += [f"{c.dataset} {c.n:,} rows kept: {c.cause}" for c in self.kept]
        yield from filter(None, ["; ".join(counted), ". ".join(self.remarks)])
        yield "dictionaries: " + ("; ".join(self.dictionaries) or "none at these sites, so nothing reads latents")
        yield self._time()
        memory = ", ".join(f"{gb:.1f} GB on {device}" for device, gb in sorted(self.memory.items()))
        yield f"disk: about {self.gigabytes:.2f} GB in the cache; memory: about {memory}, and the fits"
        if self.training.reason:
            yield f"no interval and no verdict: {self.training.reason}"
        elif self.training.scope:
            yield self.training.scope
        if not math.isnan(self.detectable[0]):
            found = ", ".join(f"{_reachable(d)} at {r:g}" for d, r in zip(self.detectable, CORRELATIONS, strict=True))
            yield (
                f"smallest AUROC difference found with 80 % power on {self.recipe.primary or 'the test rows'}, by the "
                f"correlation between the two methods' scores: {found} (assumed: AUROC .85 of both, .01 between "
                f"seeds, the first step of Holm's correction for {len(self.recipe.contrasts)} contrasts)"
            )
        elif self.recipe.seeds < FEWEST_SEEDS and not self.training.reason:
            short = f"{self.recipe.seeds} training sets are too few for one, {FEWEST_SEEDS} are needed"
            yield f"no interval and no verdict: {short} (--seeds {FEWEST_SEEDS})"
        yield from self.foresight

    def _time(self) -> str:
        """Minutes of reading and coding, and of fitting, and what each of the two estimates rests on."""
        reading = f"reading and coding about {self.minutes:.1f} min (timed on {TRIAL} texts)"
        if self.fitting is None:
            return f"time: {reading}"
        cost = self.fitting
        beside = " without those of selective prediction" if self.recipe.admit else ""
        return (
            f"time: about {self.minutes_in_all:.1f} min, nothing of it cached: {reading}, fitting about "
            f"{cost.minutes:.1f} min ({cost.fits:,} fits of {cost.jobs} jobs on {cost.workers} cores{beside}; each "
            f"method timed on {TRIAL_ROWS} drawn rows)"
        )


def planned(recipe: Recipe, model: Model | None, machine: Machine) -> ComparisonPlan:
    """Return the plan of the recipe as this model can carry it out."""
    subjects = open_subjects(recipe, model, machine)
    fitting = adapted(recipe, subjects.model)
    adapted_notes = [text for _, _, text in adaptation_notes(recipe, fitting, subjects.model)]
    return plan(fitting, subjects, adapted_notes, machine.batch_tokens)


def plan(
    recipe: Recipe, subjects: Subjects, notes: Sequence[str] = (), batch_tokens: int | None = None
) -> ComparisonPlan:
    """Read the data, count tokens, time a few texts and each method once; write nothing but caches.

    notes: what is said before the foresight, of a recipe that was adapted to its model.
    """
    concept = load_concept(recipe, subjects)
    changed_texts = template_notes(concept, recipe, subjects.model)
    model, has_dictionary = subjects.model, bool(subjects.at(recipe.site))
    require_splittable(concept.train.frame, recipe.seeds)
    training = measured(concept.train.frame, recipe.seeds)[""]
    if recipe.admit:
        require_enough(recipe, concept.train.frame, has_dictionary)
    datasets = {"train": concept.train, **concept.shifts}
    tokens = {
        name: int(model.tokens(d.texts, format=recipe.format, max_tokens=recipe.max_tokens).mask.sum())
        for name, d in datasets.items()
    }
    needed = resources(recipe, subjects, {name: d.texts for name, d in datasets.items()}, batch_tokens)
    passes = 1 + sum(methods.parse(m).view == "answer" for m in recipe.methods)
    rows = {name: len(d) for name, d in datasets.items()}
    certificates = certificate_needs(recipe, concept.train.frame, has_dictionary)
    return ComparisonPlan(
        recipe=recipe,
        rows=rows,
        tokens=tokens,
        minutes=passes * needed.minutes_reading + needed.minutes_coding,
        gigabytes=needed.disk_gb,
        memory=needed.memory_gb,
        detectable=_detectable(recipe, concept, training),
        dictionaries=tuple(
            f"{s.name} at {s.site}, {s.dictionary.width} latents, "
            f"{'with' if s.control else 'without'} a frozen-encoder control"
            for s in subjects.dictionaries
        ),
        foresight=(*notes, *(need(**vars(one)) for one in certificates)),
        lost=tuple(concept.counts),
        kept=tuple(count for dataset in datasets.values() for count in dataset.kept),
        training=training,
        fitting=fit_cost(recipe, subjects, concept.train.texts),
        remarks=tuple(
            f"{n:,} {words}" for _, n, words in (*(r for d in datasets.values() for r in d.remarks), *changed_texts)
        ),
    )


def _detectable(recipe: Recipe, concept: Concept, training: TrainingSets) -> tuple[float, ...]:
    """Smallest detectable difference, by effective groups: clusters, or the fewer of requests and templates.

    In distribution every training set tests a share p of the rows, drawn anew: a row's mean weight over S of them
    varies as if n / (1 + (1 - p) / (S p)) rows had been tested by all.
    """
    shift = concept.shifts.get(recipe.primary or "")
    train = concept.train.frame
    frame = train[~dominant(train)] if shift is None else shift.frame
    columns = ["request", "template"] if (frame["template"] != "").any() else ["cluster"]
    part = SHARES[PARTS.index("test")]
    tested = 1 / (1 + (1 - part) / (recipe.seeds * part)) if shift is None else 1.0
    n = [min(effective_groups(frame.loc[frame["label"] == y, c].to_numpy()) for c in columns) * tested for y in (1, 0)]
    family = max(len(recipe.contrasts), 1)
    return tuple(
        smallest_detectable(n[0], n[1], recipe.seeds, Assumed(correlation=r), training=training, family=family)
        for r in CORRELATIONS
    )


def _reachable(difference: float) -> str:
    """The difference in words; "none" where it is more than lies between the assumed AUROC and chance."""
    return f"{difference:.3f}" if difference < MOST_DETECTABLE else "none"
