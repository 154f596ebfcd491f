"""Prompts per second of our harvest against plain transformers, in one run on a recipe's own prompts.

    python benchmarks/harvest.py [--recipe harmful-intent] [--prompts 400] [--rounds 2] [--clock wall|cpu] [--json]

Plain means: the whole model in float32, texts in the given order, batches of 32, `output_hidden_states=True`, the rows
of one middle block kept. Ours reads the same chat-formatted prompts through `harvest`, disk writing included, in
float32 and in bfloat16. Contestants take turns, so that a noisy machine hits all alike; the median round counts.
The bars are 7 (float32) and 12 (bfloat16, which runs only where the processor multiplies it); float32 rows must equal
the plain ones within 1e-4. On a machine that others use, `--clock cpu` counts the CPU seconds of one thread instead of
the wall's. All contestants work in this process, with as many threads as torch takes.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from theodolite.core.parallel import serial
from theodolite.core.positions import Role
from theodolite.core.recipe import load as load_recipe
from theodolite.core.site import Site
from theodolite.data.concept import load as load_concept
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
from theodolite.study.subjects import compute_dtype

BARS = {"float32": 7.0, "bfloat16": 12.0}
BATCH = 32


def main() -> None:
    """Time the contestants and print the ratios; exit 1 below a bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="harmful-intent")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.clock == "cpu":
        torch.set_num_threads(1)
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    recipe = load_recipe(options.recipe)
    texts = prompts(recipe, options.prompts)
    widths = [name for name in BARS if name in ("float32", compute_dtype("auto"))]
    models = {name: Model.from_pretrained(recipe.model, dtype=name) for name in widths}
    site = Site.from_hidden_states(models["float32"].n_blocks // 2, models["float32"].n_blocks)
    contestants: dict[str, Callable[[], Any]] = {"plain float32": lambda: plain(models["float32"], texts, site)}
    for name, model in models.items():
        contestants[f"ours {name}"] = lambda model=model: ours(model, texts, site)
    seconds, rows = race(contestants, options.rounds, clock)
    report = summary(texts, models["float32"], site, seconds, rows)
    print(json.dumps(report, indent=2) if options.json else table(report))
    sys.exit(0 if report["passed"] else 1)


def prompts(recipe: Any, n: int) -> list[str]:
    """n prompts spread evenly over the recipe's training mix, in its order."""
    texts = load_concept(recipe).train.frame["text"].tolist()
    return [texts[i] for i in np.linspace(0, len(texts) - 1, min(n, len(texts))).astype(int)]


@torch.no_grad()
def plain(model: Model, texts: list[str], site: Site) -> list[torch.Tensor]:
    """Rows of every token of every text, as one writes it with transformers alone."""
    tokenizer, module, index = model.tokenizer, model.network.module, site.to_hidden_states(model.n_blocks)
    rows: list[torch.Tensor] = []
    for start in range(0, len(texts), BATCH):
        chats = [[{"role": "user", "content": text}] for text in texts[start : start + BATCH]]
        rendered = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        batch = tokenizer(rendered, add_special_tokens=False, padding=True, return_tensors="pt")
        states = module(**batch, output_hidden_states=True).hidden_states[index]
        rows += [h[mask.bool()] for h, mask in zip(states, batch["attention_mask"], strict=True)]
    return rows


def ours(model: Model, texts: list[str], site: Site) -> dict[int, torch.Tensor]:
    """Content rows and the last token's of every text, and the pooled rows, through the store."""
    with tempfile.TemporaryDirectory() as folder:
        found = harvest(model, texts, f"{folder}/rows", HarvestPlan([site], [site]), map=serial)
        return {int(d): x[doc == d] for doc, _, x in found.tokens(site) for d in np.unique(doc)}


def race(
    contestants: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds and the last result of each, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            begun = clock()
            results[name] = contestant()
            seconds[name].append(clock() - begun)
    return {name: statistics.median(times) for name, times in seconds.items()}, results


def summary(
    texts: list[str], model: Model, site: Site, seconds: dict[str, float], rows: dict[str, Any]
) -> dict[str, Any]:
    """Speeds, ratios and differences against the plain rows of the same tokens."""
    tokens = model.tokens(texts)
    kept = [_stored(roles) for roles in tokens.roles]
    expected = torch.cat([x[keep[: len(x)]] for x, keep in zip(rows["plain float32"], kept, strict=True)])
    report: dict[str, Any] = {
        "prompts": len(texts),
        "tokens": int(tokens.mask.sum()),
        "site": str(site),
        "threads": torch.get_num_threads(),
        "prompts_per_second": {name: round(len(texts) / s, 2) for name, s in seconds.items()},
        "ratio": {},
        "difference": {},
    }
    for name in (name for name in BARS if f"ours {name}" in rows):
        found = torch.cat([rows[f"ours {name}"][i] for i in range(len(texts))]).float()
        report["ratio"][name] = round(seconds["plain float32"] / seconds[f"ours {name}"], 2)
        report["difference"][name] = float((found - expected).norm() / expected.norm())
    fast = all(ratio >= BARS[name] for name, ratio in report["ratio"].items())
    report["passed"] = fast and report["difference"]["float32"] <= 1e-4
    return report


def _stored(roles: torch.Tensor) -> torch.Tensor:
    """The tokens that `harvest` keeps: content and the last one."""
    keep = roles == Role.CONTENT
    keep[int((roles != Role.PAD).nonzero().max())] = True
    return keep


def table(report: dict[str, Any]) -> str:
    """The report as lines of text."""
    lines = [f"{report['prompts']} prompts, {report['tokens']} tokens, {report['site']}, {report['threads']} threads"]
    lines += [f"{name:16} {speed:8.1f} prompts/s" for name, speed in report["prompts_per_second"].items()]
    for name, ratio in report["ratio"].items():
        difference = report["difference"][name]
        lines.append(f"{name:16} {ratio:8.1f} x plain (bar {BARS[name]:g}), rows differ by {difference:.1e}")
    return "\n".join([*lines, "passed" if report["passed"] else "FAILED"])


if __name__ == "__main__":
    main()
