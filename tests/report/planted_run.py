"""Planted numbers for the report's tests: made up here, and nothing of it was measured."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

PRIMARY = "jailbreak-wrapped"
RECIPE: dict[str, Any] = {
    "name": "planted",
    "title": "Planted numbers",
    "question": "Who detects harmful intent in user prompts, in distribution and on new jailbreaks?",
    "positive": "harmful",
    "negative": "benign",
    "model": "smollm2-135m-instruct",
    "format": "chat",
    "max_tokens": 256,
    "site": "blocks.17.resid_post",
    "positions": "content",
    "pooling": "mean",
    "seeds": 5,
    "primary": PRIMARY,
    "sealed": "weighted-safety-refusal",
    "shifts": {
        PRIMARY: {"note": "held-out requests in held-out templates"},
        "jailbreakbench": {"note": ""},
        "health": {"note": ""},
        "toxicchat": {"note": "its label is toxicity, not intent"},
        "edgy": {"note": "", "over_refusal": True},
    },
    "contrasts": [
        {"method": "k_sparse@latents", "than": "logistic"},
        {"method": "difference_in_means", "than": "logistic"},
        {"method": "logistic@state+latents", "than": "logistic"},
    ],
    "few_shot": [["a secret example that must never be printed", 1]],
    "private": False,
}
# Planted AUROC on the left-out source; each data set takes its own amount off, text loses twice as much.
PLANTED = {
    "difference_in_means": 0.912,
    "lat": 0.843,
    "logistic": 0.951,
    "ridge": 0.948,
    "lda": 0.944,
    "mlp": 0.949,
    "k_sparse@latents": 0.921,
    "k_sparse(k=1)@latents": 0.741,
    "k_sparse(k=4)@latents": 0.842,
    "k_sparse(k=16)@latents": 0.903,
    "k_sparse(k=64)@latents": 0.924,
    "k_sparse(k=128)@latents": 0.931,
    "logistic@latents": 0.939,
    "difference_in_means@latents": 0.902,
    "logistic@reconstruction": 0.933,
    "logistic@error": 0.908,
    "k_sparse(k=1)@control": 0.702,
    "k_sparse(k=4)@control": 0.791,
    "k_sparse(k=16)@control": 0.868,
    "k_sparse(k=64)@control": 0.907,
    "k_sparse(k=128)@control": 0.916,
    "logistic@control": 0.932,
    "logistic@state+latents": 0.953,
    "word_ngrams": 0.934,
    "char_ngrams": 0.941,
    "length": 0.671,
    "sentence": 0.936,
    "embedding": 0.905,
    "prompting(column=zero_shot)": 0.582,
    "prompting(column=few_shot)": 0.611,
    "random_direction(draw=0)": 0.52,
    "random_direction(draw=1)": 0.44,
    "shuffled_labels": 0.503,
    "majority": 0.5,
}
LOSS = {
    "leave-one-source-out:rho": 0.0,
    "leave-one-source-out:rho vs edgy": 0.03,
    "in-distribution": -0.03,
    PRIMARY: 0.14,
    "jailbreakbench": 0.09,
    "health": 0.05,
    "toxicchat": 0.17,
}
TEXT = {"word_ngrams", "char_ngrams", "length"}
BASELINES = {
    **dict.fromkeys(TEXT, "text"),
    "sentence": "sentence",
    "embedding": "embedding",
    "prompting(column=zero_shot)": "answer",
    "prompting(column=few_shot)": "answer",
}
VIEWS = {m: BASELINES.get(m, m.partition("@")[2] or "state") for m in PLANTED}


def planted(method: str, dataset: str, metric: str = "auroc") -> float:
    """The AUROC this fixture claims."""
    loss = LOSS[dataset] * (2 if method in TEXT else 1) * min(1, (PLANTED[method] - 0.5) / 0.2)
    value = PLANTED[method] - loss + (0.04 if metric == "auroc_within_template" else 0)
    return min(value, 0.999)


def row(method: str, dataset: str, **more: Any) -> dict[str, Any]:
    more = {"metric": "auroc", "task": "matched", "site": "blocks.17.resid_post", "seed": "all"} | more
    value = more.pop("value") if "value" in more else planted(method, dataset, more["metric"])
    half = 0.012 if dataset == "in-distribution" else 0.034
    common = {
        "method": method,
        "dataset": dataset,
        "value": value,
        "lo": value - half,
        "hi": min(1, value + half),
        "split": "test" if dataset == "in-distribution" else "shift",
        "model": "smollm2-135m-instruct",
        "positions": "content",
        "pooling": "mean",
        "n": 412,
        "n_groups": 96,
        "n_fits": 37,
        "seconds": 12.34,
        "peak_mb": 512.0,
        "dictionary": "shipped",
    }
    return common | more


def rows() -> Iterator[dict[str, Any]]:
    for method in PLANTED:
        for dataset in LOSS:
            yield row(method, dataset)
        yield row(method, PRIMARY, metric="auroc_within_template")
        yield from (row(method, PRIMARY, metric=m, value=v) for m, v in OTHER.items())
        yield row(method, "edgy", metric="fpr@0.05", value=0.31 if method in TEXT else 0.18)
    for method in ["logistic", "k_sparse@latents", "difference_in_means", "word_ngrams"]:
        site = "" if method in TEXT else "blocks.21.resid_post"
        yield from (row(method, d, task="free", site=site, value=min(planted(method, d) + 0.011, 1.0)) for d in LOSS)
    for block in range(30):
        for method in ["difference_in_means", "lat", "logistic", "ridge"]:
            bend = 0.25 * (abs(block - 17) / 17) ** 2
            for dataset in ["leave-one-source-out:rho", PRIMARY]:
                site = f"blocks.{block}.resid_post"
                yield row(method, dataset, task="blocks", site=site, value=planted(method, dataset) - bend)
    for contrast, difference in zip(RECIPE["contrasts"], [-0.034, -0.008, 0.004], strict=True):
        yield row(
            contrast["method"],
            PRIMARY,
            task="contrast",
            versus=contrast["than"],
            value=difference,
            lo=difference - 0.02,
            hi=difference + 0.02,
        )


OTHER = {
    "average_precision": 0.812,
    "brier": 0.171,
    "ece": 0.063,
    "tpr@0.05": 0.41,
    "fpr@0.05": 0.072,
    "auroc_sd_rows": 0.012,
    "auroc_sd_seeds": 0.009,
    "auroc_sd_refits": 0.006,
    "auroc_spread": 0.007,
}


def scores(n: int = 60, sites: tuple[str, ...] = ("blocks.17.resid_post",), shift: float = 0.0) -> pd.DataFrame:
    """Five seeds of two methods on `n` wrapped requests; `shift` adds to the positive rows' scores."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    parts = []
    for method in ["logistic", "k_sparse@latents"]:
        base = rng.normal(size=n) + label * (1.5 if method == "logistic" else 1.0)
        for seed in range(5):
            score = base + rng.normal(size=n) * 0.1 + shift * label
            parts += [
                pd.DataFrame(
                    {
                        "row": [f"r{i}" for i in range(n)],
                        "hash": [f"{i:016x}" for i in range(n)],
                        "group": [f"g{i // 2}" for i in range(n)],
                        "template": [f"t{i % 6}" for i in range(n)],
                        "request": [f"q{i // 4}" for i in range(n)],
                        "dataset": PRIMARY,
                        "split": "shift",
                        "label": label,
                        "method": method,
                        "site": site,
                        "seed": str(seed),
                        "score": score,
                        "probability": 1 / (1 + np.exp(-score)),
                    }
                )
                for site in sites
            ]
    return pd.concat(parts, ignore_index=True)


def contrast(
    method: str, value: float, half: float, p_holm: float, p_equivalent: float, verdict: str, needs: dict[str, Any]
) -> dict[str, Any]:
    return {
        "method": method,
        "than": "logistic",
        "dataset": PRIMARY,
        "value": value,
        "lo": value - half,
        "hi": value + half,
        "p_holm": p_holm,
        "p_equivalent": p_equivalent,
        "verdict": verdict,
        "needs": needs,
        "level": planted(method, PRIMARY),
        "than_level": planted("logistic", PRIMARY),
        "n_seeds": 5,
        "n": 412,
        "n_groups": 96,
    }


NEEDS = {"code": "more", "rows": 1200, "groups": 280}
VERDICT: dict[str, Any] = {
    "dataset": PRIMARY,
    "read": {
        "site": "blocks.17.resid_post",
        "model": "smollm2-135m-instruct",
        "parameters": 134_515_008,
        "quantisation": "dequantised Q4_1",
        "dictionaries": 1,
        "width": 4096,
        "tokens": 2_050_000,
    },
    "contrasts": [
        contrast("k_sparse@latents", -0.034, 0.02, 0.0012, 0.91, "worse", {}),
        contrast("difference_in_means", -0.008, 0.02, 0.86, 0.118, "undecided", NEEDS),
        contrast("logistic@state+latents", 0.004, 0.015, 0.86, 0.031, "equivalent", {}),
    ],
    "notes": [{"code": "outside domain", "dictionary": "shipped", "fvu": {"health": 0.71}}],
}
CARD = {
    "tokens": 2_050_000,
    "width": 4096,
    "k": 32,
    "site": "blocks.17.resid_post",
    "seconds": 610.0,
    "fvu": {
        "documents": {"value": 0.213, "lo": 0.208, "hi": 0.219, "n": 40_000},
        "content": {"value": 0.291, "lo": 0.28, "hi": 0.302, "n": 31_000},
        "last": {"value": 2.41, "lo": 2.2, "hi": 2.63, "n": 1748},
    },
    "l0": 32.0,
    "dead_share": 0.041,
    "ce_recovered": 0.92,
    "learning_curve": [[250_000, 0.34], [500_000, 0.28], [1_000_000, 0.24], [2_050_000, 0.213]],
    "undertrained": True,
}
FACTS: dict[str, Any] = {
    "model": {
        "name": "smollm2-135m-instruct",
        "hash": "c0ffee" * 10,
        "quantisation": "dequantised Q4_1",
        "parameters": 134_515_008,
        "n_blocks": 30,
        "d_model": 576,
        "dtype": "bfloat16",
        "device": "cpu",
    },
    "views": VIEWS,
    "labels": 874,
    "protocol": {
        "shares": [0.5, 0.15, 0.15, 0.2],
        "configurations": 12,
        "folds": 3,
        "bootstrap": 2000,
        "margin": 0.02,
        "leak_cosine": 0.7,
    },
}

AUDIT: dict[str, Any] = {
    "overviews": [
        {
            "name": "train",
            "n": 1748,
            "n_positive": 938,
            "n_clusters": 1655,
            "n_requests": 1748,
            "n_templates": 0,
            "sources": {"rho": [150, 150], "advbench": [0, 300], "questions": [660, 0]},
            "licence": "MIT",
            "redistributable": True,
            "note": "",
            "lost": [{"dataset": "train", "cause": "duplicate", "n": 31}],
            "near": {"same_label_left": 0, "same_label_kept": 0, "other_label_left": 0, "other_label_kept": 0},
            "special": {},
            "n_special": 0,
        },
        {
            "name": PRIMARY,
            "n": 412,
            "n_positive": 206,
            "n_clusters": 96,
            "n_requests": 96,
            "n_templates": 24,
            "sources": {"jailbreakbench": [206, 206]},
            "licence": "CC-BY-NC-4.0",
            "redistributable": False,
            "note": "",
            "lost": [{"dataset": PRIMARY, "cause": "near a training row", "n": 27}],
            "near": {"same_label_left": 27, "same_label_kept": 0, "other_label_left": 0, "other_label_kept": 3},
            "special": {},
            "n_special": 0,
        },
    ],
    "baselines": [
        {
            "feature": feature,
            "fitted_on": fitted,
            "scored_on": scored,
            "auroc": value,
            "lo": value - 0.03,
            "hi": value + 0.03,
            "n": 412,
            "n_groups": 96,
        }
        for feature, gain in (("length", 0.0), ("surface", 0.1), ("words", 0.3), ("characters", 0.32))
        for fitted, scored, value in (("itself", "train", 0.655 + gain), ("train", PRIMARY, 0.512 + gain / 3))
    ],
    "shortcuts": {
        "shortcuts": [
            {
                "kind": "term",
                "name": "write a",
                "z": 14.21,
                "p": 0.002,
                "share_positive": 0.412,
                "share_negative": 0.013,
                "n": 388,
                "effect": 0.399,
            },
            {
                "kind": "source",
                "name": "advbench",
                "z": 11.0,
                "p": 0.002,
                "share_positive": 0.32,
                "share_negative": 0.0,
                "n": 300,
                "effect": 0.32,
            },
        ],
        "n_candidates": 812,
        "n_permutations": 500,
        "n_rows": 1655,
        "found": {"term": 1, "surface": 0, "characters": 0, "cluster": 0, "source": 1},
    },
}
