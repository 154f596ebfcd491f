"""A reader of a finished Run with the model and dictionary it was fitted through, ready for new texts."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from theodolite.comparison.read_selection import decision, rejected
from theodolite.comparison.read_values import Selection
from theodolite.core.activations import Activations
from theodolite.core.artefact import load_reader
from theodolite.core.claim import FAILS, HOLDS
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions, pool, pooled_over
from theodolite.core.recipe import Recipe, validated
from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.core.site import Site
from theodolite.core.slug import slug
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.pooled import Pooled, pooled_latents
from theodolite.models.checksum import sums
from theodolite.models.model import Model
from theodolite.models.pass_code import same_code
from theodolite.models.tokens import encode
from theodolite.readers._text import NgramReader
from theodolite.selection.saved import SAVED_RULES, PredictionRecords, SavedRule
from theodolite.selection.spaces import GetView
from theodolite.study.datasets import unreadable
from theodolite.study.hardware import DEFAULT, Machine
from theodolite.study.saved_readers import own_class, reader_folder, saved_about
from theodolite.study.subjects import Subjects, open_subjects
from theodolite.study.tune import Platt
from theodolite.study.views import FROM_DICTIONARY

# columns that scoring adds, always and with a selection rule
SCORED, SELECTED = ("method", "score", "probability"), ("predicted", "alpha", "accepted", "reason")
WHOLE = 2**31  # tokens, more than any text has
VIEWS = ("state", "latents", "reconstruction", "error", "state+latents", "text")


class FittedReader:
    """A fitted reader of a Run with the model and dictionary it was fitted through."""

    def __init__(
        self,
        run: Run,
        method: str | None,
        model: Model | str | Path | None = None,
        sae: Sequence[str | Path] | None = None,
        machine: Machine = DEFAULT,
    ) -> None:
        self.recipe = validated(run.recipe, f"of {str(run.folder)!r}")
        folder = reader_folder(run, method)
        self.about = saved_about(folder)
        self.reader = load_reader(folder, own_class(run, folder, method))
        self.view = str(self.about["view"])
        self.platt = Platt(self.about["slope"], self.about["intercept"])
        if self.view not in VIEWS:
            raise UserError(
                f"{self.about['method']} reads the view {self.view!r}; `read` needs one of {', '.join(VIEWS)}"
            )
        place = f"{SAVED_RULES}/{slug(str(self.about['method']))}"
        self.rule = SavedRule(run.verify_folder(place)) if (run.folder / place).is_dir() else None
        self.claims = (run.read_json("selection") or {}).get("claims", [])
        needs_dictionary = self.view in FROM_DICTIONARY or self.rule is not None
        needs_model = self.view != "text" or self.rule is not None
        self.machine = machine
        opened = partial(_opened, self.recipe, run, model, sae, machine)
        self.subjects = opened(dictionaries=needs_dictionary) if needs_model else None
        self.dictionary = _dictionary(self.subjects, self.about)
        self._rule_dictionary = self._dictionary_of_rule()
        self._opened_weights = self._weights()

    def check_weights(self) -> None:
        """Raise UserError if weights changed since the reader was opened.

        It reads all weights once where they lie: 7 GB/s on one core (`models.checksum.sums`).
        """
        if self._weights() != self._opened_weights:
            raise UserError("weights of the model or of a dictionary changed since the reader was opened: open it anew")

    def _weights(self) -> str:
        """Return a digest of the weights as they are now, the model's and those of the dictionaries in use."""
        whole = hashlib.sha256(b"" if self.subjects is None else self._model().hash.encode())
        for dictionary in filter(None, (self.dictionary, self._rule_dictionary)):
            for tensor in (*dictionary.weights().values(), *dictionary.activation.tensors().values()):
                whole.update(sums(tensor).tobytes())
        return whole.hexdigest()

    def _dictionary_of_rule(self) -> Dictionary | None:
        """Return the dictionary whose views the selection rule compares rows in, found once for all texts."""
        if self.rule is None or not self.rule.space.reads_dictionary:
            return None
        place = {"view": "latents", "site": self.rule.space.site, "dictionary": self.rule.choice["dictionary"]}
        return _dictionary(self.subjects, self.about | place)

    @property
    def site(self) -> Site:
        """Site at which the reader reads the model; a reader of the text alone has none."""
        return Site.parse(self.about["site"])

    def unreadable(self, texts: list[str]) -> np.ndarray:
        """Return which texts have no token that the reader could read; (n) bool, none if it sees only text."""
        if self.subjects is None:
            return np.zeros(len(texts), bool)
        return np.array([why != "" for why in unreadable(self._model(), self.recipe, texts)])

    def texts(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and probabilities of whole texts, equal to those that the comparison would give them."""
        score = self.reader.decision_function(texts if self.view == "text" else self._rows(texts))
        return score, self.platt(score)

    def blank(self, texts: list[str]) -> np.ndarray:
        """Return which texts hold nothing that a reader of the text knows, (n,)."""
        return self.reader.blank(texts) if isinstance(self.reader, NgramReader) else np.zeros(len(texts), bool)

    def failed_everywhere(self) -> bool:
        """Return whether the certified accuracy holds on no shift of the run and fails on one."""
        words = self._on_shifts()
        return HOLDS not in words and FAILS in words

    def _on_shifts(self) -> list[str]:
        """Return the word of the run's claim about this method for each shift."""
        method = self.about["method"]
        return [c["word"] for c in self.claims if c["method"] == method and c["dataset"] != IN_DISTRIBUTION]

    def selection(self, text: str, score: np.ndarray) -> Selection | None:
        """Return the decision about the reading of one text; None where the run has no rule for this method."""
        if self.rule is None:
            return None
        names = (self.recipe.negative, self.recipe.positive)
        return decision(self.rule, self._predictions(self.rule, [text], score), names, self._on_shifts())

    def table(self, texts: list[str]) -> pd.DataFrame:
        """Return method, score and probability of each text, and the selection rule's decisions where there is one."""
        score, probability = self.texts(texts)
        found = pd.DataFrame(dict(zip(SCORED, (self.about["method"], score, probability), strict=True)))
        if self.rule is None:
            return found
        records = self._predictions(self.rule, texts, score)
        predicted, accepted = pd.array(records.predicted, dtype="Int8"), pd.array(records.reason == "", dtype="boolean")
        columns = (predicted, self.rule.choice["level"], accepted, records.reason)
        return found.assign(**dict(zip(SELECTED, columns, strict=True)))

    def no_rows(self) -> pd.DataFrame:
        """Return `table` of no text: its columns, each of its type."""
        names = SCORED + (SELECTED if self.rule else ())
        kinds = {"score": float, "probability": float, "predicted": "Int8", "alpha": float, "accepted": "boolean"}
        return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, object)) for name in names})

    def most_tokens(self) -> int:
        """Return how many tokens of a text the run reads at most."""
        return self._model().most_tokens(self.recipe.format, self.recipe.max_tokens)

    def _predictions(self, rule: SavedRule, texts: list[str], score: np.ndarray) -> PredictionRecords:
        views = self._views(texts, [rule.space.site, *rule.space.blocks])
        return rejected(rule.predict(views, self.platt.log_odds(score)), self.blank(texts))

    def _views(self, texts: list[str], sites: list[str]) -> GetView:
        """Return views of texts by name and site, from one pass of the model."""
        pooling = self.recipe.pooling
        read = self._read(texts, map(Site.parse, dict.fromkeys(sites)), self._pooled_positions())

        def rows(view: str, site: str) -> Any:
            token = read[Site.parse(site)]
            state = pool(token.rows, token.doc, pooling)
            if view == "state":
                return state
            assert self._rule_dictionary is not None
            return getattr(_encoded(self._rule_dictionary, token.rows, token.doc, len(state), pooling), view)

        return rows

    def tokens(self, text: str) -> list[tuple[str, float]]:
        """Return each token at the recipe's positions with its own row's score; none if the reader sees only text."""
        if self.view == "text":
            return []
        token = self._read([text], [self.site], Positions.parse(self.recipe.positions))[self.site]
        batch = self._model().tokens([text], **self._how())
        chosen = Positions.parse(self.recipe.positions).mask(batch.roles.numpy())[0]
        words = [self._model().tokenizer.decode([i]) for i in batch.ids[0].numpy()[chosen]]
        alone = self._view(token.rows, np.arange(len(words)), "last")
        return list(zip(words, self.reader.decision_function(alone).tolist(), strict=True))

    def cut(self, texts: list[str]) -> int:
        """Return how many texts are longer than what the run reads of one; a reader of the text sees all of it."""
        return 0 if self.view == "text" else int(self._model().tokens(texts, **self._how()).truncated.sum())

    def left_out(self, text: str) -> int:
        """Return how many tokens of one text are not read."""
        if not self.cut([text]):
            return 0
        model, format = self._model(), self.recipe.format
        (whole,) = encode(model.tokenizer, [text], format, WHOLE)  # longer than the model's context, perhaps
        return len(whole) - int(model.tokens([text], **self._how()).lengths[0])

    def _rows(self, texts: list[str]) -> Any:
        """Return one row per text, pooled as the harvest does."""
        token = self._read(texts, [self.site], self._pooled_positions())[self.site]
        return self._view(token.rows, token.doc, self.recipe.pooling)

    def _view(self, x_nd: np.ndarray, doc_n: np.ndarray, pooling: str) -> Any:
        """Return the reader's view of texts from their tokens' states."""
        state = pool(x_nd, doc_n, pooling)
        if self.dictionary is None:
            return state
        seen = _encoded(self.dictionary, x_nd, doc_n, len(state), pooling)
        if self.view == "state+latents":
            return sparse.hstack([sparse.csr_matrix(state), seen.latents], format="csr")
        return getattr(seen, self.view)

    def _pooled_positions(self) -> Positions:
        return pooled_over(Positions.parse(self.recipe.positions), self.recipe.pooling)

    def _read(self, texts: list[str], sites: Iterable[Site], positions: Positions) -> dict[Site, Activations]:
        how = self._how() | {"batch_tokens": self.machine.batch_tokens}
        return self._model().read(texts, sites, positions=positions, pooling=None, **how)

    def _model(self) -> Model:
        assert self.subjects is not None
        return self.subjects.model

    def _how(self) -> dict[str, Any]:
        return {"format": self.recipe.format, "max_tokens": self.recipe.max_tokens}


def _encoded(dictionary: Dictionary, x_nd: np.ndarray, doc_n: np.ndarray, n_texts: int, pooling: str) -> Pooled:
    chunk = (doc_n, np.ones(len(doc_n), bool), torch.from_numpy(np.ascontiguousarray(x_nd)))
    return pooled_latents(dictionary, [chunk], n_texts, pooling)


def _opened(
    recipe: Recipe,
    run: Run,
    model: Model | str | Path | None,
    sae: Sequence[str | Path] | None,
    machine: Machine,
    *,
    dictionaries: bool,
) -> Subjects:
    """Open the model of a run, and its dictionaries where they are needed, from where they lie here."""
    if model is None:
        model = run.local_path(recipe.model, "give it with --model PATH")
    if not isinstance(model, Model):
        here = Path(model).expanduser()
        place = {"model": str(here.resolve()), "revision": None} if here.exists() else {"model": str(model)}
        recipe, model = recipe.model_copy(update=place), None
    if not sae:
        kept = recipe.dictionaries if dictionaries else []
        sae = [run.local_path(name, "give it with --sae PATH") for name in kept]
    wanted = _as_read(recipe, run).model_copy(update={"dictionaries": [str(one) for one in sae]})
    opened = open_subjects(wanted, model, machine)
    if model is None and "clock" in run.facts["model"]:  # a template that prints the date prints that of the run
        opened.model.set_clock(datetime.fromisoformat(run.facts["model"]["clock"]))
    return _same_model(opened, run)


def _as_read(recipe: Recipe, run: Run) -> Recipe:
    """Return the recipe with the dtype in which the run read, where it left that to the machine."""
    if recipe.dtype != "auto" or "model" not in run.facts:
        return recipe
    return recipe.model_copy(update={"dtype": run.facts["model"]["dtype"]})


def _same_model(subjects: Subjects, run: Run) -> Subjects:
    """Return the subjects if their model has the weights that the run read and reads a text as it did then."""
    then, now = run.facts["model"], subjects.model
    again = "put it back, or run `theodolite compare` again with --force"
    if then["hash"] != now.hash:
        raise UserError(
            f"the run read {then['name']!r} with the hash {then['hash'][:12]}, and the weights of {now.name!r} now "
            f"have {now.hash[:12]}: put the old weights back, or run `theodolite compare` again"
        )
    parts = then.get("fingerprint", {})  # absent in a run of version 0.1
    if other := [
        name for name, digest in now.fingerprint().items() if not _same(name, parts.get(name, digest), digest)
    ]:
        raise UserError(f"the run read {then['name']!r} with another {', '.join(other)} than there is now: {again}")
    around, here = then.get("template"), list(now.template_around(run.recipe["format"]))
    if around not in (None, here) and run.recipe["format"] == "chat":
        raise UserError(
            f"the chat template of {then['name']!r} prints {_difference(around, here)}: a reader of the run would be "
            "given other tokens than it was fitted on: give the model by its name, or run `theodolite compare` "
            "again with --force"
        )
    return subjects


def _same(part: str, then: str, now: str) -> bool:
    return same_code(then, now) if part == "code" else then == now


def _difference(then: list[str], now: list[str]) -> str:
    """Return the first difference between two renderings of a template, in words."""
    old, new = next((a, b) for a, b in zip(then, now, strict=True) if a != b)
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    show = slice(max(start - 10, 0), start + 30)
    return f"{new[show]!r} now and printed {old[show]!r} in the run"


def _dictionary(subjects: Subjects | None, about: dict[str, Any]) -> Dictionary | None:
    """Return the dictionary that the reader was fitted through, by the name and weights that the comparison kept."""
    if subjects is None or about["view"] not in FROM_DICTIONARY:
        return None
    # Compare the end of the key, the hash of the weights: the rest of it changes when the folder has moved.
    dictionaries = [s for s in subjects.dictionaries if s.site == about["site"]]
    here = {s.key: s.dictionary for s in dictionaries if s.key[-12:] == str(about.get("dictionary"))[-12:]}
    if len(here) != 1:
        there = ", ".join(s.key for s in dictionaries) or "none"
        raise UserError(
            f"{about['method']} was fitted on the dictionary {about.get('dictionary') or '(not recorded)'} at "
            f"{about['site']}, and there is {there}: put it back, give it with --sae, or run `theodolite compare` "
            "again with --force"
        )
    return next(iter(here.values()))
