"""The chosen selection rule on disk: the labelled rows that it was fitted on, and how to fit it again.

Fitting is exact and takes a second, so nothing fitted is stored: `config.json` names the confidence, feature space and
levels, `rule.safetensors` holds rows and the space's arrays.
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
from theodolite.selection.rules import ColumnSpec

Array = np.ndarray
FORMAT = 2
WEIGHTS, CONFIG = "rule.safetensors", "config.json"
FILES = (WEIGHTS, CONFIG)
SAVED_RULES = "artefacts/selection_rules"  # in a run's folder, one rule of each method
PARTS = (SUPPORT, CALIBRATE, CERTIFY)
EXEMPLARS = 5  # whose ids are given with a prediction


@dataclass(frozen=True)
class LabelledRows:
    """The rows that rules are fitted on, (n, columns), with the label, part and id of each."""

    rows: Array
    label: Array
    part: Array
    ids: Array

    def of(self, part: str) -> tuple[Array, Array]:
        """Return rows and labels of one part."""
        return self.rows[self.part == part], self.label[self.part == part]

    def without_certify(self) -> "LabelledRows":
        """Return the rows that the confidence inside a certificate is fitted on."""
        rest = self.part != CERTIFY
        return LabelledRows(self.rows[rest], self.label[rest], self.part[rest], self.ids[rest])

    def fit(self, rule: Any) -> Any:
        """Return a fitted rule; one without a certificate calibrates on the certify rows too."""
        certifies = hasattr(rule, "delta")
        part = self.part if certifies else np.where(self.part == CERTIFY, CALIBRATE, self.part)
        return rule.fit(self.rows, self.label, part=part, ids=self.ids)


@dataclass(frozen=True)
class PredictionRecords:
    """Predictions of n rows by the chosen rule, with SDM's diagnostics; arrays of one entry per row.

    reason: why a prediction is rejected, "" where it is accepted. exemplars, labels, distances: ids of the nearest
    support rows, nearest first, their labels, and their distances, (n, 5).
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
    distances: Array


def prediction_records(rule: Any, sdm: Sdm, rows: Array) -> PredictionRecords:
    """Return the rule's predictions of rows, with SDM's diagnostics of them."""
    found = sdm.diagnose(rows)
    near = found.exemplars[:, :EXEMPLARS]
    return PredictionRecords(
        predicted=rule.predict(rows),
        probability=rule.predict_proba(rows)[:, 1],
        confidence=rule.confidence(rows),
        reason=rule.reasons(rows),
        q=found.q,
        d=found.d,
        q_prime=found.q_prime,
        exemplars=sdm.ids_[near],
        labels=sdm.labels_[near],
        distances=np.sqrt(found.distances[:, :EXEMPLARS]),
    )


def save_rule(
    folder: Path, choice: dict[str, Any], space: spaces.FeatureSpace, spec: ColumnSpec, labelled: LabelledRows
) -> None:
    """Write what a rule is fitted from. choice: confidence, level, delta, and the dictionary of its views."""
    arrays = {f"space.{name}": value for name, value in space.arrays.items()}
    arrays |= {"rows": labelled.rows, "label": labelled.label.astype(np.int64)}
    arrays["part"] = np.array([PARTS.index(p) for p in labelled.part], dtype=np.int64)
    config = {
        "format": FORMAT,
        "choice": choice,
        "ids": [str(i) for i in labelled.ids],
        "space": {"name": space.name, "site": space.site, "view": space.view, "blocks": list(space.blocks)},
        "columns": [spec.similarity.stop, spec.own_distance is not None],
    }
    publish(folder / WEIGHTS, save({n: np.ascontiguousarray(a) for n, a in arrays.items()}))
    publish(folder / CONFIG, json.dumps(config, indent=1).encode())


class SavedRule:
    """A selection rule fitted again from its folder."""

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / CONFIG, finite=True)
        if config.get("format") != FORMAT:
            raise UserError(
                f"{folder} has format {config.get('format')}, this version reads {FORMAT}: run `theodolite compare` "
                "again with --force"
            )
        arrays = load_file(folder / WEIGHTS)
        of_space = {name.removeprefix("space."): a for name, a in arrays.items() if name.startswith("space.")}
        about, (stop, has_distance) = config["space"], config["columns"]
        self.space = spaces.FeatureSpace(about["name"], about["site"], about["view"], tuple(about["blocks"]), of_space)
        self.choice = config["choice"]
        spec = ColumnSpec.of(stop - 1, has_distance)
        part = np.array(PARTS, dtype=object)[arrays["part"]]
        ids = np.array(config["ids"], dtype=object)
        labelled = LabelledRows(arrays["rows"], arrays["label"], part, ids)
        level = self.choice["level"]
        self.rule = labelled.fit(rules.certified(self.choice["confidence"], spec, level, self.choice["delta"]))
        self.sdm: Sdm = labelled.without_certify().fit(rules.CONFIDENCES["sdm"](spec, level))

    def predict(self, views: spaces.GetView, log_odds: Array) -> PredictionRecords:
        """Return the predictions of new rows. views: a function that returns a view of them at a site."""
        return prediction_records(self.rule, self.sdm, spaces.coordinates(self.space, views, log_odds))
