"""Cost of interventions, in one run: tokens per second of generation, and passes that a calibration takes.

    OMP_NUM_THREADS=1 python benchmarks/steer.py [--model smollm2-135m-instruct] [--batches 1 16] [--turns 7]

Generation with 0, 1 and 20 vectors is compared with plain `transformers.generate`, and with repeng and
steering-vectors where they can be imported (`pip install --no-deps repeng==0.4.0 steering-vectors==0.12.2`). Every
prompt has the same number of tokens and runs to `--tokens` new ones, greedy. The ways take turns, in one order and then
in the other, so that what else the machine does meets all of them; a ratio is the median over the turns, with an
interval by resampling them. Seconds are those of the process, which another process cannot lengthen much.

Calibration: three levels and both signs of a difference in means, then random directions at .1 nat, in forward passes
over the texts. What is shared by all methods (the clean pass, the states before the site) is counted by itself.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from theodolite import Decoding, Intervention, Model
from theodolite.control.calibrate import Curve, calibrate, calibrate_levels
from theodolite.control.control import VectorControl
from theodolite.control.neutral_texts import neutral_texts
from theodolite.control.nulls import random_directions
from theodolite.control.passes import Passes
from theodolite.control.steer_request import SteerRequest
from theodolite.control.toward import resolve

PROMPT = "The weather in the north of the country was"
STRENGTH = 0.1
COUNTS = (0, 1, 20)
Way = Callable[[], list[list[int]]]  # the new tokens of each prompt


def ways(model: Model, batch: int, tokens: int) -> dict[str, Way]:
    """Return the ways that are compared; each writes `tokens` tokens behind each of `batch` prompts."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(COUNTS[-1], model.d_model)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    changes = [Intervention.add(f"blocks.{i}.resid_post", vector, STRENGTH) for i, vector in enumerate(vectors)]
    network, prompts = model.network.module, [PROMPT] * batch
    ids = model.tokens(prompts, format="raw").ids
    # no text ends before its last token: without a stop token on one side, with a check on the other
    settings = GenerationConfig(
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
    )

    def plain() -> list[list[int]]:
        with torch.no_grad():
            written = network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        return written[:, ids.shape[1] :].tolist()

    def ours(n: int) -> Way:
        def ask() -> list[list[int]]:
            found = model.generations(prompts, Decoding(tokens), interventions=changes[:n], format="raw")
            return [one.ids for one in found]

        return ask

    pushes = {i: torch.from_numpy(STRENGTH * vector) for i, vector in enumerate(vectors)}
    found = {"transformers": plain} | {f"theodolite {n}": ours(n) for n in COUNTS}
    for n in COUNTS[1:]:
        found |= peers(network, plain, dict(list(pushes.items())[:n]))
    return found


def peers(network: Any, plain: Way, pushes: dict[int, torch.Tensor]) -> dict[str, Way]:
    """Return generation with vectors after blocks by the libraries that can be imported."""
    found: dict[str, Way] = {}
    with suppress(ImportError):
        if not hasattr(np, "float_"):
            setattr(np, "float_", np.float64)  # noqa: B010 (repeng 0.4.0 names what NumPy 2 has dropped)
        from repeng import ControlModel

        def repeng() -> list[list[int]]:
            control = ControlModel(network, list(pushes))  # replaces blocks of the network, until `unwrap`
            try:
                control.set_raw_control(pushes)
                return plain()
            finally:
                control.unwrap()

        found[f"repeng {len(pushes)}"] = repeng
    with suppress(ImportError):
        from steering_vectors import SteeringVector

        def steering_vectors() -> list[list[int]]:
            with SteeringVector(layer_activations=pushes).apply(network):
                return plain()

        found[f"steering-vectors {len(pushes)}"] = steering_vectors
    return found


def speed(model: Model, batch: int, tokens: int, turns: int) -> None:
    """Print tokens per second of each way, relative to plain generation, with its 95 % interval."""
    compared, random = ways(model, batch, tokens), np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    texts: dict[str, list[list[int]]] = {}
    for turn in range(turns + 1):
        for name in list(compared)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            written = compared[name]()
            seconds[name].append(time.process_time() - start)
            assert all(len(row) == tokens for row in written), f"{name} ended a text early: take another prompt"
            texts[name] = written
    base = np.array(seconds.pop("transformers")[1:])  # the first turn warms up
    rate = batch * tokens / np.median(base)
    print(f"batch {batch}, {tokens} tokens, {turns} turns: transformers.generate {rate:.1f} tokens/s")
    for name, found in seconds.items():
        ratios = base / np.array(found[1:])
        medians = np.median(random.choice(ratios, (4000, len(ratios))), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        same = texts[name] == texts[twin] if (twin := f"theodolite {name.split()[-1]}") in texts else True
        remark = "" if same else "  (writes other tokens than ours)"
        print(f"  {name:>19}: {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] of it{remark}", flush=True)
    plain, none = texts["transformers"], texts["theodolite 0"]
    assert plain == none, "without a vector the texts of both must be the same"


def calibration(model: Model, n_texts: int, draws: int, site: str) -> None:
    """Print how many passes the calibration of a method takes, and that of random directions."""
    source = SteerRequest(PROMPT, "sentiment", method="difference_in_means", site=site)
    control = resolve(source).fit(model, source).control
    passes = Passes.of(model, neutral_texts("sentiment", n_texts))
    passes.starts(model.site(site).block or 0)  # once for all methods: not part of the seconds of one
    start = time.process_time()
    found = calibrate_levels(control, passes)
    spent, seconds = passes.spent, time.process_time() - start
    print(f"calibration at {site}, {n_texts} texts: {passes.shared:.2f} forward passes are shared by all methods")
    print(
        f"  difference in means, 3 levels, both signs: {spent:.2f} passes, "
        f"{sum(one.n_evaluations for one in found)} evaluations, {seconds:.1f} s, "
        f"{sum(one.reached for one in found)} of {len(found)} reached"
    )
    costs, reached, start = [], 0, time.process_time()
    for vector in random_directions(torch.cat(passes.states(model.site(site))).numpy(), draws):
        draw = VectorControl(model, "random", model.site(site), vector, control.cap)
        one = calibrate(Curve(draw, passes), 0.1)
        costs.append(one.spent)
        reached += one.reached
    seconds = (time.process_time() - start) / draws
    print(
        f"  random directions, .1 nat: {np.mean(costs):.2f} passes a draw (at most {max(costs):.2f}), {seconds:.1f} s, "
        f"{reached} of {draws} reached"
    )


def main() -> None:
    """Print the speed for each batch size, then the cost of calibration."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", default="smollm2-135m-instruct")
    asked.add_argument("--batches", type=int, nargs="*", default=[1, 16])
    asked.add_argument("--tokens", type=int, default=16)
    asked.add_argument("--turns", type=int, default=7)
    asked.add_argument("--site", default="blocks.17.resid_post")
    asked.add_argument("--texts", type=int, default=32)
    asked.add_argument("--draws", type=int, default=4)
    options = asked.parse_args()
    torch.set_num_threads(1)
    model = Model.from_pretrained(options.model)
    for batch in options.batches:
        speed(model, batch, options.tokens, options.turns)
    if options.draws:
        calibration(model, options.texts, options.draws, options.site)


if __name__ == "__main__":
    main()
