"""Real activations for the benchmarks of dictionaries: rows of one site, to train on and held out, in one file.

    python benchmarks/rows.py OUT.safetensors [--rows 1000000] [--site blocks.15.resid_post] [--dtype float32]

`train` holds rows of shuffled documents of the corpus text-chat, `held_out` those of documents it leaves out and
`document` whose these are; as in training, attention sinks are left out, and the template tokens after a prompt are in
`train`, of which `held_out` has the last only. The peers' environment reads this file and no model.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from theodolite.dictionaries.training import corpus
from theodolite.dictionaries.training.held_out import held_out_documents, held_out_rows
from theodolite.dictionaries.training.stream import Stream
from theodolite.models.model import Model


def main() -> None:
    """Harvest and write; prints a line per block of 65,536 rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--site", default="blocks.15.resid_post")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    model = Model.from_pretrained("smollm2-135m-instruct", dtype=options.dtype)
    texts = corpus.load(corpus.recipe("text-chat"))
    stream = Stream(model, [options.site], texts, seed=0, block_rows=65_536)
    begun, blocks = time.perf_counter(), []
    while (n := sum(map(len, blocks))) < options.rows:
        blocks.append(stream.block().at[options.site].float())
        seconds = time.perf_counter() - begun
        print(f"{n + len(blocks[-1]):,} of {options.rows:,} rows, {seconds:.0f} s", flush=True)
    documents = held_out_documents(texts, seed=0)
    held = held_out_rows(model, [options.site], documents, texts.recipe.max_tokens)
    partial = options.out.with_suffix(".partial")
    rows = {"train": torch.cat(blocks)[: options.rows], "held_out": held.at[options.site].float()}
    rows["document"] = held.document
    save_file(rows, partial, metadata={"model": model.name, "site": options.site, "dtype": options.dtype})
    partial.rename(options.out)


if __name__ == "__main__":
    main()
