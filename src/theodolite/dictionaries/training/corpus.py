"""The texts a dictionary is trained on: parts with their formats and shares, split by document into training and
held-out.

A part is `raw` (running text) or `chat` (prompts, put into the model's chat template). Long raw documents are cut into
pieces, because a forward pass sees at most `max_tokens` tokens; pieces of one document stay on one side of the split.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from theodolite.core.atomic import publish
from theodolite.core.errors import UserError, unknown
from theodolite.core.recipe import Source
from theodolite.core.strict import Strict, parsed
from theodolite.core.zstd import compressed, decompressed
from theodolite.data.near_duplicates import canonical

Near = Callable[[Sequence[str]], np.ndarray]


class CorpusPart(Strict):
    """Texts of one format; `share` is their part of the training rows."""

    name: str
    format: Literal["raw", "chat"]
    share: float
    sources: list[Source]


class CorpusRecipe(Strict):
    """Texts on which a dictionary is trained.

    Texts under `min_chars` leave; a share `held_out` of documents, chosen by a hash of the text, is kept for the card.
    """

    name: str
    title: str
    parts: list[CorpusPart]
    max_tokens: int = 256
    piece_chars: int = 1000
    min_chars: int = 15
    held_out: float = 0.02


@dataclass(frozen=True)
class Document:
    """One text as the model will read it; pieces of one document share `document`."""

    text: str
    part: str
    format: str
    source: str
    document: int
    held_out: bool


@dataclass(frozen=True)
class Corpus:
    """Documents with the recipe that chose them and what left on the way."""

    recipe: CorpusRecipe
    documents: tuple[Document, ...]
    counts: dict[str, int]

    def digest(self) -> str:
        """sha256 over recipe and texts."""
        whole = hashlib.sha256(self.recipe.model_dump_json().encode())
        for document in self.documents:
            whole.update(repr(document).encode())
        return whole.hexdigest()

    def of(self, part: str, *, held_out: bool) -> list[Document]:
        """Documents of one part on one side of the split, in order."""
        return [d for d in self.documents if d.part == part and d.held_out == held_out]

    def save(self, path: Path) -> None:
        """One compressed JSON-lines file, so that a machine without the sources can train."""
        lines = [{"recipe": self.recipe.model_dump(mode="json"), "counts": self.counts}, *map(vars, self.documents)]
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        publish(path, compressed(text.encode()))

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """A corpus written by `save`."""
        head, *rest = decompressed(path.read_bytes(), str(path)).decode("utf-8").split("\n")
        meta = json.loads(head)
        documents = tuple(Document(**json.loads(line)) for line in rest)
        return cls(CorpusRecipe.model_validate(meta["recipe"]), documents, meta["counts"])


def names() -> list[str]:
    """Corpus recipes that ship with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def recipe(name: str | Path) -> CorpusRecipe:
    """A shipped corpus recipe by name, or a YAML file by path."""
    path = Path(name)
    shipped = path.suffix not in {".yaml", ".yml"}
    if shipped and str(name) not in names():
        raise unknown("corpus recipe", str(name), names())
    if not shipped and not path.is_file():
        raise UserError(f"no corpus recipe file {str(path)!r}")
    try:
        text = (_folder() / f"{name}.yaml" if shipped else path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"corpus recipe {str(path)!r} is not UTF-8 ({error.reason} at byte {error.start})") from None
    return parsed(CorpusRecipe, text, f"corpus recipe {str(name)!r}")


def load(wanted: CorpusRecipe, *, near: Near | None = None) -> Corpus:
    """Read, clean, cut and split the texts of a recipe.

    near: whether each of some texts says nearly what a method will be tested on; those pieces leave, and are counted.
    """
    from theodolite.data.sources import rows

    counts: Counter[str] = Counter()
    seen: set[str] = set()
    documents: list[Document] = []
    for part in wanted.parts:
        for source in part.sources:
            texts = _clean(rows(source)["text"].astype(str).tolist(), wanted.min_chars, seen, counts)
            for text in texts:
                number = documents[-1].document + 1 if documents else 0
                held = _is_held_out(text, wanted.held_out)
                pieces = [text] if part.format == "chat" else split_pieces(text, wanted.piece_chars)
                kept = [piece for piece in pieces if len(piece) >= wanted.min_chars]
                counts["ends too short"] += len(pieces) - len(kept)
                documents += [Document(piece, part.name, part.format, source.source, number, held) for piece in kept]
    if near is not None:
        close = near([d.text for d in documents])
        counts["near a recipe row"] = int(close.sum())
        documents = [d for d, out in zip(documents, close, strict=True) if not out]
    return Corpus(wanted, tuple(documents), dict(counts))


def split_pieces(text: str, limit: int) -> list[str]:
    """Cut a text after sentences into pieces of at most `limit` characters; a longer sentence is cut anywhere.

    >>> split_pieces("One two. Three four. Five.", 12)
    ['One two.', 'Three four.', 'Five.']
    """
    pieces: list[str] = []
    for sentence in re.split(r"(?<=[.!?\n])\s+", text.strip()):
        for start in range(0, max(len(sentence), 1), limit):
            part = sentence[start : start + limit]
            if pieces and len(pieces[-1]) + 1 + len(part) <= limit:
                pieces[-1] += " " + part
            else:
                pieces.append(part)
    return pieces


def _clean(texts: list[str], min_chars: int, seen: set[str], counts: Counter[str]) -> list[str]:
    """Stripped texts without short ones and repetitions, which are counted."""
    kept = []
    for text in map(str.strip, texts):
        key = canonical(text)
        if len(text) < min_chars:
            counts["too short"] += 1
        elif key in seen:
            counts["repeated"] += 1
        else:
            seen.add(key)
            kept.append(text)
    return kept


def _is_held_out(text: str, share: float) -> bool:
    """Decided by the text alone, so that adding a source moves no document across the split."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < share * 2**64


def _folder() -> Any:
    return resources.files("theodolite.dictionaries") / "recipes"
