"""Tokens per second of generation with 0, 1 and 20 vectors, relative to plain `transformers.generate`, in one run.

    OMP_NUM_THREADS=1 python benchmarks/steer.py [--model smollm2-135m-instruct] [--batches 1 16] [--repeats 7]

Every prompt has the same number of tokens and runs to `--tokens` new ones, greedy. The four ways take turns, so that
what else the machine does meets all of them; a ratio is the median over the turns, with an interval by resampling them.
Seconds are those of the process, which another process cannot lengthen much.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import GenerationConfig

from theodolite import Decoding, Intervention, Model

PROMPT = "The weather in the north of the country was"


def ways(model: Model, batch: int, tokens: int) -> dict[str, Callable[[], int]]:
    """What is compared: each returns how many tokens it wrote."""
    random = np.random.default_rng(0)
    sites = [f"blocks.{block % model.n_blocks}.resid_post" for block in range(20)]
    vectors = [random.normal(size=model.d_model).astype(np.float32) for _ in sites]
    changes = [Intervention.add(s, v / np.linalg.norm(v), 0.1) for s, v in zip(sites, vectors, strict=True)]
    # no text ends before `tokens`: a stop token that no text reaches is asked for on both sides
    network, prompts = model.network.module, [PROMPT] * batch
    ids = model.tokens(prompts, format="raw").ids
    settings = GenerationConfig(
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )

    def plain() -> int:
        with torch.no_grad():
            return (
                network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings).numel()
                - ids.numel()
            )

    def ours(n: int) -> Callable[[], int]:
        def ask() -> int:
            found = model.generations(prompts, Decoding(tokens), interventions=changes[:n], format="raw")
            return sum(len(one.ids) for one in found)

        return ask

    return {"transformers": plain} | {f"{n} vectors": ours(n) for n in (0, 1, 20)}


def main() -> None:
    """Print a line for each batch and way: the ratio of tokens per second, with its 95 % interval."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", default="smollm2-135m-instruct")
    asked.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    asked.add_argument("--tokens", type=int, default=24)
    asked.add_argument("--repeats", type=int, default=7)
    options = asked.parse_args()
    model, random = Model.from_pretrained(options.model), np.random.default_rng(0)
    for batch in options.batches:
        compared = ways(model, batch, options.tokens)
        rates: dict[str, list[float]] = {name: [] for name in compared}
        for turn in range(options.repeats + 1):
            for name, ask in compared.items():
                start = time.process_time()
                written = ask()
                if turn:  # the first warms up
                    rates[name].append(written / (time.process_time() - start))
        base = np.array(rates.pop("transformers"))
        print(f"batch {batch}: transformers.generate {np.median(base):.1f} tokens/s")
        for name, found in rates.items():
            ratios = np.array(found) / base
            medians = np.median(random.choice(ratios, (2000, len(ratios))), axis=1)
            low, high = np.quantile(medians, [0.025, 0.975])
            print(f"  {name:>10}: {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] of it")


if __name__ == "__main__":
    main()
