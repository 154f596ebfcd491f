"""Many dictionaries (variants, widths, sites, seeds and controls) in one pass over rows; resumable to the bit."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from theodolite.core.atomic import publish
from theodolite.core.code_hash import code_hash
from theodolite.core.errors import UserError
from theodolite.core.language_model import LanguageModel
from theodolite.core.tick import Tick
from theodolite.dictionaries import native
from theodolite.dictionaries.metrics import CrossEntropy
from theodolite.dictionaries.names import ELSEWHERE
from theodolite.dictionaries.training import card, checkpoint
from theodolite.dictionaries.training.allocator import keep_freed_memory
from theodolite.dictionaries.training.corpus import Corpus
from theodolite.dictionaries.training.material import Harvested, Material, Texts
from theodolite.dictionaries.training.plan import Member, TrainingPlan, existing, kind
from theodolite.dictionaries.training.prefetch import Ahead
from theodolite.dictionaries.training.stored import StoredRows
from theodolite.dictionaries.training.stream import Rows, concatenate
from theodolite.dictionaries.training.tracking import NOBODY, Listeners, Log, Means

FIRST = 8192  # rows from which a dictionary takes its centre and scale


class ConstantDimension(UserWarning):
    """Some coordinates of the rows never change: no dictionary can learn anything there."""


def train(
    model: LanguageModel,
    sites: Sequence[Any],
    rows: Corpus | StoredRows,
    folder: str | Path,
    *,
    listeners: Listeners = NOBODY,
    prefetch: bool | None = None,
    checkpoint_seconds: float = 300.0,
    batch_tokens: int | None = None,
    **options: Any,
) -> dict[str, Path]:
    """Train every dictionary of a plan; returns the folder of each, `SITE` and `SITE.control` if there is one per site.

    model: anything with `tokens`, `read`, `loss`, `hash`, `dtype`, `name`, `d_model`, `device` and `tokenizer` as in
    `theodolite.Model`; may be None where `rows` are stored ones. options: fields of `plan.TrainingPlan`. A finished
    folder is returned as it is; a stopped run goes on from its last checkpoint and ends with the same weights, bit for
    bit, as one that was never stopped (same machine, same number of threads). Weights other than those written are
    refused.
    prefetch: whether a thread reads the next block while this one is trained on (default: on a GPU).
    batch_tokens: tokens in a batch of the model (default: what fits).
    """
    material, folder = material_of(model, rows, batch_tokens), Path(folder)
    plan = TrainingPlan(tuple(map(str, sites)), **options)
    members = plan.members(material.check(plan.reads))  # what cannot be trained is refused before the folder is claimed
    request = material.about() | plan.request()
    checkpoint.claim(folder, request)
    results = {name: existing(folder / name) for name in members}
    if all((path / "config.json").is_file() for path in results.values()):
        for path in results.values():
            native.verify(path)
        checkpoint.clear(folder, members)  # of a run that was stopped between its last file and here
        return results
    log = Log(folder / "log.jsonl", listeners)
    if material.device == "cpu":
        keep_freed_memory()
    log.begin(request)
    try:
        run = Training(material, plan, members, folder, log)
        run.go(listeners.progress, checkpoint_seconds, material.device != "cpu" if prefetch is None else prefetch)
        listeners.measuring(0, len(results))
        for done, (name, path) in enumerate(results.items(), start=1):
            run.finish(name, path)
            listeners.measuring(done, len(results))
    finally:
        log.end()
    checkpoint.clear(folder, members)
    return results


def material_of(model: LanguageModel, rows: Corpus | StoredRows, batch_tokens: int | None = None) -> Material:
    """The rows of a corpus through the model, or stored ones; those of another model are refused."""
    if isinstance(rows, Corpus):
        return Texts(model, rows, {} if batch_tokens is None else {"batch_tokens": batch_tokens})
    if model is None:
        return Harvested(rows)
    if model.hash != rows.fields["model"]:
        raise UserError(f"{rows.store.folder} holds rows of another model than {model.name}: give that one, or none")
    return Harvested(rows, str(model.device), model.name)


class Training:
    """One training run: the stream, the dictionaries, and the rows that did not fill a batch."""

    def __init__(self, material: Material, plan: TrainingPlan, members: dict[str, Member], folder: Path, log: Log):
        self.material, self.plan, self.members, self.folder, self.log = material, plan, members, folder, log
        self.device = material.device
        self.stream = material.stream(plan.reads, plan.seed, plan.block)
        self.held_out = material.held_out(plan.reads, plan.seed).to(self.device)
        self.main_domain = material.main_domain(plan.seed)
        d_model = self.held_out.at[plan.reads[0]].shape[1]
        self.dictionaries = {name: member.learner(d_model, plan.steps) for name, member in members.items()}
        self.step, self.seconds = 0, 0.0
        self.cursor = self.stream.state()
        self.carry: Rows | None = None
        self.curve: dict[str, list[dict[str, float]]] = {name: [] for name in members}
        self.constant: dict[str, int] = {}
        self.ce: dict[str, CrossEntropy | None] = {}
        self._resume()

    def go(self, progress: Tick, checkpoint_seconds: float, prefetch: bool) -> None:
        """Train to the last step; a checkpoint follows a block when the last is older than `checkpoint_seconds`."""
        plan, saved_at = self.plan, time.monotonic()
        progress(self.step * plan.batch, plan.steps * plan.batch)
        ahead = Ahead(self._read)
        try:
            while self.step < plan.steps:
                begun = time.monotonic()
                rows = self._with_carry(self._taken(ahead))
                if prefetch and self.step + len(rows) // plan.batch < plan.steps:
                    ahead.begin()
                read = time.monotonic()
                means = self._train_on(rows)
                self.seconds += time.monotonic() - begun
                self._read_curve(means)
                self._log(means, read - begun, time.monotonic() - read)
                progress(self.step * plan.batch, plan.steps * plan.batch)
                if time.monotonic() - saved_at >= checkpoint_seconds or self.step >= plan.steps:
                    self._save()
                    saved_at = time.monotonic()
        finally:
            ahead.close()

    def _read(self) -> tuple[Rows, dict[str, Any]]:
        """The next block, and the stream's cursor after it: what a checkpoint after that block must hold."""
        return self.stream.block(), self.stream.state()

    def _taken(self, ahead: Ahead[tuple[Rows, dict[str, Any]]]) -> Rows:
        try:
            block, self.cursor = ahead.take()
        except UserError as error:
            where = f"step {self.step}, block {self.cursor['blocks']}"
            raise UserError(f"{where}: {error}. {checkpoint.progress_text(self.folder)}") from None
        if not len(block):
            raise UserError(f"a block of {self.material.name} gave no row at all: its texts have no token to read")
        return block

    def _with_carry(self, block: Rows) -> Rows:
        block = block.to(self.device)
        return block if self.carry is None else concatenate([self.carry, block])

    def _train_on(self, rows: Rows) -> Means:
        """Train as many steps as the rows fill; the rest is carried over."""
        batch = self.plan.batch
        means = Means(min(len(rows) // batch, self.plan.steps - self.step))
        if self.step == 0 and means.steps:
            self._start({site: x[:FIRST] for site, x in rows.at.items()})
        for i in range(means.steps):
            part = {site: x[i * batch : (i + 1) * batch] for site, x in rows.at.items()}
            for name in self.dictionaries:
                begun = time.perf_counter()
                means.add(name, self._fit(name, part, i), time.perf_counter() - begun)
        self.step += means.steps
        self.carry = rows.take(torch.arange(means.steps * batch, len(rows)))
        return means

    def _start(self, at: dict[str, Tensor]) -> None:
        """Every dictionary takes its centre and scale; coordinates that never change are counted."""
        self.constant = {site: int((x == x[0]).all(0).sum()) for site, x in at.items()}
        for site, count in self.constant.items():
            if count:
                of = f"{count} of {at[site].shape[1]} coordinates at {site} are the same in all rows looked at"
                warnings.warn(f"{of}: nothing is learnt there", ConstantDimension, stacklevel=2)
        for name, dictionary in self.dictionaries.items():
            try:
                dictionary.start(*self.members[name].inputs(at))
            except UserError as error:
                raise UserError(f"{name}, before step 0: {error}") from None

    def _fit(self, name: str, at: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
        try:
            return self.dictionaries[name].partial_fit(*self.members[name].inputs(at))
        except UserError as error:
            where = f"{name}, step {self.step + batch}, batch {batch} of block {self.cursor['blocks'] - 1}"
            raise UserError(f"{where}: {error}. {checkpoint.progress_text(self.folder)}") from None

    def _read_curve(self, means: Means) -> None:
        """FVU on held-out rows, and L0 on the block's, if it passed a point of the curve."""
        trained = self.step * self.plan.batch
        due = max((p for p in self.plan.curve if p <= trained), default=None)
        for name, learner in self.dictionaries.items():
            if due is None or (self.curve[name] and self.curve[name][-1]["tokens"] >= due):
                continue
            point: dict[str, float] = {"tokens": trained, "l0": means.of(name, "l0")}
            so_far = learner.dictionary()
            for domain, code in card.DOMAINS.items():
                chosen = (self.held_out.domain == code).nonzero().squeeze(1)[:8192]
                inputs = self.members[name].inputs(self.held_out.take(chosen).at)
                fvu = so_far.fvu(*inputs) if len(chosen) > 1 else math.nan
                if math.isfinite(fvu):
                    point[domain] = fvu
            self.curve[name].append(point)

    def _log(self, means: Means, read_s: float, train_s: float) -> None:
        if not means.steps:
            return
        trained, total = self.step * self.plan.batch, self.plan.steps * self.plan.batch
        rate, rows = trained / self.seconds, means.steps * self.plan.batch
        self.log.write(
            {
                "step": self.step,
                "tokens": trained,
                "total": total,
                "tokens_per_s": round(rate, 1),
                "left_s": round((total - trained) / rate),
                "harvest_s": round(read_s, 2),
                "train_s": round(train_s, 2),
                "activations_per_s": {name: round(rows / s, 1) for name, s in means.seconds.items()},
                "losses": means.losses({name: d.width for name, d in self.dictionaries.items()}),
            }
        )

    def _save(self) -> None:
        numbers = {"step": self.step, "seconds": self.seconds, "cursor": self.cursor, "curve": self.curve}
        numbers |= {"constant": self.constant, "code": self._code()}
        tensors = {name: d.state() for name, d in self.dictionaries.items()}
        assert self.carry is not None
        carry = {f"at.{site}": x for site, x in self.carry.at.items()}
        carry |= {"domain": self.carry.domain, "document": self.carry.document}
        checkpoint.save(self.folder, self.step, numbers, tensors | {checkpoint.CARRY: carry})

    def _code(self) -> str:
        """A hash of the code that takes the steps, and of its libraries' versions."""
        learners = sorted({type(d) for d in self.dictionaries.values()}, key=lambda cls: cls.__module__)
        return code_hash(type(self), *learners)

    def _resume(self) -> None:
        found = checkpoint.load(self.folder)
        if found is None:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
            return
        numbers, tensors = found
        named = set(tensors) - {checkpoint.CARRY} == set(self.dictionaries)  # version 0.1 called controls twins
        if numbers.get("code", self._code()) != self._code() or not named:  # and recorded no code
            raise UserError(
                f"the checkpoint in {self.folder} was written by other code or libraries than these, so going on would "
                "mix two trainings: install that version again, or delete the folder and train anew"
            )
        self.step, self.seconds, self.curve = numbers["step"], numbers["seconds"], numbers["curve"]
        self.constant = numbers.get("constant", {})  # version 0.1 did not count them
        self.cursor = numbers["cursor"]
        self.stream.load_state(self.cursor)
        carry = tensors.pop(checkpoint.CARRY)
        at = {s: carry[f"at.{s}"] for s in self.plan.reads}
        self.carry = Rows(at, carry["domain"], carry["document"]).to(self.device)
        for name, state in tensors.items():
            self.dictionaries[name].load_state(state, self.device)
        checkpoint.cut_log(self.folder / "log.jsonl", self.step)

    def finish(self, name: str, path: Path) -> None:
        """Write one dictionary with the card of what is written (its bfloat16 form)."""
        member, fitted = self.members[name], self.dictionaries[name]
        options = fitted.options()
        stored = native.as_stored(fitted.dictionary())
        fell = card.still_falling(
            self.curve[name], self.main_domain, (1 - fitted.decay) * self.plan.steps * self.plan.batch
        )
        measured = card.measure(stored, self.held_out, member.inputs, self._cross_entropy(member.site))
        measured |= {
            "dead": card.dead_latents(fitted.unused_for_, self.step * self.plan.batch),
            "curve": self.curve[name],
            "judged_on": self.main_domain,
            "fell_over_last_doubling": fell,
        }
        measured["undertrained"] = card.undertrained(measured, options.get("target_l0"))
        info = stored.info | {
            **member.where,
            "model": self.material.model_name,
            "model_hash": self.material.about()["model"],
            "variant": member.spec.name,
            "label": member.spec.label,
            "params": {name: value for name, value in options.items() if name not in {*ELSEWHERE, "width"}},
            "width": fitted.width,
            "k": getattr(fitted, "k", None),
            "training": self._training() | ({"lr": options["lr"]} if "lr" in options else {}),
            "card": measured,
        }
        publish(path / "card.md", card.markdown(info).encode())
        native.save(replace(stored, info=info), path)

    def _cross_entropy(self, site: str) -> CrossEntropy | None:
        """One per site, which remembers what does not depend on the dictionary."""
        if site not in self.ce and kind(site) == "one":
            self.ce[site] = self.material.cross_entropy(site, self.plan.seed)
        return self.ce.get(site)

    def _training(self) -> dict[str, Any]:
        rows = self.cursor["rows"]
        about = self.material.about()
        return {
            "tokens": self.step * self.plan.batch,
            "dtype": about["dtype"],
            "corpus": self.material.name,
            "corpus_digest": about["corpus"],
            "row_shares": {part: n / sum(rows.values()) for part, n in rows.items()},
            "passes": self.stream.passes(),
            "outliers": self.cursor["outliers"],
            "constant_dimensions": sum(self.constant.values()),
            "batch": self.plan.batch,
            "seconds": round(self.seconds),
        }
