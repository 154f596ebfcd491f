"""What a training run will take, from one small block and a few steps: the dry run of `theodolite train`."""

import time
from collections.abc import Sequence
from typing import Any

from theodolite.dictionaries.corpus import Corpus
from theodolite.dictionaries.stream import Stream
from theodolite.dictionaries.train import Plan, names

_COPIES = 3  # weights and Adam's two moments, float32


def estimate(model: Any, sites: Sequence[Any], corpus: Corpus, **options: Any) -> dict[str, Any]:
    """Tokens asked for and available, gigabytes and minutes of `train` with the same arguments; writes nothing."""
    plan = Plan(tuple(map(str, sites)), **options)
    stream = Stream(model, sites, corpus, plan.seed, min(plan.block_rows, 2 * plan.batch))
    begun = time.perf_counter()
    rows = stream.block().to(str(model.device))
    reading = (time.perf_counter() - begun) / len(rows)
    steps = sum(_seconds_per_row(plan, rows.at[plan.sites[0]], name.endswith(".twin")) for name in names(plan))
    block_bytes = plan.block_rows * sum(x.shape[1] * x.element_size() for x in rows.at.values())
    state_bytes = len(names(plan)) * _COPIES * 2 * plan.width * model.d_model * 4
    return {
        "tokens": plan.steps * plan.batch,
        "available_tokens": _available(stream),
        "dictionaries": len(names(plan)),
        "minutes": plan.tokens * (reading + steps) / 60,
        "minutes_reading": plan.tokens * reading / 60,
        "memory_gb": (2 * block_bytes + state_bytes) / 1e9,
        "checkpoint_gb": state_bytes / 1e9,
    }


def _available(stream: Stream) -> dict[str, int]:
    """Tokens in one pass over each part, as far as its first documents tell."""
    c, chars = stream.cursor, {part: sum(len(d.text) for d in documents) for part, documents in stream.parts.items()}
    return {part: round(chars[part] * c.rows[part] / c.chars[part]) for part in c.rows}


def _seconds_per_row(plan: Plan, x_nd: Any, twin: bool) -> float:
    """Of one dictionary's step, the second one timed: the first also draws the weights."""
    trial, batch = plan.untrained(x_nd.shape[1], twin=twin), x_nd[: plan.batch]
    float(trial.partial_fit(batch)["fvu"])
    begun = time.perf_counter()
    float(trial.partial_fit(batch)["fvu"])  # reading the loss waits for the device
    return (time.perf_counter() - begun) / len(batch)
