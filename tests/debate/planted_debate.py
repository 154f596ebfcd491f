"""Planted Runs of readers and of control: made up here, with no model, in the files that real Runs have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core.run import Run

METHODS = ["difference_in_means", "logistic", "latent", "latent_set", "frozen_encoder_latent_set", "prompt"]
LABELS = ["difference_in_means", "logistic", "k_sparse(k=1)@latents", "k_sparse@latents", "k_sparse@control"]
LABELS += ["prompting(column=zero_shot)"]
SITE = "blocks.1.resid_post"
MODEL = {"name": "planted", "hash": "c0ffee" * 10, "quantisation": "dequantised Q4_1", "parameters": 134_515_008}


def reading(
    folder: Path, skill: Sequence[float], n: int = 120, seeds: int = 5, noise: float = 0.3, seed: int = 0
) -> Run:
    """A finished reading Run in which method k separates the classes by `skill[k]` standard deviations, on one shift.

    Methods share most of a text's score, as readers of one state do; seeds differ by little.
    """
    rng, label = np.random.default_rng(seed), np.arange(n) % 2
    recipe = {"name": "reading/planted", "kind": "compare", "site": SITE}
    run = Run.create(folder, recipe, f"{seed:064x}")
    run.record("model", MODEL)
    text, parts = rng.normal(size=n), []
    for name, by in zip(LABELS, skill, strict=True):
        own = text + noise * rng.normal(size=n) + by * label
        for number in range(seeds):
            score = own + 0.05 * rng.normal(size=n)
            parts.append(_scores(score, label, n).assign(method=name, seed=str(number), site=SITE))
    beside = _scores(rng.normal(size=n), label, n).assign(method="word_ngrams", seed="0", site="")
    run.add_scores(pd.concat([*parts, beside], ignore_index=True))
    run.add_rows([{"task": "matched", "metric": "auroc", "value": 0.5}])
    run.finish()
    return run


def steering(
    folder: Path, effect: Sequence[float], n: int = 100, noise: float = 0.5, seed: int = 0, usable: bool = True
) -> Run:
    """A finished steering Run in which method k moves each opening by `effect[k]` and noise; `logit_bias` by 1.

    The last method's strength was matched on one side alone where its effect is NaN.
    """
    rng = np.random.default_rng(seed + 1000)
    recipe = {"name": "steer/planted", "kind": "steer", "site": SITE}
    run = Run.create(folder, recipe, f"{seed:064x}")
    run.record("model", MODEL)
    opening, parts = rng.normal(size=n), []
    names = [*METHODS, "logit_bias"]
    for name, by in zip(names, [*effect, 1.0], strict=True):
        for metric in ("effect_ngrams", "effect_sentence", "effect_targets"):
            for split, sign in (("+", 1), ("-", -1)):
                if np.isnan(by) and split == "-":
                    continue
                moved = sign * (np.nan_to_num(by) + noise * (opening + rng.normal(size=n)))
                about = {"method": name, "metric": metric, "split": split, "site": SITE, "seed": 0}
                parts.append(
                    pd.DataFrame({"row": [f"{i:08x}" for i in range(n)], "group": [str(i) for i in range(n)]}).assign(
                        effect=moved, nats=0.1, strength=float(sign), **about
                    )
                )
    run.write_table("effects", pd.concat(parts, ignore_index=True))
    classifiers = [{"name": name, "usable": usable} for name in ("ngrams", "sentence")]
    facts: dict[str, Any] = {
        "primary": 0.1,
        "classifiers": classifiers,
        "methods": {m: {"spent": [1.0]} for m in names},
    }
    run.write_json("steering", facts)
    run.add_rows([{"task": "steer", "metric": "kl", "value": 0.1}])
    run.finish()
    return run


def _scores(score: Any, label: Any, n: int) -> pd.DataFrame:
    ids = [f"{i:06d}" for i in range(n)]
    about = {"template": "", "request": "", "dataset": "other-genre", "split": "shift", "probability": np.nan}
    return pd.DataFrame({"row": ids, "hash": ids, "group": [f"g{i // 2}" for i in range(n)], "label": label}).assign(
        score=score, **about
    )
