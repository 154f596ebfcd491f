"""Every number of the evaluation has a name, and the cost table shows only what a run records."""

import pandas as pd
from planted_run import PRIMARY, scores

from theodolite.comparison.evaluate import evaluate
from theodolite.core.run import Run
from theodolite.report import tables
from theodolite.report.sheet import Sheet


def test_every_metric_that_the_evaluation_yields_has_a_name() -> None:
    frame = scores(400)
    levels = {(PRIMARY, m, "blocks.17.resid_post", str(s)): {0.05: 1.0} for m in set(frame["method"]) for s in range(5)}
    rows = pd.DataFrame(evaluate(frame, thresholds=levels, n_boot=20).rows)
    found = set(rows["metric"])
    assert {"auroc_within_template", "auroc_averaged", "auroc_sd_refits", "tpr@0.05", "fpr@0.05", "ece"} <= found
    assert {metric for metric in found if "@" not in metric} == set(tables.METRICS)
    assert all("_" not in tables.metric_name(metric) for metric in found)


def test_costs_are_those_the_run_recorded(run: Run) -> None:
    table = tables.costs(Sheet(run), "Costs.")
    head = ["Method", "Fits", "Labels per fit", "Tokens read", "Time", "Peak memory, MB"]
    assert [value.words for value in table.head] == head
    logistic = next(line for line in table.lines if line.cells[0].words == "Logistic")
    assert [value.words for value in logistic.cells[1:]] == ["37", "874", "0", "12.3 s", "512"]


def test_metrics_and_the_parts_of_an_error_are_tables_of_their_own(run: Run) -> None:
    def titles(only: str) -> list[str]:
        table = tables.metrics(Sheet(run), "matched", PRIMARY, "", only)
        return [value.words for value in table.head[1:]] if table else []

    assert titles("(?!auroc)") == [
        "Average precision",
        "Brier score",
        "ECE",
        "TPR at 5 % FPR",
        "Realised FPR at 5 % FPR",
    ]
    assert titles("auroc") == [
        "Standard error, rows",
        "Standard error, training sets",
        "of which refits alone",
        "SD between training sets",
    ]
