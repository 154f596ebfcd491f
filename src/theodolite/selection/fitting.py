"""Every selection rule on every reader and feature space, evaluated on rows that none of them was fitted on.

In one training set of the comparison, readers learn from `train`, which is also the support; they are the comparison's
own (`study.seed_fits` says what is shared, and why that is safe). Rules are fitted on `calibrate`; certificates use
one row per near-duplicate cluster of `certify`, which nothing else uses, except rules without a certificate, which
calibrate on both. All are then applied to the test rows and every shift.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.calibration.certified import Certified, expected_coverage
from theodolite.calibration.sdm import Sdm
from theodolite.core import methods
from theodolite.core.atomic import publish
from theodolite.core.calibrator import CALIBRATE, CERTIFY, TooFewRows
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.core.parallel import Map
from theodolite.core.sealed import Note, entry, facts_of, files_of, no_note, seal
from theodolite.core.tick import Tick
from theodolite.selection import rules, spaces
from theodolite.selection.protocol import BESIDE_SPACES, DELTA, READERS, SelectionCase
from theodolite.selection.rules import CONFIDENCES, GATED, PLAIN, WITH_SPACE, WITHOUT_SPACE
from theodolite.selection.saved import FILES, prediction_records, save_rule
from theodolite.selection.scored_rows import RuleInput, ScoredRows, rule_input
from theodolite.study.parallel import in_parallel
from theodolite.study.seed_fits import FitEntry
from theodolite.study.views import Views

Array = np.ndarray
CHOSEN = "chosen"  # the rule of the primary analysis
CACHE = "selection"  # the folder of the cache that holds one folder per case
RECORD, TABLES = "record.json", ("decisions", "predictions")


@dataclass(frozen=True)
class CaseResult:
    """Results of one case: every rule's decisions, the chosen rule's predictions, and the record of the choice.

    rule: files of the chosen rule, by name, for reading new texts; of the first training set only.
    """

    case: SelectionCase
    decisions: pd.DataFrame
    predictions: pd.DataFrame
    record: dict[str, Any]
    rule: dict[str, Path] = field(default_factory=dict)


def run(
    cases: Sequence[SelectionCase],
    fits: Mapping[str, FitEntry],
    views: Views,
    cache: Path,
    tick: Tick,
    note: Note = no_note,
    map: Map | None = None,  # noqa: A002 (the name of this seam)
) -> Iterator[CaseResult]:
    """Evaluate all cases, unfinished ones in parallel; finished ones are on disk, with the hashes of their files.

    fits: the comparison's entry of each reader. map: where the cases run (see `in_parallel`).
    """
    from joblib import delayed

    keys = {case: _key(case, views, fits[case.reader]) for case in cases}
    folders = {case: cache / key[:32] for case, key in keys.items()}
    waiting = [case for case in cases if entry(folders[case] / RECORD, keys[case], "selection", note) is None]
    here = Path.cwd()
    work = [delayed(_work)(case, views, fits[case.reader], keys[case], cache, here) for case in waiting]
    in_parallel(work, len(cases), tick, map)
    for case, folder in folders.items():
        decisions, predictions = (pd.read_parquet(folder / f"{name}.parquet") for name in TABLES)
        rule = files_of(folder / RECORD, keys[case], "rule")
        yield CaseResult(case, decisions, predictions, facts_of(folder / RECORD, keys[case]), rule)


def _key(case: SelectionCase, views: Views, fit: FitEntry) -> str:
    """Hash everything that the results of a case depend on; the start of the key names their folder."""
    method = methods.parse(case.reader)
    parts = {
        **asdict(case),
        "fit": fit.digest(case.seed),
        "code": code_hash(_work, Views, method.cls),
        "views": [views.key(view, case.site) for view in (method.view, "state", "latents")],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _work(case: SelectionCase, views: Views, fit: FitEntry, key: str, cache: Path, here: Path) -> None:
    os.chdir(here)  # as in fits
    folder = cache / key[:32]
    if _key(case, views, fit) != key:
        raise UserError("the program's code was edited while it ran: run the same command again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TooFewRows)  # counted in the record, and an error of the command
        found, chosen = _evaluate_case(ScoredRows(case, views, fit))
    if case.seed == 0:
        confidence = found.record["chosen"]["confidence"]
        choice = {"confidence": confidence, "level": case.level, "delta": case.delta(case.level)}
        choice["dictionary"] = views.dictionary("latents", case.site) if views.has("latents", case.site) else ""
        save_rule(folder / "rule", choice, chosen.space, chosen.spec, chosen.labelled)
    for name in TABLES:
        publish(folder / f"{name}.parquet", getattr(found, name).to_parquet(index=False))
    rule = [folder / "rule" / name for name in FILES] if case.seed == 0 else []
    seal(folder / RECORD, key, [*(folder / f"{name}.parquet" for name in TABLES), *rule], found.record)


class _CaseEvaluator:
    """Evaluation of every rule of one case: fitted, applied, and its decisions collected."""

    def __init__(self, scored: ScoredRows) -> None:
        case = scored.case
        names = spaces.names(scored.reader, scored.views.has("latents", case.site))
        self.scored, self.case = scored, case
        self.inputs = {name: rule_input(scored, name) for name in (names if case.reader in READERS else BESIDE_SPACES)}
        self.found: list[pd.DataFrame] = []

    def evaluate(self, rule: Any, name: str, space: str = "", alpha: float | None = None, chosen: bool = False) -> Any:
        """Fit a rule in a feature space (the state where it needs none) and collect its decisions under this name.

        The space of a chosen rule is not part of its name: another training set may choose another one.
        """
        data = self.inputs[space or "state"]
        fitted = data.labelled.fit(rule)
        about = {"rule": name, "space": "" if chosen else space, "alpha": alpha or self.case.level}
        self.found.append(_decisions(self.scored, fitted, data).assign(**about))
        return fitted

    def evaluate_all(self) -> list[dict[str, Any]]:
        """Evaluate every rule but the chosen one; return the options to choose among, by calibration rows alone."""
        level, spec = self.case.level, self.inputs["state"].spec
        for name, make in WITHOUT_SPACE.items():
            self.evaluate(make(spec, level), name)
        self.evaluate(rules.sgr(spec, level, DELTA), f"sgr({PLAIN})")
        self.evaluate(rules.certified(PLAIN, spec, level, DELTA), f"certified({PLAIN})")
        self.evaluate(rules.conditional_conformal(spec, level, self.case.seed), "conditional_conformal", "state")
        return [option for space in self.inputs for option in self._in_space(space)]

    def _in_space(self, space: str) -> list[dict[str, Any]]:
        data, level, options = self.inputs[space], self.case.level, []
        for name, make in WITH_SPACE.items():
            self.evaluate(make(data.spec, level), name, space)
        for name in (c for c in CONFIDENCES if c != PLAIN):
            rule = self.evaluate(rules.certified(name, data.spec, level, DELTA), f"certified({name})", space)
            if name in GATED:
                calibrate = rule.method_.predictions(*data.labelled.of(CALIBRATE))
                shares = {str(a): expected_coverage(calibrate, a, self.case.delta(a)) for a in self.case.alphas}
                options.append({"confidence": name, "space": space, "expected_coverage": shares})
        return options

    def evaluate_levels(self, best: dict[float, dict[str, Any]]) -> dict[float, Certified]:
        """Certify the option chosen for each level; at other levels also evaluate SDM's region and the softmax."""
        found = {}
        for alpha, option in best.items():
            space, spec = option["space"], self.inputs[option["space"]].spec
            rule = rules.certified(option["confidence"], spec, alpha, self.case.delta(alpha))
            found[alpha] = self.evaluate(rule, CHOSEN, space, alpha, chosen=True)
            if alpha != self.case.level:
                self.evaluate(CONFIDENCES["sdm"](spec, alpha), "sdm", space, alpha, chosen=True)
                self.evaluate(CONFIDENCES[PLAIN](spec, alpha), PLAIN, alpha=alpha)
        return found


def _evaluate_case(scored: ScoredRows) -> tuple[CaseResult, RuleInput]:
    """Evaluate all rules of one case; return the results and the input of the chosen rule."""
    evaluator, case = _CaseEvaluator(scored), scored.case
    options = evaluator.evaluate_all()
    best = {alpha: _best(options, str(alpha)) for alpha in case.alphas}
    chosen = evaluator.evaluate_levels(best)
    data = evaluator.inputs[best[case.level]["space"]]
    sdm: Sdm = data.labelled.without_certify().fit(CONFIDENCES["sdm"](data.spec, case.level))
    certify = data.labelled.of(CERTIFY)[1]
    record = {
        "chosen": best[case.level],
        "options": options,
        "by_alpha": {str(a): option for a, option in best.items()},
        "threshold": {str(a): r.threshold_ if np.isfinite(r.threshold_) else None for a, r in chosen.items()},
        "delta": {str(a): case.delta(a) for a in chosen},
        "certify": np.bincount(certify, minlength=2).tolist(),
        "sizes": {part: len(rows) for part, rows in scored.at.items()},
        "q_min": sdm.region_.q_min if sdm.region_ else None,
    }
    decisions = pd.concat(evaluator.found, ignore_index=True)
    return CaseResult(case, decisions, _predictions(scored, chosen[case.level], sdm, data), record), data


def _best(options: Sequence[dict[str, Any]], alpha: str) -> dict[str, Any]:
    """Return the option with the highest expected coverage at this level, the first among equals."""
    return max(options, key=lambda option: float(option["expected_coverage"][alpha]))


def _decisions(scored: ScoredRows, rule: Any, data: RuleInput) -> pd.DataFrame:
    """Return one row per target row, with its position `at`; signed: rank of the confidence, negative where wrong."""
    X, label = data.targets, scored.targets["label"].to_numpy()
    reason_n = rule.reasons(X)
    positive_n = rule.predict_proba(X)[:, 1]
    predicted_n = rule.predict(X)
    correct_n = (predicted_n == label).astype(np.float32)
    in_set_n = rule.sets(X)[np.arange(len(X)), label] if hasattr(rule, "sets") else np.full(len(X), np.nan)
    confidence_n = rule.confidence(X)
    rank_n = np.unique(confidence_n, return_inverse=True)[1] + 1.0
    columns = {
        "accepted": reason_n == "",
        "correct": correct_n,
        "probability": positive_n,
        "in_set": in_set_n,
        "signed": np.where(correct_n > 0, rank_n, -rank_n),
    }
    frame = pd.DataFrame({name: np.asarray(values, dtype=np.float32) for name, values in columns.items()})
    return frame.assign(predicted=predicted_n.astype(np.int8), at=np.arange(len(X), dtype=np.int32))


def _predictions(scored: ScoredRows, rule: Certified, sdm: Sdm, data: RuleInput) -> pd.DataFrame:
    """Return the chosen rule's prediction record of every target row."""
    found = prediction_records(rule, sdm, data.targets)
    columns = {name: getattr(found, name) for name in ("predicted", "probability", "confidence", "q", "d", "q_prime")}
    columns |= {"reason": found.reason.astype(str), "exemplars": [" ".join(map(str, ids)) for ids in found.exemplars]}
    return scored.targets.assign(method=scored.case.reader, seed=str(scored.case.seed), **columns)
