"""How often the default model begins to refuse harmful and harmless prompts: by probabilities, nothing is generated.

    python benchmarks/refusal_rate.py [--model smollm2-135m-instruct] [--prompts 100]

Prompts are those of the recipe harmful-intent, by source; they are not printed.
"""

import argparse

from theodolite import Model
from theodolite.control.refusal_rate import refusal_rate
from theodolite.data import sources
from theodolite.study.request import named

SOURCES = (("strongreject", 1), ("advbench", 1), ("rho", 0))


def main() -> None:
    """Print the rate of each source with its interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=100, help="of each source, at most")
    given = parser.parse_args()
    model, recipe = Model.from_pretrained(given.model), named("harmful-intent")
    for name, label in SOURCES:
        source = next(one for one in recipe.train if (one.source, one.label) == (name, label))
        prompts = sources.rows(source)["text"].tolist()[: given.prompts]
        print(f"{name}, {'harmful' if label else 'harmless'}: {refusal_rate(model, prompts).words}")


if __name__ == "__main__":
    main()
