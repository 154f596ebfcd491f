"""When to rely on a reader: every judge over every reader and map, on rows that none of them has seen.

Of one training set of the comparison: readers learn from `train`, which is also the support; judges are set on
`calibrate`; certificates use one row per near-duplicate cluster of `certify`, and nothing else does, but for judges
without a certificate, which calibrate on both. All are then asked about the test rows and every shift.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.calibration.certified import Certified, preflight, promised
from theodolite.calibration.sdm import Sdm
from theodolite.core import methods
from theodolite.core.atomic import publish
from theodolite.core.calibrator import CALIBRATE, CERTIFY, TooFewRows
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.core.sealed import Note, entry, facts_of, files_of, no_note, seal
from theodolite.core.tick import Tick
from theodolite.selection import rules, spaces
from theodolite.selection.protocol import BESIDE_MAPS, DELTA, READERS, Case
from theodolite.selection.rules import CONFIDENCES, GATED, PLAIN, WITH_MAP, WITHOUT_MAP
from theodolite.selection.saved import FILES, keep, said
from theodolite.selection.scored_rows import Sighted, Table, table_of
from theodolite.study.parallel import in_parallel
from theodolite.study.views import Views

Array = np.ndarray
CHOSEN = "chosen"  # the judge of the primary analysis
RECORD, TABLES = "record.json", ("judgements", "detail")


@dataclass(frozen=True)
class Admitted:
    """What came of one case: judgements of rows, the chosen judge's in detail, and how it was chosen."""

    case: Case
    judgements: pd.DataFrame
    detail: pd.DataFrame
    record: dict[str, Any]


def run(cases: Sequence[Case], views: Views, cache: Path, tick: Tick, note: Note = no_note) -> Iterator[Admitted]:
    """Judge all cases, unfinished ones in parallel; each finished one is kept on disk, with the hashes of its files."""
    from joblib import delayed

    keys = {case: _key(case, views) for case in cases}
    folders = {case: cache / key[:32] for case, key in keys.items()}
    waiting = [case for case in cases if entry(folders[case] / RECORD, keys[case], "judgements", note) is None]
    here = Path.cwd()
    in_parallel([delayed(_work)(case, views, keys[case], cache, here) for case in waiting], len(cases), tick)
    for case, folder in folders.items():
        judgements, detail = (pd.read_parquet(folder / f"{name}.parquet") for name in TABLES)
        yield Admitted(case, judgements, detail, facts_of(folder / RECORD, keys[case]))


def judge_files(cache: Path, case: Case, views: Views) -> dict[str, Path]:
    """Files of the chosen judge of a case, by name, for reading new texts."""
    key = _key(case, views)
    return files_of(cache / key[:32] / RECORD, key, "judge")


def _key(case: Case, views: Views) -> str:
    """All that the judgements of a case depend on; its start names their folder."""
    method = methods.parse(case.reader)
    parts = {
        **asdict(case), "code": code_hash(_work, Views, method.cls),
        "views": [views.key(view, case.site) for view in (method.view, "state", "latents")],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _work(case: Case, views: Views, key: str, cache: Path, here: Path) -> None:
    os.chdir(here)  # as in fits
    folder = cache / key[:32]
    if _key(case, views) != key:
        raise UserError("the program's code was edited while it ran: run the same command again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TooFewRows)  # counted in the record, and an error of the command
        sighted = Sighted(case, views)
        found, detail, record, table = _judge(sighted)
    if case.seed == 0:
        choice = {"confidence": record["chosen"]["confidence"], "level": case.level, "delta": case.delta(case.level)}
        choice["dictionary"] = views.dictionary("latents", case.site) if views.has("latents", case.site) else ""
        keep(folder / "judge", choice, table.map, table.look, table.evidence)
    for name, table_of_name in zip(TABLES, (found, detail), strict=True):
        publish(folder / f"{name}.parquet", table_of_name.to_parquet(index=False))
    judge = [folder / "judge" / name for name in FILES] if case.seed == 0 else []
    seal(folder / RECORD, key, [*(folder / f"{name}.parquet" for name in TABLES), *judge], record)


class _Court:
    """The judges of one case: each is fitted, asked, and what it says is kept."""

    def __init__(self, sighted: Sighted) -> None:
        case = sighted.case
        names = spaces.names(sighted.reader, sighted.views.has("latents", case.site))
        self.sighted, self.case = sighted, case
        self.tables = {name: table_of(sighted, name) for name in (names if case.reader in READERS else BESIDE_MAPS)}
        self.found: list[pd.DataFrame] = []

    def hear(self, judge: Any, name: str, on: str = "", alpha: float | None = None, chosen: bool = False) -> Any:
        """Fit a judge on a map's rows (the state's where it needs none) and keep its judgements under this name.

        A map that was chosen is no part of the name: another training set may choose another.
        """
        table = self.tables[on or "state"]
        fitted = table.evidence.fit(judge)
        about = {"judge": name, "map": "" if chosen else on, "alpha": alpha or self.case.level}
        self.found.append(_judgements(self.sighted, fitted, table).assign(**about))
        return fitted

    def hear_all(self) -> list[dict[str, Any]]:
        """Every judge but the chosen one, map by map; what the gated confidences promise, by calibration rows alone."""
        level, look = self.case.level, self.tables["state"].look
        for name, make in WITHOUT_MAP.items():
            self.hear(make(look, level), name)
        self.hear(rules.sgr(look, level, DELTA), f"sgr({PLAIN})")
        self.hear(rules.certified(PLAIN, look, level, DELTA), f"certified({PLAIN})")
        self.hear(rules.conditional_conformal(look, level, self.case.seed), "conditional_conformal", "state")
        return [option for on in self.tables for option in self._of_map(on)]

    def _of_map(self, on: str) -> list[dict[str, Any]]:
        table, level, promises = self.tables[on], self.case.level, []
        for name, make in WITH_MAP.items():
            self.hear(make(table.look, level), name, on)
        for name in (c for c in CONFIDENCES if c != PLAIN):
            judge = self.hear(rules.certified(name, table.look, level, DELTA), f"certified({name})", on)
            if name in GATED:
                seen = judge.method_.judged(*table.evidence.of(CALIBRATE))
                shares = {str(a): promised(seen, a, self.case.delta(a)) for a in self.case.alphas}
                promises.append({"confidence": name, "map": on, "promised": shares})
        return promises

    def ladder(self, best: dict[float, dict[str, Any]]) -> dict[float, Certified]:
        """The confidence chosen for each level, certified; beside it, at the others, SDM's region and the softmax."""
        found = {}
        for alpha, option in best.items():
            on, look = option["map"], self.tables[option["map"]].look
            judge = rules.certified(option["confidence"], look, alpha, self.case.delta(alpha))
            found[alpha] = self.hear(judge, CHOSEN, on, alpha, chosen=True)
            if alpha != self.case.level:
                self.hear(CONFIDENCES["sdm"](look, alpha), "sdm", on, alpha, chosen=True)
                self.hear(CONFIDENCES[PLAIN](look, alpha), PLAIN, alpha=alpha)
        return found


def _judge(sighted: Sighted) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any], Table]:
    """All judges of one case; the chosen one in detail, the record of the choice, and the table it judges by."""
    court, case = _Court(sighted), sighted.case
    options = court.hear_all()
    best = {alpha: _best(options, str(alpha)) for alpha in case.alphas}
    chosen = court.ladder(best)
    table = court.tables[best[case.level]["map"]]
    sdm: Sdm = table.evidence.uncertified().fit(CONFIDENCES["sdm"](table.look, case.level))
    certify = table.evidence.of(CERTIFY)[1]
    record = {
        "chosen": best[case.level], "options": options, "by_alpha": {str(a): option for a, option in best.items()},
        "threshold": {str(a): j.threshold_ if np.isfinite(j.threshold_) else None for a, j in chosen.items()},
        "delta": {str(a): case.delta(a) for a in chosen},
        "preflight": preflight(certify, case.level, case.delta(case.level)),
        "certify": np.bincount(certify, minlength=2).tolist(),
        "sizes": {part: len(rows) for part, rows in sighted.at.items()},
        "q_min": sdm.region_.q_min if sdm.region_ else None,
    }  # fmt: skip
    return pd.concat(court.found, ignore_index=True), _detail(sighted, chosen[case.level], sdm, table), record, table


def _best(options: Sequence[dict[str, Any]], alpha: str) -> dict[str, Any]:
    """The option that promises most at this level, the first among equals."""
    return max(options, key=lambda option: float(option["promised"][alpha]))


def _judgements(sighted: Sighted, judge: Any, table: Table) -> pd.DataFrame:
    """One row per row that was asked about, `at` which place; signed: rank of the confidence, negative where wrong."""
    X, label = table.asked, sighted.asked["label"].to_numpy()
    reason_n = judge.reasons(X)
    positive_n = judge.predict_proba(X)[:, 1]
    predicted_n = judge.predict(X)
    right_n = (predicted_n == label).astype(np.float32)
    covered = judge.sets(X)[np.arange(len(X)), label] if hasattr(judge, "sets") else np.full(len(X), np.nan)
    confidence_n = judge.confidence(X)
    rank_n = np.unique(confidence_n, return_inverse=True)[1] + 1.0
    columns = {
        "admitted": reason_n == "", "right": right_n, "probability": positive_n, "covered": covered,
        "signed": np.where(right_n > 0, rank_n, -rank_n),
    }  # fmt: skip
    frame = pd.DataFrame({name: np.asarray(values, dtype=np.float32) for name, values in columns.items()})
    return frame.assign(predicted=predicted_n.astype(np.int8), at=np.arange(len(X), dtype=np.int32))


def _detail(sighted: Sighted, judge: Certified, sdm: Sdm, table: Table) -> pd.DataFrame:
    """What `theodolite` says of every prediction of the chosen judge."""
    found = said(judge, sdm, table.asked)
    columns = {name: getattr(found, name) for name in ("predicted", "probability", "confidence", "q", "d", "q_prime")}
    columns |= {"reason": found.reason.astype(str), "exemplars": [" ".join(map(str, ids)) for ids in found.exemplars]}
    return sighted.asked.assign(method=sighted.case.reader, seed=str(sighted.case.seed), **columns)
