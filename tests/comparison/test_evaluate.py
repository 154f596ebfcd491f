from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite.comparison.evaluate import Asked, Evaluation, evaluate
from theodolite.core.metrics import auroc, brier
from theodolite.core.recipe import Contrast
from theodolite.core.run import ROW_COLUMNS, SCORE_COLUMNS
from theodolite.core.stats import HALVES
from theodolite.study.score_matrix import read_score_matrix

SITE = "blocks.3.resid_post"


def scored(
    dataset: str,
    methods: dict[str, float],
    n: int = 200,
    n_seeds: int = 5,
    split: str = "shift",
    templates: int = 0,
    noise: float = 0.2,
) -> pd.DataFrame:
    """Scores of methods that separate the classes by so many standard deviations, on rows in pairs of near-duplicates.

    Methods share most of their noise. split "test" gives every seed test rows of its own.
    """
    rng = np.random.default_rng(len(dataset))
    y = np.arange(n) // 2 % 2
    shared = rng.normal(size=n)
    frames = []
    for method, gap in methods.items():
        for seed in range(n_seeds):
            at = rng.permutation(n)[: n // 5] if split == "test" else np.arange(n)
            s = gap * y + shared + noise * rng.normal(size=n)
            frames.append(
                pd.DataFrame(
                    {
                        "row": [f"{dataset}-{i}" for i in at],
                        "hash": "0",
                        "group": (at // 2).astype(str),
                        "template": [f"t{i % templates}" if templates else "" for i in at],
                        "request": [f"r{i // 2}" for i in at],
                        "dataset": dataset,
                        "split": split,
                        "label": y[at],
                        "method": method,
                        "site": "" if method == "words" else SITE,
                        "seed": str(seed),
                        "score": s[at],
                        "probability": 1 / (1 + np.exp(-s[at])),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def table(evaluation: Evaluation) -> pd.DataFrame:
    return pd.DataFrame(evaluation.rows)


def one(evaluation: Evaluation, **where: Any) -> pd.Series:
    rows = table(evaluation)
    for column, value in ({"seed": "all", "versus": ""} | where).items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, f"{len(rows)} rows where {where}"
    return rows.iloc[0]


def test_rows_fit_the_run_and_values_are_the_metrics_of_the_seeds() -> None:
    frame = scored("jbb", {"a": 1.0})
    e = evaluate(frame, n_boot=200)
    assert set(table(e).columns) <= set(ROW_COLUMNS)
    by_seed = [g for _, g in frame.groupby("seed")]
    value = np.mean([auroc(g["label"].to_numpy(), g["score"].to_numpy()) for g in by_seed])
    row = one(e, metric="auroc", method="a", dataset="jbb")
    assert row["value"] == pytest.approx(value)
    assert row["lo"] < value < row["hi"]
    assert (row["n"], row["n_groups"], row["n_unscored"], row["task"], row["split"]) == (
        200,
        50,
        0,
        "matched",
        "shift",
    )
    seed = one(e, metric="auroc", seed="2")
    assert seed["value"] == pytest.approx(auroc(by_seed[2]["label"].to_numpy(), by_seed[2]["score"].to_numpy()))
    assert np.isnan(seed["lo"])
    expected = np.mean([brier(g["label"].to_numpy(), g["probability"].to_numpy()) for g in by_seed])
    assert one(e, metric="brier")["value"] == pytest.approx(expected)


def test_the_order_of_rows_changes_nothing() -> None:
    frame = scored("jbb", {"a": 1.0, "b": 0.5})
    mixed = frame.sample(frac=1, random_state=0)
    key = ["method", "seed", "metric"]
    first, second = (table(evaluate(f, n_boot=50)).sort_values(key).reset_index(drop=True) for f in (frame, mixed))
    pd.testing.assert_frame_equal(first, second)


def test_both_parts_of_the_error_are_printed() -> None:
    e = evaluate(scored("jbb", {"a": 1.0}), n_boot=200)
    parts = [one(e, metric=f"auroc_{part}")["value"] for part in ("sd_rows", "sd_seeds", "spread")]
    assert all(part > 0 for part in parts)
    assert parts[1] == pytest.approx(parts[2] * np.sqrt(1 / 5 + 1))


def test_few_seeds_are_points() -> None:
    row = one(evaluate(scored("jbb", {"a": 1.0}, n_seeds=4), n_boot=50), metric="auroc")
    assert row["value"] > 0.5
    assert np.isnan(row["lo"])


def test_wrapped_rows_vary_with_request_and_template() -> None:
    frame = scored("wrapped", {"a": 1.0}, templates=9)
    matrix = read_score_matrix("wrapped", frame, training=HALVES, n_boot=50, seed=0)
    assert [len(np.unique(g)) for g in matrix.sample.groups] == [
        100,
        9,
        200,
    ]  # requests, templates, and the cells where they meet
    frame["score"] += 10 * frame["template"].str[1:].astype(int)  # a template shifts every score
    e = evaluate(frame, n_boot=200)
    pooled, within = (one(e, metric=m) for m in ("auroc", "auroc_within_template"))
    assert pooled["n_groups"] == 9
    assert within["value"] > pooled["value"] + 0.1
    plain = evaluate(scored("jbb", {"a": 1.0}), n_boot=50)
    assert "auroc_within_template" not in set(table(plain)["metric"])


def test_unscored_rows_are_counted_and_absent_ones_too() -> None:
    frame = scored("jbb", {"a": 1.0, "b": 1.0})
    frame.loc[(frame["method"] == "a") & frame["row"].isin(["jbb-0", "jbb-1"]), "score"] = np.nan
    frame = frame[~((frame["method"] == "b") & (frame["row"] == "jbb-7") & (frame["seed"] == "0"))]
    e = evaluate(frame, Asked([Contrast(method="a", than="b")]), n_boot=50)
    a, b = (one(e, metric="auroc", method=m, task="matched") for m in "ab")
    assert (a["n"], a["n_unscored"]) == (198, 2)
    assert (b["n"], b["n_unscored"]) == (200, 1)
    both = one(e, metric="auroc", task="contrast", versus="b")
    assert (both["n"], both["n_unscored"]) == (198, 3)


def test_in_distribution_every_seed_keeps_its_own_test_rows() -> None:
    e = evaluate(scored("in-distribution", {"a": 1.0}, split="test"), n_boot=200)
    row = one(e, metric="auroc")
    assert 100 < row["n"] < 200
    assert row["n_unscored"] == 0
    assert "auroc_averaged" not in set(table(e)["metric"])  # seeds have few rows in common


def test_scores_averaged_over_seeds_are_a_point_beside_the_mean() -> None:
    frame = scored("jbb", {"a": 1.0})
    frame["score"] *= frame["seed"].map({"0": 1000.0, "1": 1, "2": 1, "3": 1, "4": 1})  # no common scale
    e = evaluate(frame, n_boot=50)
    averaged, mean = one(e, metric="auroc_averaged"), one(e, metric="auroc")
    assert averaged["value"] > mean["value"]  # an ensemble beats its members
    assert np.isnan(averaged["lo"])


def test_contrasts_are_paired_and_only_the_primary_ones_share_a_correction() -> None:
    methods = {"good": 1.1, "fair": 1.0, "poor": 0.0, "same": 1.0}
    frame = pd.concat([scored(name, methods, n=900, noise=0.05) for name in ("wrapped", "jbb")])
    pairs = [
        Contrast(method="poor", than="fair"),
        Contrast(method="same", than="fair"),
        Contrast(method="good", than="fair"),
        Contrast(method="absent", than="fair"),
    ]
    e = evaluate(frame, Asked(pairs, primary="wrapped"), n_boot=100)
    assert e.missing == [("absent", "fair")]
    assert {(c.dataset, c.primary) for c in e.contrasts} == {("wrapped", True), ("jbb", False)}
    verdict = {(c.dataset, c.method): c.verdict for c in e.contrasts}
    assert verdict["wrapped", "poor"].word == "worse"
    assert verdict["wrapped", "same"].word == "equivalent"
    row = one(e, task="contrast", method="poor", versus="fair", dataset="jbb", metric="auroc")
    assert row["value"] == pytest.approx(verdict["jbb", "poor"].difference.value)
    apart = one(e, method="poor", dataset="jbb", metric="auroc", task="matched")
    assert row["hi"] - row["lo"] < apart["hi"] - apart["lo"]  # shared noise cancels
    alone = evaluate(frame, Asked(pairs[2:3], primary="wrapped"), n_boot=100).contrasts[0].verdict
    assert verdict["wrapped", "good"].p_different > alone.p_different
    assert verdict["jbb", "good"].p_different < 1


def test_a_method_without_a_site_meets_the_other_at_every_site() -> None:
    frame = scored("jbb", {"a": 1.0, "words": 0.5})
    again = frame[frame["method"] == "a"].assign(site="blocks.5.resid_post")
    e = evaluate(
        pd.concat([frame, again]),
        Asked([Contrast(method="a", than="words"), Contrast(method="words", than="a")]),
        n_boot=50,
    )
    places = [("a", SITE), ("a", "blocks.5.resid_post"), ("words", SITE), ("words", "blocks.5.resid_post")]
    assert sorted((c.method, c.site) for c in e.contrasts) == sorted(places)
    value = {(c.method, c.site): c.verdict.difference.value for c in e.contrasts}
    assert value["a", SITE] == pytest.approx(-value["words", SITE])


def test_contrasts_with_and_without_a_site_are_one_family() -> None:
    frame = scored("jbb", {"a": 1.1, "b": 1.0, "words": 0.9, "more": 0.9})
    frame.loc[frame["method"] == "more", "site"] = ""
    pairs = [Contrast(method="a", than="b"), Contrast(method="more", than="words")]
    both = evaluate(frame, Asked(pairs, primary="jbb"), n_boot=50).contrasts
    single = [evaluate(frame, Asked([p], primary="jbb"), n_boot=50).contrasts[0] for p in pairs]
    smallest = min(c.verdict.p_different for c in single)
    assert min(c.verdict.p_different for c in both) == pytest.approx(min(1, 2 * smallest))


def test_rates_need_ten_false_alarms_and_a_threshold_for_every_seed() -> None:
    frame = pd.concat([scored("large", {"a": 1.0}, n=800), scored("small", {"a": 1.0}, n=200)])
    fixed = {(d, "a", SITE, str(s)): {0.05: 1.5 + 0.1 * s, 0.01: 3.0} for d in ("large", "small") for s in range(5)}
    e = evaluate(frame, thresholds=fixed, n_boot=200)
    assert set(table(e).query("metric.str.contains('@')")["dataset"]) == {"large"}
    assert "tpr@0.01" not in set(table(e)["metric"])  # 4 of 400 negatives
    tpr, fpr = (one(e, metric=f"{rate}@0.05") for rate in ("tpr", "fpr"))
    large = frame[frame["dataset"] == "large"]
    above = large["score"] > 1.5 + 0.1 * large["seed"].astype(int)
    assert tpr["value"] == pytest.approx(above[large["label"] == 1].mean())
    assert fpr["value"] == pytest.approx(above[large["label"] == 0].mean())
    assert (tpr["n"], fpr["n"], fpr["n_groups"]) == (400, 400, 200)
    del fixed["large", "a", SITE, "3"]
    assert not table(evaluate(frame, thresholds=fixed, n_boot=50))["metric"].str.contains("@").any()


def test_a_set_of_one_class_has_no_ranking() -> None:
    frame = scored("edgy", {"a": 1.0, "b": 1.0}, n=600).query("label == 0")
    fixed = {("edgy", m, SITE, str(s)): {0.05: 1.5} for m in "ab" for s in range(5)}
    e = evaluate(frame, Asked([Contrast(method="a", than="b")]), thresholds=fixed, n_boot=50)
    assert set(table(e)["metric"]) == {"brier", "ece", "fpr@0.05", "fpr@p>0.5"}
    assert e.contrasts == []


def test_no_probabilities_is_unscored_not_zero() -> None:
    e = evaluate(scored("jbb", {"a": 1.0}).assign(probability=np.nan), n_boot=50)
    row = one(e, metric="brier")
    assert np.isnan(row["value"])
    assert (row["n"], row["n_unscored"]) == (0, 200)


def test_columns_are_those_of_the_run() -> None:
    assert set(scored("jbb", {"a": 1.0}).columns) == set(SCORE_COLUMNS)


def test_no_scores_no_rows() -> None:
    empty = pd.DataFrame({c: pd.Series(dtype=k) for c, k in SCORE_COLUMNS.items()})
    assert evaluate(empty, Asked([Contrast(method="a", than="b")])) == Evaluation([], [], [("a", "b")])
