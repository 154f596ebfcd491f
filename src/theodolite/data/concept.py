"""A recipe's rows, ready to be read: training mix and shifts, cleaned, clustered, free of leaks, wrapped, matched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from theodolite.core.recipe import Recipe, Shift
from theodolite.core.seeds import child_seed
from theodolite.core.tick import Tell, silent, told
from theodolite.data import boilerplate, wrapping
from theodolite.data.answers import AskModel
from theodolite.data.clean import require_classes
from theodolite.data.dataset import Count, Dataset
from theodolite.data.gather import gather
from theodolite.data.leakage import NEAR_DICTIONARY, NEAR_FEW_SHOT, NEAR_TRAINING, Seen, counted, without_leaks
from theodolite.data.matching import length_matched
from theodolite.data.near_duplicates import clusters, gram_counts, inverse_frequency, joined_by_group
from theodolite.data.templates import CountTokens, templates

# What the runner hands in: why the model cannot be read on each of some texts, "" where it can
Unreadable = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Concept:
    """The data sets of one recipe; `held` names the shifts that were not opened (sealed, or for development)."""

    train: Dataset
    shifts: dict[str, Dataset]
    held: tuple[str, ...]

    @property
    def counts(self) -> list[Count]:
        """Every row that left, by data set and cause."""
        return [count for dataset in (self.train, *self.shifts.values()) for count in dataset.counts]


def load(
    recipe: Recipe,
    seed: int = 0,
    *,
    count_tokens: CountTokens | None = None,
    answer: AskModel | None = None,
    unreadable: Unreadable | None = None,
    dictionary_texts: Sequence[str] = (),
    development: bool = False,
    tell: Tell = silent,
) -> Concept:
    """Read and prepare everything a recipe names; equal rows in any order give equal data sets in equal order.

    count_tokens: number of tokens of each text; with it, wrapped rows beyond the recipe's `max_tokens` leave, so that
    no request is ever cut. answer: the model's choice among options, where labels are what the model answers.
    unreadable: why each text has nothing that the model could be read at; those rows leave, counted by cause.
    dictionary_texts: what the dictionaries were trained on; near-duplicates of it leave the shifts, as those of
    training rows do by the recipe's `leaks`. development: open the shifts with development templates too. The sealed
    shift opens when the recipe says `final`. tell: is called with each step and how far it is.
    """
    opened = {name: shift for name, shift in recipe.shifts.items() if _is_open(name, shift, recipe, development)}
    tell("reading the training rows", 0, 0)
    train = gather("train", recipe.train, seed, answer)
    shifts = {
        name: gather(name, shift.rows, seed, answer, shift.note)
        for name, shift in told(list(opened.items()), "reading data sets", tell)
    }
    if unreadable is not None:
        train = _readable(train, unreadable)
        shifts = {name: _readable(dataset, unreadable) for name, dataset in shifts.items()}
    shared = boilerplate.find(train.texts)
    form = shared.stripped
    idf = inverse_frequency(gram_counts(form(train.texts)))
    seen = [
        Seen(NEAR_TRAINING, train.texts, train.y.tolist()),
        Seen(NEAR_FEW_SHOT, [text for text, _ in recipe.few_shot], [label for _, label in recipe.few_shot]),
        Seen(NEAR_DICTIONARY, dictionary_texts),
    ]
    unseen = [_outside_groups(d, train) for d in without_leaks(shifts, seen, idf, recipe.leaks, form, tell).values()]
    tell("grouping near-copies", 0, 0)
    train, *clean_shifts = _clustered(train, unseen, idf, shared)
    shifts = _development_without_tested({dataset.name: dataset for dataset in clean_shifts}, opened)
    shifts = {name: _shaped(dataset, opened[name], recipe, seed, count_tokens) for name, dataset in shifts.items()}
    wrapped = {name: dataset for name, dataset in shifts.items() if opened[name].wrap}
    shifts |= without_leaks(wrapped, seen, idf, recipe.leaks, form, tell)
    shifts = {name: counted(dataset) for name, dataset in shifts.items()}
    train = _limited(train, recipe.limit, seed)
    _check(train, shifts, opened)
    return Concept(train, shifts, held=tuple(name for name in recipe.shifts if name not in opened))


def readable(concept: Concept, recipe: Recipe, unreadable: Unreadable) -> Concept:
    """The concept less the rows that `unreadable` gives a cause for, counted; each data set keeps enough of a label."""
    train = _readable(concept.train, unreadable)
    shifts = {name: _readable(dataset, unreadable) for name, dataset in concept.shifts.items()}
    _check(train, shifts, recipe.shifts)
    return replace(concept, train=train, shifts=shifts)


def _is_open(name: str, shift: Shift, recipe: Recipe, development: bool) -> bool:
    if _for_development(shift):
        return development
    return name != recipe.sealed or recipe.final


def _for_development(shift: Shift) -> bool:
    return shift.wrap is not None and shift.wrap.part != "test"


def _readable(dataset: Dataset, unreadable: Unreadable) -> Dataset:
    causes = np.array(unreadable(dataset.texts) if len(dataset) else [], dtype=object)
    for cause in dict.fromkeys(causes[causes != ""]):
        bad = causes == cause
        dataset, causes = dataset.without(bad, cause), causes[~bad]
    return dataset


def _outside_groups(dataset: Dataset, train: Dataset) -> Dataset:
    """A shift less the rows of a group that training has: they are nothing new, and would join clusters of training."""
    group = dataset.frame["group"]
    seen = (group != "") & group.isin(train.frame["group"])
    return dataset.without(seen.to_numpy(), "in a training group")


def _clustered(
    train: Dataset, shifts: Sequence[Dataset], idf: np.ndarray, shared: boilerplate.Boilerplate
) -> list[Dataset]:
    """Near-duplicate clusters of the training rows, and over all shifts at once, merged inside the groups of a source.

    Training rows are clustered alone, so that their clusters do not depend on which shifts are open; a shift row that
    is kept although it is near a training row joins no cluster of training. Numbers are global over the recipe, and
    follow the order of the rows, which is that of their hashes.
    """
    own = [boilerplate.joined(shared, boilerplate.find(dataset.texts)) for dataset in shifts]
    forms = [form.stripped(dataset.texts) for form, dataset in zip(own, shifts, strict=True)]
    first = _joined(shared.stripped(train.texts), [train], idf)
    rest = _joined([text for texts in forms for text in texts], shifts, idf) + first.max(initial=-1) + 1
    pieces = np.split(rest, np.cumsum([len(dataset) for dataset in shifts])[:-1]) if shifts else []
    return [
        replace(
            dataset.replaced(dataset.frame.assign(cluster=piece).drop(columns="group")),
            note=" ".join(filter(None, [dataset.note, _template_note(form, dataset)])),
        )
        for dataset, form, piece in zip([train, *shifts], [shared, *own], [first, *pieces], strict=True)
    ]


def _joined(forms: Sequence[str], datasets: Sequence[Dataset], idf: np.ndarray) -> np.ndarray:
    groups = [group for dataset in datasets for group in dataset.frame["group"]]
    return joined_by_group(clusters(forms, idf=idf), groups)


def _template_note(shared: boilerplate.Boilerplate, dataset: Dataset) -> str:
    n = int(shared.fills(dataset.texts).sum())
    if not n:
        return ""
    return (
        f"A template was detected: most of the text of {n} of {len(dataset)} rows is shared with many others; "
        "near-duplicates are sought in what differs."
    )


def _development_without_tested(shifts: dict[str, Dataset], opened: dict[str, Shift]) -> dict[str, Dataset]:
    """Remove development rows that resemble a test row: choices must not be made on what they are tested on."""
    tested = {c for name, d in shifts.items() if not _for_development(opened[name]) for c in d.frame["cluster"]}
    return {
        name: dataset.without(dataset.frame["cluster"].isin(tested).to_numpy(), "near a row of another shift")
        if _for_development(opened[name])
        else dataset
        for name, dataset in shifts.items()
    }


def _shaped(dataset: Dataset, shift: Shift, recipe: Recipe, seed: int, count_tokens: CountTokens | None) -> Dataset:
    """Length matching, the recipe's limit, and wrapping, each where asked for."""
    if shift.length_matched:
        dataset = dataset.replaced(length_matched(dataset.frame, seed), "no partner of equal length")
    if shift.wrap is None:
        return _limited(dataset, recipe.limit, seed)
    requests = _limited(dataset, recipe.limit and recipe.limit // shift.wrap.per_request, seed)
    wrapped = wrapping.wrap(requests, templates(shift.wrap, seed, count_tokens), shift.wrap.per_request, seed)
    return wrapping.without_truncated(wrapped, count_tokens, recipe.max_tokens) if count_tokens else wrapped


def _limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """Return at most about `limit` rows, by seeded choice inside each label and source."""
    if limit is None or len(dataset) <= limit:
        return dataset
    strata = dataset.frame.groupby(["label", "source"], sort=True)
    kept = strata.sample(frac=limit / len(dataset), random_state=child_seed(seed, "limit", dataset.name))
    return dataset.replaced(kept.sort_index(), "over the limit")


def _check(train: Dataset, shifts: dict[str, Dataset], opened: dict[str, Shift]) -> None:
    require_classes(train)
    for name, dataset in shifts.items():
        require_classes(dataset, one_class=opened[name].over_refusal or opened[name].one_class)
        if opened[name].wrap:
            wrapping.assert_balanced(dataset)
