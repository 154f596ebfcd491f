"""Speed and memory of a large model and a wide dictionary on one GPU, and whether it computes what the CPU does.

    python -P benchmarks/gpu.py [--tiny] [--device cuda] [--tokens 65536] [--json FILE]

The model is a Llama of 7 billion random numbers, made on the device: nothing is downloaded. The dictionary has 65,536
random latents at its middle block. Measured: tokens per second of a harvest to disk, rows per second of coding by TopK
and by a threshold, bytes per second of the checksum that every use of the weights takes, and the most memory held.
Agreement: rows of the first two blocks in float32 on both devices, and the latents of the same rows. Exit 1 where they
differ by more than 1e-3 of a row's norm, or in more than one latent of a thousand. Meant to end within 8 minutes.

`--tiny` does the same at the size of a test, on the CPU unless --device says otherwise. Untested on CUDA. `-P` keeps
`benchmarks/coverage.py` from being taken for the package of that name, which numba looks for.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from theodolite.core.site import Site
from theodolite.dictionaries.activations import Activation, JumpReluRule, TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models import checksum, offload
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer

FAR = 1e-3  # of a row's norm, in float32 without TF32: sums are taken in another order there
OTHER_LATENTS = 1e-3  # share of active latents that may differ: two of nearly equal size change places
SLICE = 2  # blocks that both devices compute


@dataclass(frozen=True)
class Size:
    """Sizes of the model, of the dictionary, and of the texts: tokens in all, and in one text."""

    d_model: int
    d_mlp: int
    blocks: int
    heads: int
    vocabulary: int
    latents: int
    k: int
    tokens: int
    text: int


FULL = Size(4096, 11008, 32, 32, 32000, 65536, 64, 65536, 256)
TINY = Size(64, 128, 4, 4, 512, 1024, 8, 1024, 64)


@dataclass(frozen=True)
class Timed:
    """Seconds of a piece of work, and the most gigabytes that the device held meanwhile (NaN on the CPU)."""

    seconds: float
    peak_gb: float


def main(arguments: list[str] | None = None) -> int:
    """Measure, print one line per figure, and say by the exit code whether both devices agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    device = options.device or ("cpu" if options.tiny else "cuda")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: give --tiny to run the same on the CPU")
        return 1
    size = TINY if options.tiny else FULL
    figures = measured(size, device, options.tokens or size.tokens)
    for name, value in figures.items():
        print(f"{name:40} {value:,.6g}" if isinstance(value, float | int) else f"{name:40} {value}")
    if options.json:
        options.json.write_text(json.dumps({"size": asdict(size)} | figures, indent=1))
    agreed = figures["rows_far"] <= FAR and figures["other_latents"] <= OTHER_LATENTS
    print("CPU and device agree" if agreed else "CPU and device DISAGREE")
    return 0 if agreed else 1


@torch.inference_mode()
def measured(size: Size, device: str, tokens: int) -> dict[str, Any]:
    """All figures by name."""
    begun = time.perf_counter()
    figures: dict[str, Any] = {"device": _name(device), "torch": torch.__version__}
    of_model, rows = _of_model(size, device, tokens)  # which is gone: the dictionary has the memory for itself
    figures |= of_model
    for name, rule in rules(size).items():
        coder = dictionary(size, rule).to(device)
        _, coded = timed(device, lambda coder=coder: [coder.code(x.to(device)) for x in rows.split(4096)])
        figures |= {f"{name}_rows_per_second": len(rows) / coded.seconds, f"{name}_gb": coded.peak_gb}
    return figures | agreement(size, device) | {"minutes": (time.perf_counter() - begun) / 60}


def _of_model(size: Size, device: str, tokens: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Figures of the model, and the rows of its middle block in float32."""
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    module, built = timed(device, lambda: network(size, size.blocks, device, dtype))
    weights = list(module.parameters())
    model = Model(module, byte_tokenizer(), name="random-llama", hash="0" * 64)
    rows, read = timed(device, lambda: _harvested(model, size, tokens))
    _, summed = timed(device, lambda: checksum.digest(offload.values(module)))
    figures = {
        "parameters": sum(p.numel() for p in weights),
        "build_seconds": built.seconds,
        "tokens": len(rows),
        "harvest_tokens_per_second": len(rows) / read.seconds,
        "harvest_gb": read.peak_gb,
        "checksum_gb_per_second": sum(p.numel() * p.element_size() for p in weights) / summed.seconds / 1e9,
    }
    return figures, rows.float()


def timed(device: str, work: Callable[[], Any]) -> tuple[Any, Timed]:
    """What the work returns, with its time once the device has finished, and its memory."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    begun = time.perf_counter()
    found = work()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - begun
    return found, Timed(seconds, torch.cuda.max_memory_allocated(device) / 1e9 if cuda else float("nan"))


def network(size: Size, blocks: int, device: str, dtype: torch.dtype) -> Any:
    """A random Llama, made where it will run."""
    config = LlamaConfig(
        hidden_size=size.d_model,
        intermediate_size=size.d_mlp,
        num_hidden_layers=blocks,
        num_attention_heads=size.heads,
        vocab_size=size.vocabulary,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def rules(size: Size) -> dict[str, Activation]:
    """TopK, and a threshold above which about as many latents are active."""
    share = size.k / size.latents
    level = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - share)))
    return {"topk": TopKRule(size.k), "jumprelu": JumpReluRule(torch.full((size.latents,), level))}


def dictionary(size: Size, rule: Activation) -> Dictionary:
    """Random unit directions, of rows that are brought to a norm of sqrt(d): pre-activations are about normal."""
    draw = torch.Generator().manual_seed(1)
    W_fd = torch.nn.functional.normalize(torch.randn(size.latents, size.d_model, generator=draw), dim=1)
    zeros = torch.zeros(size.latents), torch.zeros(size.d_model)
    return Dictionary(W_fd, zeros[0], W_fd, zeros[1], rule, normalise="constant_norm")


def agreement(size: Size, device: str) -> dict[str, float]:
    """The largest relative difference of a row between CPU and device, and the share of latents that only one has."""
    torch.backends.cuda.matmul.allow_tf32 = False
    module = network(size, SLICE, "cpu", torch.float32)
    site, rows = Site(SLICE - 1, "resid_post"), []
    for where in ("cpu", device):
        model = Model(module.to(where), byte_tokenizer(), name="slice", hash="0" * 64)
        rows.append(
            torch.from_numpy(model.read(_texts(size, 4 * size.text), site, pooling=None, format="raw")[site].rows)
        )
    far = ((rows[1] - rows[0]).norm(dim=1) / rows[0].norm(dim=1)).max()
    coder = dictionary(size, rules(size)["topk"])
    codes = [each.encode(rows[0].to(where)).cpu() != 0 for each, where in ((coder, "cpu"), (coder.to(device), device))]
    other = (codes[0] ^ codes[1]).sum() / (2 * codes[0].sum())
    return {"rows_far": float(far), "other_latents": float(other)}


def _harvested(model: Model, size: Size, tokens: int) -> torch.Tensor:
    """Rows of the middle block, as they come back from disk."""
    site = Site(size.blocks // 2, "resid_post")
    with tempfile.TemporaryDirectory() as folder:
        plan = HarvestPlan(token_sites=site, positions="all", format="raw", max_tokens=size.text)
        found = harvest(model, _texts(size, tokens), folder, plan)
        return torch.cat([rows for _, _, rows in found.tokens(site)])


def _texts(size: Size, tokens: int) -> list[str]:
    """Texts of one byte per token that begin in different ways."""
    return [f"{i:06d} ".ljust(size.text, "abcdefghij"[i % 10]) for i in range(max(tokens // size.text, 1))]


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


if __name__ == "__main__":
    sys.exit(main())
