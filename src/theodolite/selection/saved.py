"""The judge that a comparison chose, on disk: the labelled rows it was made from, and how to make it again.

Fitting is exact and takes a second, so nothing fitted is stored: `config.json` names the confidence, map and levels,
`judge.safetensors` holds rows and the map's arrays.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from theodolite.calibration.sdm import Sdm
from theodolite.core.atomic import publish, read_json
from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT
from theodolite.core.errors import UserError
from theodolite.selection import rules, spaces
from theodolite.selection.rules import Look

Array = np.ndarray
FORMAT = 1
FILES = ("judge.safetensors", "config.json")
JUDGES = "artefacts/judges"  # in a run's folder, one of each method
PARTS = (SUPPORT, CALIBRATE, CERTIFY)
EXEMPLARS = 5  # whose ids are given with a prediction


@dataclass(frozen=True)
class Evidence:
    """Labelled rows as judges see them, and what each is for."""

    rows: Array
    label: Array
    part: Array
    ids: Array

    def of(self, part: str) -> tuple[Array, Array]:
        """Rows and labels of one part."""
        return self.rows[self.part == part], self.label[self.part == part]

    def uncertified(self) -> "Evidence":
        """Without the certify part: what a certificate's own method is made from."""
        kept = self.part != CERTIFY
        return Evidence(self.rows[kept], self.label[kept], self.part[kept], self.ids[kept])

    def fit(self, judge: Any) -> Any:
        """The judge, fitted: the certify part chooses certified thresholds, and is more to calibrate on otherwise."""
        certifies = hasattr(judge, "delta")
        part = self.part if certifies else np.where(self.part == CERTIFY, CALIBRATE, self.part)
        return judge.fit(self.rows, self.label, part=part, ids=self.ids)


@dataclass(frozen=True)
class Said:
    """What is said of each row; arrays.

    exemplars, labels, apart: ids of the nearest support rows, nearest first, their labels and how far they are, (n, 5).
    """

    predicted: Array
    probability: Array
    confidence: Array
    reason: Array
    q: Array
    d: Array
    q_prime: Array
    exemplars: Array
    labels: Array
    apart: Array


def said(judge: Any, sdm: Sdm, rows: Array) -> Said:
    """The chosen judge's word on rows, with what SDM sees there."""
    seen = sdm.sight(rows)
    near = seen.exemplars[:, :EXEMPLARS]
    return Said(
        judge.predict(rows), judge.predict_proba(rows)[:, 1], judge.confidence(rows), judge.reasons(rows),
        seen.q, seen.d, seen.q_prime, sdm.ids_[near], sdm.labels_[near], np.sqrt(seen.distances[:, :EXEMPLARS]),
    )  # fmt: skip


def keep(folder: Path, choice: dict[str, Any], fitted: spaces.Map, look: Look, evidence: Evidence) -> None:
    """Write what makes the judge; choice: confidence, level, delta, and the dictionary of its views."""
    arrays = {f"map.{name}": value for name, value in fitted.arrays.items()}
    arrays |= {"rows": evidence.rows, "label": evidence.label.astype(np.int64)}
    arrays["part"] = np.array([PARTS.index(p) for p in evidence.part], dtype=np.int64)
    config = {
        "format": FORMAT, "choice": choice, "ids": [str(i) for i in evidence.ids],
        "map": {"name": fitted.name, "site": fitted.site, "view": fitted.view, "blocks": list(fitted.blocks)},
        "look": [look.near.stop, look.far is not None],
    }  # fmt: skip
    publish(folder / "judge.safetensors", save({n: np.ascontiguousarray(a) for n, a in arrays.items()}))
    publish(folder / "config.json", json.dumps(config, indent=1).encode())


class Kept:
    """A judge made again from its folder."""

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / "config.json", finite=True)
        if config.get("format") != FORMAT:
            raise UserError(f"{folder} has format {config.get('format')}, this version reads {FORMAT}")
        arrays = load_file(folder / "judge.safetensors")
        of_map = {name.removeprefix("map."): a for name, a in arrays.items() if name.startswith("map.")}
        about, (stop, has_far) = config["map"], config["look"]
        self.map = spaces.Map(about["name"], about["site"], about["view"], tuple(about["blocks"]), of_map)
        self.choice = config["choice"]
        look = Look.of(stop - 1, has_far)
        part = np.array(PARTS, dtype=object)[arrays["part"]]
        ids = np.array(config["ids"], dtype=object)
        evidence = Evidence(arrays["rows"], arrays["label"], part, ids)
        level = self.choice["level"]
        self.judge = evidence.fit(rules.certified(self.choice["confidence"], look, level, self.choice["delta"]))
        self.sdm: Sdm = evidence.uncertified().fit(rules.CONFIDENCES["sdm"](look, level))

    def say(self, rows: spaces.Rows, log_odds: Array) -> Said:
        """Judge new rows, whose views a function gives."""
        return said(self.judge, self.sdm, spaces.coordinates(self.map, rows, log_odds))
