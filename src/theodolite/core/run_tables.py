"""The two tables of a Run: their columns and types, and their way to bytes."""

import io
import math

import pandas as pd

ROW_COLUMNS = {
    **dict.fromkeys(["run", "recipe", "model", "model_hash", "dictionary", "method", "params", "task"], "str"),
    **dict.fromkeys(["site", "positions", "pooling", "seed", "split", "dataset", "metric"], "str"),
    **dict.fromkeys(["value", "lo", "hi"], "float64"),  # NaN = unscored, never 0
    **dict.fromkeys(["n", "n_groups", "n_unscored"], "int64"),
    "versus": "str",  # the other method of a difference, else empty
    **dict.fromkeys(["n_fits", "tokens"], "int64"),
    **dict.fromkeys(["seconds", "peak_mb"], "float64"),
    # of an intervention: its signed strength in its own units, and the disturbance (nats per token) it was matched at
    **dict.fromkeys(["strength", "nats"], "float64"),
}
ADDED = ("strength", "nats")  # columns that earlier Runs of this protocol do not have
SCORE_COLUMNS = {
    **dict.fromkeys(["row", "hash", "group", "template", "request", "dataset", "split"], "str"),
    "label": "int64",
    **dict.fromkeys(["method", "site", "seed"], "str"),
    **dict.fromkeys(["score", "probability"], "float64"),
}
EMPTY = {"str": "", "int64": 0, "float64": math.nan}


def typed(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """The frame with exactly these columns; those it lacks are empty, 0 or NaN by their type."""
    assert set(frame.columns) <= columns.keys(), f"unknown columns {sorted(set(frame.columns) - columns.keys())}"
    values = {c: frame[c] if c in frame else EMPTY[kind] for c, kind in columns.items()}
    return pd.DataFrame(values, index=frame.index).astype(columns).reset_index(drop=True)


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a Run with the columns that its version did not have yet, NaN throughout.

    >>> completed(pd.DataFrame({"value": [0.5]})).columns.to_list()
    ['value', 'strength', 'nats']
    """
    return frame.assign(**{name: math.nan for name in ADDED if name not in frame})


def joined(frames: list[pd.DataFrame], columns: dict[str, str]) -> pd.DataFrame:
    """All rows in order; the right columns also when there are none."""
    return pd.concat(frames, ignore_index=True) if frames else typed(pd.DataFrame(), columns)


def parquet(frame: pd.DataFrame) -> bytes:
    """The content of a parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
