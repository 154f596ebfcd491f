"""Needs of a training run, from one small block and a few steps: the dry run of `theodolite train`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from theodolite.core.language_model import LanguageModel
from theodolite.dictionaries.training.allocator import keep_freed_memory
from theodolite.dictionaries.training.corpus import Corpus
from theodolite.dictionaries.training.material import Texts
from theodolite.dictionaries.training.plan import Member, TrainingPlan, kind
from theodolite.dictionaries.training.stored import StoredRows
from theodolite.dictionaries.training.stream import Rows, concatenate
from theodolite.dictionaries.training.train import FIRST, material_of

TRIAL = 4  # texts on which a pass for the cross-entropy is timed
TRIAL_ROWS = 512  # rows that are read twice, the second time timed: seconds, where a whole block takes a minute
_NOISE = 1e-3  # of a row, added where rows stand in for the many that a step needs: equal ones have no clusters


@dataclass(frozen=True)
class _Cost:
    """Cost of one dictionary: seconds per row learnt and coded; bytes of its state, gradients and finished file."""

    seconds: float
    coding: float
    state: int
    gradients: int
    file: int


def estimate(
    model: LanguageModel,
    sites: Sequence[Any],
    rows: Corpus | StoredRows,
    *,
    batch_tokens: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Tokens asked for and available, gigabytes and minutes of `train` with the same arguments; writes nothing."""
    keep_freed_memory()  # as `train` does: half of a dense step can be page faults
    material, plan = material_of(model, rows, batch_tokens), TrainingPlan(tuple(map(str, sites)), **options)
    members = plan.members(material.check(plan.reads))
    stream = material.stream(plan.reads, plan.seed, min(plan.block, TRIAL_ROWS))
    first = stream.block()  # warms up
    begun = time.perf_counter()
    second = stream.block().to(material.device)
    reading = (time.perf_counter() - begun) / len(second)
    block = _many(concatenate([first.to(material.device), second]), min(plan.block, max(2 * plan.batch, FIRST)))
    known: dict[Any, _Cost] = {}  # seeds and sites of one kind cost the same
    costs = [_cost_once(known, member, plan, block) for member in members.values()]
    tokens, held_out = plan.steps * plan.batch, material.n_held_out(plan.seed)
    steps, block_bytes = sum(c.seconds for c in costs), plan.block * _bytes(block.at) // len(block)
    states = sum(c.state for c in costs)
    measuring = held_out * (reading + sum(c.coding for c in costs))
    measuring += _seconds_of_cross_entropy(material, plan, [*members.values()]) if isinstance(material, Texts) else 0
    return {
        "tokens": tokens,
        "available_tokens": stream.available(),
        "times_read": {part: round(stream.shares[part] * tokens / n, 2) for part, n in stream.available().items()},
        "dictionaries": len(members),
        "minutes": (plan.tokens * (reading + steps) + measuring) / 60,
        "minutes_reading": plan.tokens * reading / 60,
        "minutes_measuring": measuring / 60,
        # a block and, while it is put together, its copy; of gradients only one dictionary's are there at a time
        "memory_gb": (2 * block_bytes + states + max(c.gradients for c in costs)) / 1e9,
        "checkpoint_gb": (states + _carried(block, plan)) / 1e9,
        # the last checkpoint stays until the next one is whole
        "disk_gb": (2 * (states + _carried(block, plan)) + sum(c.file for c in costs)) / 1e9,
        "device": material.device,
        "rests_on": f"{len(second)} rows read, one step and one coding of each kind of dictionary timed",
    }


def _many(rows: Rows, n: int) -> Rows:
    """At least n rows out of few: copies with a little noise, on which a step takes as long as on rows of their own."""
    again = torch.arange(max(n, len(rows)), device=rows.domain.device) % len(rows)
    found = rows.take(again)
    draw = torch.Generator().manual_seed(0)
    noisy = {
        site: x + _NOISE * x.float().std().to(x.dtype) * torch.randn(x.shape, generator=draw).to(x)
        for site, x in found.at.items()
    }
    return replace(found, at=noisy)


def _cost_once(known: dict[Any, _Cost], member: Member, plan: TrainingPlan, block: Rows) -> _Cost:
    key = (str(member.spec), member.frozen)
    if key not in known:
        known[key] = _cost(member, plan, block)
    return known[key]


def _cost(member: Member, plan: TrainingPlan, block: Rows) -> _Cost:
    """Cost from two steps, the second one timed."""
    d_model = next(iter(block.at.values())).shape[1]
    trial = member.learner(d_model, plan.steps)
    trial.start(*member.inputs({site: x[:FIRST] for site, x in block.at.items()}))
    inputs = member.inputs({site: x[: plan.batch] for site, x in block.at.items()})
    float(trial.partial_fit(*inputs)["fvu"])
    begun = time.perf_counter()
    float(trial.partial_fit(*inputs)["fvu"])  # reading the loss waits for the device
    seconds = (time.perf_counter() - begun) / len(inputs[0])
    so_far, begun = trial.dictionary(), time.perf_counter()
    so_far.fvu(*inputs)
    coding = (time.perf_counter() - begun) / len(inputs[0])
    weights = _bytes(trial.parameters_)
    return _Cost(seconds, coding, _bytes(trial.state()), weights, weights // 2)


def _seconds_of_cross_entropy(texts: Texts, plan: TrainingPlan, members: Sequence[Member]) -> float:
    """Seconds of `metrics.ce_recovered` for all: untouched and zeroed once per site, a pass per dictionary."""
    sites = [member.site for member in members if kind(member.site) == "one"]
    if not sites:
        return 0.0
    texts_read = texts.main_texts(plan.seed)
    for _ in ("to warm up", "timed"):
        begun = time.perf_counter()
        texts.cross_entropy_of(sites[0], texts_read[:TRIAL], plan.seed)(None)
    seconds = (time.perf_counter() - begun) / len(texts_read[:TRIAL]) * len(texts_read)
    return (2 * len(set(sites)) + len(sites)) * seconds


def _carried(block: Rows, plan: TrainingPlan) -> int:
    """The rows that do not fill a batch: a checkpoint holds up to a batch of them."""
    return plan.batch * _bytes(block.at) // len(block)


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())
