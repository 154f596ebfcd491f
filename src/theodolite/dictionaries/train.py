"""Dictionaries at several sites, and their twins, trained in one pass over a stream of rows; resumable to the bit."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theodolite.core.atomic import publish
from theodolite.core.errors import UserError
from theodolite.core.tick import Tick
from theodolite.dictionaries import card, checkpoint, native
from theodolite.dictionaries.corpus import Corpus
from theodolite.dictionaries.held_out import held_out_documents, held_out_rows
from theodolite.dictionaries.learner import DECAY
from theodolite.dictionaries.metrics import CrossEntropy, cross_entropy
from theodolite.dictionaries.stream import Rows, Stream, concatenate, parts_of
from theodolite.dictionaries.variants.topk import TopK

CE_TEXTS = 32  # about 7,000 tokens: three to ten passes of the whole model over them per site


@dataclass(frozen=True)
class Plan:
    """Everything the weights depend on beside model and corpus."""

    sites: tuple[str, ...]
    width: int = 4096
    k: int = 32
    seed: int = 0
    tokens: int = 2_000_000
    twin: bool = True
    lr: float = 1e-3
    batch: int = 2048
    block_rows: int = 65_536

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width={self.width} latents: give at least 1")
        if not 1 <= self.k <= self.width:
            raise UserError(
                f"k={self.k} latents cannot be active at once: give a number from 1 to {self.width} (width)"
            )
        if self.steps < 1:
            raise UserError(f"{self.tokens} tokens are less than one batch: give at least {self.batch}")

    @property
    def steps(self) -> int:
        return self.tokens // self.batch

    def untrained(self, d_model: int, *, twin: bool) -> TopK:
        """A dictionary before its first step."""
        how: dict[str, Any] = {"k": self.k, "seed": self.seed, "lr": self.lr, "steps": self.steps}
        return TopK(d_model, self.width, frozen="encoder" if twin else "", **how)

    @property
    def curve(self) -> list[int]:
        """Where the learning curve is read: by factors of sqrt 2 up to the learning-rate decay, and at the end."""
        return [*sorted({int((1 - DECAY) * self.tokens / 2 ** (j / 2)) for j in range(9)}), self.steps * self.batch]


def train(
    model: Any,
    sites: Sequence[Any],
    corpus: Corpus,
    folder: str | Path,
    *,
    progress: Tick | None = None,
    checkpoint_seconds: float = 300.0,
    **options: Any,
) -> dict[str, Path]:
    """Train a dictionary (and its twin) per site; returns the folder of each, named `SITE` and `SITE.twin`.

    model: anything with `tokens`, `read`, `loss`, `hash`, `dtype`, `name`, `d_model`, `device` and `tokenizer` as in
    `theodolite.Model`.
    options: fields of `Plan`. A finished folder is returned as it is; a stopped run goes on from its last checkpoint
    and ends with the same weights, bit for bit, as one that was never stopped (same machine, same number of threads).
    """
    plan, folder = Plan(tuple(map(str, sites)), **options), Path(folder)
    parts_of(corpus)  # what cannot be trained on is refused before the folder is claimed
    request = {"model": model.hash, "dtype": str(model.dtype), "corpus": corpus.digest(), **vars(plan)}
    checkpoint.claim(folder, request)
    results = {name: folder / name for name in names(plan)}
    if all((path / "config.json").is_file() for path in results.values()):
        return results
    run = Training(model, sites, corpus, plan, folder, str(model.device))
    run.go(progress, checkpoint_seconds)
    format = card.FORMATS[run.judged_on]
    texts = [d.text for d in run.held_out_documents if d.format == format][:CE_TEXTS]
    ce = {site: cross_entropy(model, site, texts, corpus.recipe.max_tokens, format) for site in plan.sites}
    for name, path in results.items():
        run.publish(name, path, ce[_site(name)])
    checkpoint.clear(folder)
    return results


class Training:
    """One training run: the stream, the dictionaries, and the rows that did not fill a batch."""

    def __init__(self, model: Any, sites: Sequence[Any], corpus: Corpus, plan: Plan, folder: Path, device: str):
        self.model, self.plan, self.folder, self.device, self.corpus = model, plan, folder, device, corpus
        self.stream = Stream(model, sites, corpus, plan.seed, plan.block_rows)
        self.dictionaries = {name: plan.untrained(model.d_model, twin=name.endswith(".twin")) for name in names(plan)}
        self.held_out_documents = held_out_documents(corpus, plan.seed)
        self.judged_on = card.judged_on(d.format for d in self.held_out_documents)
        self.held_out = held_out_rows(model, sites, self.held_out_documents, corpus.recipe.max_tokens).to(device)
        self.step, self.seconds = 0, 0.0
        self.carry: Rows | None = None
        self.curve: dict[str, list[dict[str, float]]] = {name: [] for name in self.dictionaries}
        self._resume()

    def go(self, progress: Tick | None, checkpoint_seconds: float) -> None:
        """Train to the last step; a checkpoint follows a block when the last is older than `checkpoint_seconds`."""
        plan, saved_at = self.plan, time.monotonic()
        report = progress or (lambda done, total: None)
        report(self.step * plan.batch, plan.steps * plan.batch)
        while self.step < plan.steps:
            begun = time.monotonic()
            rows = self._with_carry(self.stream.block())
            harvested = time.monotonic()
            losses = self._train_on(rows)
            self.seconds += time.monotonic() - begun
            self._read_curve()
            self._log(losses, harvested - begun, time.monotonic() - harvested)
            report(self.step * plan.batch, plan.steps * plan.batch)
            if time.monotonic() - saved_at >= checkpoint_seconds or self.step >= plan.steps:
                self._save()
                saved_at = time.monotonic()

    def _with_carry(self, block: Rows) -> Rows:
        block = block.to(self.device)
        return block if self.carry is None else concatenate([self.carry, block])

    def _train_on(self, rows: Rows) -> dict[str, dict[str, Tensor]]:
        """As many steps as the rows fill; the rest is carried over."""
        batch, losses = self.plan.batch, {}
        todo = min(len(rows) // batch, self.plan.steps - self.step)
        if self.step == 0:
            for name, dictionary in self.dictionaries.items():
                dictionary.start(rows.at[_site(name)][:8192])
        for i in range(todo):
            for name, dictionary in self.dictionaries.items():
                losses[name] = dictionary.partial_fit(rows.at[_site(name)][i * batch : (i + 1) * batch])
        self.step += todo
        self.carry = rows.take(torch.arange(todo * batch, len(rows)))
        return losses

    def _read_curve(self) -> None:
        """FVU on held-out rows, if this block passed a point of the curve."""
        trained = self.step * self.plan.batch
        due = [p for p in self.plan.curve if p <= trained]
        for name, dictionary in self.dictionaries.items():
            if (len(self.curve[name]) and self.curve[name][-1]["tokens"] >= due[-1]) or not due:
                continue
            point: dict[str, float] = {"tokens": trained}
            for domain, code in card.DOMAINS.items():
                chosen = (self.held_out.domain == code).nonzero().squeeze(1)[:8192]
                fvu = dictionary.fvu(self.held_out.take(chosen).at[_site(name)]) if len(chosen) > 1 else math.nan
                if math.isfinite(fvu):
                    point[domain] = fvu
            self.curve[name].append(point)

    def _log(self, losses: dict[str, dict[str, Tensor]], harvest_s: float, train_s: float) -> None:
        trained = self.step * self.plan.batch
        rate = trained / self.seconds
        line = {
            "step": self.step,
            "tokens": trained,
            "tokens_per_s": round(rate, 1),
            "left_s": round((self.plan.steps * self.plan.batch - trained) / rate),
            "harvest_s": round(harvest_s, 2),
            "train_s": round(train_s, 2),
            "losses": {n: {k: round(float(v), 5) for k, v in loss.items()} for n, loss in losses.items()},
        }
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        numbers = {"step": self.step, "seconds": self.seconds, "cursor": self.stream.state(), "curve": self.curve}
        tensors = {name: d.state() for name, d in self.dictionaries.items()}
        assert self.carry is not None
        carry = {f"at.{site}": x for site, x in self.carry.at.items()}
        carry |= {"domain": self.carry.domain, "document": self.carry.document}
        checkpoint.save(self.folder, self.step, numbers, tensors | {"carry": carry})

    def _resume(self) -> None:
        found = checkpoint.load(self.folder)
        if found is None:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return
        numbers, tensors = found
        self.step, self.seconds, self.curve = numbers["step"], numbers["seconds"], numbers["curve"]
        self.stream.load_state(numbers["cursor"])
        carry = tensors.pop("carry")
        at = {s: carry[f"at.{s}"] for s in self.plan.sites}
        self.carry = Rows(at, carry["domain"], carry["document"]).to(self.device)
        for name, state in tensors.items():
            self.dictionaries[name].load_state(state, self.device)
        checkpoint.cut_log(self.folder / "log.jsonl", self.step)

    def publish(self, name: str, path: Path, ce: CrossEntropy) -> None:
        """Write one dictionary with the card of what is written (its bfloat16 form)."""
        site, fitted = _site(name), self.dictionaries[name]
        stored = native.as_stored(fitted.dictionary())
        decay_begins = (1 - DECAY) * self.plan.tokens
        constant_lr = [p for p in self.curve[name] if p["tokens"] <= decay_begins + self.plan.block_rows]
        fell = card.still_falling(constant_lr, self.judged_on)
        measured = card.measure(stored, self.held_out, site, ce) | {
            "dead": card.dead_latents(fitted.unused_for_, self.step * self.plan.batch),
            "curve": self.curve[name],
            "judged_on": self.judged_on,
            "fell_over_last_doubling": fell,
            "undertrained": fell is not None and fell > card.STILL_FALLING,
        }
        info = stored.info | {
            "site": site,
            "model": self.model.name,
            "model_hash": self.model.hash,
            "width": self.plan.width,
            "k": self.plan.k,
            "training": self._training(),
            "card": measured,
        }
        publish(path / "card.md", card.markdown(info).encode())
        native.save(replace(stored, info=info), path)

    def _training(self) -> dict[str, Any]:
        rows = self.stream.cursor.rows
        return {
            "tokens": self.step * self.plan.batch,
            "dtype": str(self.model.dtype),
            "corpus": self.corpus.recipe.name,
            "corpus_digest": self.corpus.digest(),
            "row_shares": {part: n / sum(rows.values()) for part, n in rows.items()},
            "passes": self.stream.passes(),
            "outliers": self.stream.cursor.outliers,
            "lr": self.plan.lr,
            "batch": self.plan.batch,
            "seconds": round(self.seconds),
        }


def names(plan: Plan) -> list[str]:
    """Names of the dictionaries of a run: each site, and `.twin` behind it."""
    return [site + suffix for site in plan.sites for suffix in ([""] + [".twin"] * plan.twin)]


def _site(name: str) -> str:
    return name.removesuffix(".twin")
