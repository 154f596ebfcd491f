"""Verdicts on the claims of the debate from finished Runs; no model is read and nothing is written.

A Run answers a claim where its digest is the claim's, that is where exactly the committed recipe was asked for. Another
Run of the same recipe with the same model in another precision says whether the answer is one about the quantisation.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from theodolite.core import claim_file
from theodolite.core.claim_file import NOT_RUN, POOLING, QUANTISATION, Claim
from theodolite.core.control_documents import SteeredFacts, facts_of
from theodolite.core.errors import UserError
from theodolite.core.plain import canonical, plain
from theodolite.core.run import Run
from theodolite.core.run_folder import MANIFEST
from theodolite.core.run_tables import ROW_COLUMNS
from theodolite.study.claim_rules import Figures, Regime, by_pooling, contradicted, regimes, verdict

RUNS = "runs"  # where `theodolite compare` writes
DEPTH = 3  # folders below a given one: runs/NAME, runs/KIND/NAME
_COLUMNS = ROW_COLUMNS.keys() - {"strength", "nats"}  # these two came later, and a Run of readers has none
_OF_THE_MODEL = ("model", "revision", "dtype")  # fields of a recipe in which two precisions of one model may differ


@dataclass(frozen=True)
class ClaimVerdict:
    """Verdict on one claim; `run` is None where no finished Run has its digest.

    regimes: the answers at the Run's own pooling. poolings: answers of regimes, by other pooling. other: the Run with
    the same model in another precision, and `others` its answers.
    """

    claim: Claim
    word: str
    run: Run | None = None
    regimes: Sequence[Regime] = ()
    poolings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    other: Run | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the claim, its word and every number behind it, as a page or the terminal shows them."""
        about = _about(self.other)
        found: dict[str, Any] = plain(
            self.claim.model_dump(exclude_none=True)
            | {"digest": self.claim.digest, "word": self.word, "run": _about(self.run)}
            | {"regimes": [regime.facts() for regime in self.regimes], "poolings": dict(self.poolings)}
            | {"other_precision": about and about | {"answers": dict(self.others)}}
        )
        return found


@dataclass(frozen=True)
class ClaimVerdicts:
    """Verdicts on claims, and the Run folders that could not be read, each with its reason.

    >>> [each.word for each in claims("one-latent-is-not-enough").verdicts]
    ['not yet run']
    """

    verdicts: list[ClaimVerdict]
    skipped: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Return all verdicts as JSON."""
        return {"claims": [each.to_json() for each in self.verdicts], "skipped": self.skipped}


def claims(name: str | None = None, runs: Sequence[str | Path] | str | Path = ()) -> ClaimVerdicts:
    """Verdicts on the claims that ship with the package, by the finished Runs in `runs/` and in given folders.

    name: one claim alone. runs: Run folders, or folders of them. Of several Runs of one recipe the last finished one
    counts. Damaged, unfinished and foreign ones are skipped, and listed with the reason.

    >>> import theodolite
    >>> len(theodolite.claims().verdicts) > 10
    True
    """
    wanted = [claim_file.load(each) for each in ([name] if name else claim_file.names())]
    wanted.sort(key=lambda claim: claim.area == "control")  # what is read comes before what is changed
    given = [runs] if isinstance(runs, str | Path) else list(runs)
    opened, skipped = _finished(_folders(given))
    tables: dict[str, Figures] = {}
    for run in list(opened):  # only the rows that some claim asks for are read
        if any(_answers(run, claim) or _same_question(run, claim, opened) for claim in wanted):
            try:
                tables[run.id] = _figures(run)
            except UserError as error:
                opened.remove(run)
                skipped.append(_skip(run.folder, str(error)))
    return ClaimVerdicts([judged(claim, opened, tables) for claim in wanted], skipped)


def judged(claim: Claim, opened: Sequence[Run], figures: Mapping[str, Figures]) -> ClaimVerdict:
    """Return the verdict on a claim; figures: those of Runs by their id."""
    run = _own(claim, opened)
    if run is None:
        return ClaimVerdict(claim, NOT_RUN)
    word, found = verdict(claim, figures[run.id])
    own = {regime.name: regime.answer for regime in found}
    poolings = by_pooling(claim, figures[run.id])
    other = next((each for each in opened if each.id in figures and _is_other_precision(run, each)), None)
    others = {r.name: r.answer for r in regimes(claim.rule, figures[other.id])} if other else {}
    # A doubt within the Run comes before one between two Runs
    if contradicted([own, *poolings.values()]):
        word = POOLING
    elif contradicted([own, others]):
        word = QUANTISATION
    return ClaimVerdict(claim, word, run, found, poolings, other, others)


def _figures(run: Run) -> Figures:
    """Return the figures of a Run, which has all columns that a rule looks at even if somebody else wrote it."""
    rows = run.rows
    if lacking := sorted(_COLUMNS - set(rows.columns)):
        raise UserError(f"its rows have no column {', '.join(lacking)}")
    dead = rows["metric"].astype(str).str.partition(":")[0].isin(_undecided_measures(run))
    return Figures.of(rows.assign(**{end: rows[end].mask(dead) for end in ("lo", "hi")}))


def _undecided_measures(run: Run) -> list[str]:
    """Return measures on written text whose classifier does not tell held-out texts: their intervals decide nothing."""
    if run.read_json("steering") is None:
        return []
    classifiers = facts_of(run, "steering", SteeredFacts)["classifiers"]
    return [f"effect_{one['name']}{kind}" for one in classifiers if not one["usable"] for kind in ("", "_sampled")]


def _own(claim: Claim, opened: Sequence[Run]) -> Run | None:
    """Return the Run that answers a claim: of several of its recipe, the last one finished."""
    return next((run for run in opened if _answers(run, claim)), None)


def _answers(run: Run, claim: Claim) -> bool:
    return claim.digest is not None and run.manifest["digest"] == claim.digest


def _same_question(run: Run, claim: Claim, opened: Sequence[Run]) -> bool:
    """Return whether a Run asks a claim's question of the same model in another precision."""
    own = _own(claim, opened)
    return own is not None and _is_other_precision(own, run)


def _is_other_precision(one: Run, other: Run) -> bool:
    """Return whether two Runs differ in the precision of the model and in nothing else that was asked for.

    A model is known by its shape and its chat template, because its weights and often its name are others.
    """
    models = [dict(run.facts.get("model") or {}) for run in (one, other)]
    if not all(models):
        return False
    shapes = [[model.get(k) for k in ("parameters", "n_blocks", "d_model", "template")] for model in models]
    precisions = [(model.get("quantisation") or "", model.get("dtype") or "") for model in models]
    return shapes[0] == shapes[1] and precisions[0] != precisions[1] and _apart(one) == _apart(other)


def _apart(run: Run) -> str:
    """Return the recipe of a Run without its model, as one text."""
    recipe = {name: value for name, value in run.recipe.items() if name not in _OF_THE_MODEL}
    pinned = recipe.get("files")
    files = (
        {name: of for name, of in pinned.items() if not name.startswith("model ")} if isinstance(pinned, dict) else {}
    )
    return canonical(recipe | {"files": files})


def _finished(folders: Sequence[Path]) -> tuple[list[Run], list[dict[str, str]]]:
    """Return the finished Runs, the last one first, and the folders that were skipped."""
    opened: dict[str, Run] = {}
    skipped = []
    for folder in folders:
        try:
            run = Run.open(folder)
        except (UserError, OSError) as error:
            skipped.append(_skip(folder, str(error)))
            continue
        if run.finished:
            opened.setdefault(run.id, run)  # a copy of a Run is that Run
        else:
            skipped.append(_skip(folder, "it is not finished: run its command again to continue it"))
    return sorted(opened.values(), key=lambda run: (run.manifest["finished"], run.id), reverse=True), skipped


def _folders(given: Sequence[str | Path]) -> list[Path]:
    """Return every folder with a manifest in `runs/` and in the given places."""
    places = [Path(each).expanduser() for each in given]
    for place in places:
        if not place.is_dir():
            raise UserError(f"no folder {str(place)!r}: give a Run folder, or a folder of Run folders")
    own = Path(RUNS)
    return list(dict.fromkeys(path for place in [own, *places] if place.is_dir() for path in _runs_in(place, DEPTH)))


def _runs_in(place: Path, depth: int) -> Iterator[Path]:
    """Yield the Run folders in a place and below it; nothing inside a Run is one, and no link is followed."""
    if (place / MANIFEST).exists():
        yield place
    elif depth:
        with os.scandir(place) as entries:
            below = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for name in below:
            yield from _runs_in(place / name, depth - 1)


def _skip(folder: Path, reason: str) -> dict[str, str]:
    return {"folder": str(folder), "reason": reason}


def _about(run: Run | None) -> dict[str, Any] | None:
    """Return what names a Run and its model."""
    if run is None:
        return None
    model = run.facts.get("model") or {}
    keys = ("name", "parameters", "quantisation", "dtype")
    return {"id": run.id, "finished": run.manifest["finished"], "model": {k: model.get(k) for k in keys}}
