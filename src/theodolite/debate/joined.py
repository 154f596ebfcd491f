"""Reading and steering of one concept, out of two Runs, as estimates that are drawn anew together.

Shapes: S fits (training sets or seeds), n rows (texts or openings), m methods, B draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from theodolite.control.effect_table import read_effects
from theodolite.control.statistics import FEWEST_FITS, both_signs
from theodolite.core.control_documents import SteeredFacts, facts_of
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.metrics import auroc, mean
from theodolite.core.run import Run
from theodolite.core.seeds import generator
from theodolite.core.stats import FEWEST_SEEDS, HALVES, Estimate, Sample, pool_factor
from theodolite.core.training_sets import TrainingSets
from theodolite.debate.ranks import Axis
from theodolite.study.score_matrix import N_BOOT, read_score_matrix
from theodolite.study.training_sets import of_dataset

Array = np.ndarray
WRITTEN = "effect_written"  # mean over the classifiers that tell held-out texts of the concept
SECONDARY = ("effect_targets",)
METRICS = (WRITTEN, *SECONDARY)


@dataclass(frozen=True)
class Read:
    """AUROC under shift by method of control: estimates, one for each shift, in the same order of shifts.

    site: where the state is read; elsewhere: the sites of methods that read another one.
    """

    shifts: tuple[str, ...]
    estimates: Mapping[str, Sequence[Estimate]]
    site: str
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def site_of(self, method: str) -> str:
        """Return the site that a method reads."""
        return self.elsewhere.get(method, self.site)


@dataclass(frozen=True)
class Steered:
    """Effects on both signs at the primary disturbance, (S, n), by method and metric; openings and their groups (n,).

    openings: content hashes, by which concepts are found to share some. usable: metrics on written text whose
    classifier tells held-out texts. missing: by method why it has no effect. training: what the
    training sets of several fits have in common.
    """

    concept: str
    nats: float
    effects: Mapping[tuple[str, str], Array]
    openings: Array
    groups: Array
    usable: tuple[str, ...]
    missing: Mapping[str, str]
    site: str
    training: TrainingSets = HALVES

    @property
    def methods(self) -> list[str]:
        """Return the methods of the Run, those without an effect among them."""
        return list(dict.fromkeys([*(method for method, _ in self.effects), *self.missing]))

    @cached_property
    def estimates(self) -> dict[tuple[str, str], Estimate]:
        """Return the mean effects under one set of bootstrap weights over groups of openings."""
        found: dict[tuple[str, str], Estimate] = {}
        samples: dict[int, Sample] = {}
        for key, effect_sn in self.effects.items():
            asked = np.ones(effect_sn.shape, bool)
            sample = samples.setdefault(
                len(effect_sn),
                Sample.of(np.zeros(len(self.groups)), [self.groups], asked, training=self.training, n_boot=N_BOOT),
            )
            found[key] = sample.estimate(mean, effect_sn)
        return found


def read_of(run: Run, readers: Mapping[str, str]) -> Read:
    """Return the AUROC under shift of the readers, by method of control, out of the scores of a reading Run.

    Every shift with both labels counts, since a reader is wanted where nobody trained it. At the matched site only.
    """
    site, scores = str(run.recipe["site"]), run.scores
    # Runs write a method as it was asked for, with the view or without it where it is the reader's own
    wanted = {word: method for method, reader in readers.items() for word in (reader, parse(reader).spec)}
    names = {label: wanted.get(label, "") for label in scores["method"].unique()}
    scores = scores[(scores["split"] == "shift") & scores["site"].isin(["", site]) & scores["method"].map(names).ne("")]
    training = {name: TrainingSets(**sets) for name, sets in run.facts.get("training_sets", {}).items()}
    shifts: list[str] = []
    estimates: dict[str, list[Estimate]] = {method: [] for method in readers if method in names.values()}
    for shift, frame in scores.groupby("dataset", sort=True):
        matrix = read_score_matrix(str(shift), frame, training=of_dataset(training, str(shift)), n_boot=N_BOOT, seed=0)
        if not matrix.has_both_classes:  # an over-refusal set ranks nothing
            continue
        shifts.append(str(shift))
        for (label, _), score_sn in matrix.scores.items():
            estimates[names[label]].append(matrix.sample.estimate(auroc, score_sn))
    whole = {method: found for method, found in estimates.items() if len(found) == len(shifts) and found}
    return Read(tuple(shifts), whole, site)


def steered_of(run: Run, concept: str) -> Steered:
    """Return the effects of a steering Run at its primary disturbance, opening by opening."""
    table, facts = read_effects(run), facts_of(run, "steering", SteeredFacts)
    if table is None:
        raise UserError(
            f"{str(run.folder)!r} stores no effects of single openings, which Runs of earlier versions lack: "
            f"run `theodolite compare {run.recipe['name']} --force`, or move it away"
        )
    usable = tuple(f"effect_{one['name']}" for one in facts["classifiers"] if one["usable"])
    table = table[np.isclose(table["nats"], facts["primary"])]
    openings = table.drop_duplicates("row").sort_values("row")
    effects: dict[tuple[str, str], Array] = {}
    for (method, metric), frame in table.groupby(["method", "metric"], sort=False):
        sides = [_matrix(frame[frame["split"] == split], openings["row"]) for split in ("+", "-")]
        if sides[0].shape == sides[1].shape and len(sides[0]) == len(facts["methods"][method]["spent"]):
            effects[str(method), str(metric)] = both_signs(*sides)
    for method in facts["methods"]:
        written = [effects[method, metric] for metric in usable if (method, metric) in effects]
        if written and len(written) == len(usable):
            effects[method, WRITTEN] = np.mean(written, axis=0)
    missing = {m: "not matched" for m in facts["methods"] if not any(method == m for method, _ in effects)}
    site = str(run.recipe["site"])
    sets = {name: TrainingSets(**one) for name, one in run.facts.get("training_sets", {}).items()}
    # numbers of groups in the order of numbers: the bootstrap then gives each the weight that it had in the Run itself
    width = max(map(len, openings["group"]), default=0)
    names, groups = openings["row"].to_numpy(), openings["group"].str.rjust(width).to_numpy()
    training = of_dataset(sets, concept)
    return Steered(concept, facts["primary"], effects, names, groups, usable, missing, site, training)


def axis(estimates: Sequence[Sequence[Estimate]], fewest: int, name: str) -> Axis:
    """Return values (m,) and draws (B, m) of methods, each the mean of its estimates (one for each data set).

    Rows are drawn by the weights that all methods of a data set share. What refitting adds is drawn beside, where there
    are at least `fewest` fits: with fewer the draws are about these fits. name: seeds what is drawn.
    """
    draws_bm = np.stack([np.mean([_rows(one) for one in method], axis=0) for method in estimates], axis=1)
    value_m = np.array([np.mean([one.seeds.mean() for one in method]) for method in estimates])
    first = estimates[0][0]
    n_seeds = len(first.seeds)
    if n_seeds >= fewest:
        rng = generator(0, "debate", name)
        # One factor for each draw makes the normal scatter of S fits a t with the fits' degrees of freedom
        df = max(first.training.df_share * (n_seeds - 1), 1.0)
        pull_bs = rng.standard_normal((len(draws_bm), n_seeds)) / np.sqrt(rng.chisquare(df, (len(draws_bm), 1)) / df)
        seeds_sm = np.stack([np.mean([one.seeds for one in method], axis=0) for method in estimates], axis=1)
        pool = pool_factor(n_seeds, first.training.overlap) if not first.training.reason else np.nan
        draws_bm = draws_bm + pull_bs @ (seeds_sm - seeds_sm.mean(0)) * np.sqrt(pool / (n_seeds - 1))
    return Axis(value_m, value_m + draws_bm)


def read_axis(found: Read, methods: Sequence[str], concept: str) -> Axis:
    """Return the mean AUROC over the shifts."""
    return axis([found.estimates[method] for method in methods], FEWEST_SEEDS, f"reading {concept}")


def steered_axis(found: Steered, methods: Sequence[str], metric: str) -> Axis:
    """Return the mean effect on both signs."""
    return axis([[found.estimates[m, metric]] for m in methods], FEWEST_FITS, f"steering {found.concept}")


def _rows(one: Estimate) -> Array:
    """Deviations (B,) of a mean over fits as over fresh rows; of two crossed groupings both deviations add up.

    That is at least the variance of crossed groups, from which the cells are still to be subtracted.
    """
    groupings = one.draws.mean(0)[:2]
    return ((groupings - one.seeds.mean()) * np.sqrt(one.small_sample[: len(groupings), None])).sum(0)


def _matrix(frame: pd.DataFrame, rows: pd.Series) -> Array:
    """Effects (S, n) in a fixed order of the openings."""
    return frame.pivot(index="seed", columns="row", values="effect").reindex(columns=rows).to_numpy(float)
