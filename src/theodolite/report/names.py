"""Names and colours of methods and of the views they read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

DRAW = r"(?:random_direction|shuffled_labels)\(\w+=\d+\)"
CONTROLS = {"random_direction", "shuffled_labels", "majority"}
NAMES = {
    "lat": "LAT",
    "scikit": "scikit-learn classifier",
    "lda": "shrinkage LDA",
    "mlp": "MLP",
    "k_sparse": "k-sparse logistic",
    "word_ngrams": "word n-grams",
    "char_ngrams": "character n-grams",
    "cased_ngrams": "case-sensitive character n-grams",
    "surface": "surface form (casing, marks, white space)",
    "length": "text length",
    "sentence": "MiniLM embedding, logistic",
    "embedding": "mean token embedding, logistic",
    "random_direction": "random direction (range of draws)",
    "shuffled_labels": "shuffled labels (range of draws)",
}


@dataclass(frozen=True)
class Group:
    """Methods that look at the same thing: heading, words for a sentence, colour (after Okabe-Ito) and marker."""

    key: str
    title: str
    phrase: str
    colour: str
    marker: str


GROUPS = [
    Group("state", "Dense activations", "dense activations", "#0072B2", "o"),
    Group("latents", "SAE latents", "SAE latents", "#D55E00", "s"),
    Group("state+latents", "Dense + SAE latents", "dense activations and SAE latents", "#B4558F", "D"),
    Group("reconstruction", "SAE reconstruction", "the SAE's reconstruction", "#A67C00", "^"),
    Group("error", "SAE error", "the SAE's error", "#A67C00", "v"),
    Group("control", "Frozen-encoder SAE", "latents of the frozen-encoder SAE", "#8C6D5A", "P"),
    Group("answer", "The model's own answer", "", "#008060", "*"),
    Group("embedding", "Token embeddings", "", "#3B7FA8", "h"),
    Group("sentence", "Sentence embedding", "", "#3B7FA8", "p"),
    Group("text", "Text alone", "", "#333333", "X"),
    Group("chance", "Controls", "", "#6B6B6B", "d"),
    Group("", "Other", "", "#6B6B6B", "8"),
]


def group(method: str, view: str = "") -> Group:
    """The group of a method; without a view the part behind its @ decides, and nothing is guessed.

    >>> group("logistic@control").title, group("length", "text").title, group("mine").title
    ('Frozen-encoder SAE', 'Text alone', 'Other')
    """
    parsed = _parsed(method)
    key = "chance" if parsed.name in CONTROLS else view or parsed.view
    return next((g for g in GROUPS if g.key == key), GROUPS[-1])


def words(method: str, model: str = "") -> str:
    """A method's name in words; one that asks the model says which `model`, by its size.

    >>> words("k_sparse(k=16)@latents"), words("prompting(column=few_shot)", "135M"), words("lda@latents [text-only]")
    ('k-sparse logistic (k = 16)', 'prompting (135M, few-shot)', 'shrinkage LDA (text-only dictionary)')
    >>> words("scikit(estimator=SGDClassifier)"), words("lda@latents [untrained random encoder]")
    ('scikit-learn classifier (SGDClassifier)', 'shrinkage LDA (untrained random encoder)')
    """
    parsed = _parsed(method)
    said = [_said(param) for param in parsed.params.split(",") if param]
    if parsed.name == "prompting":
        said.insert(0, model)
    if parsed.dictionary:
        said.append(parsed.dictionary if untrained([method]) else f"{parsed.dictionary} dictionary")
    name = NAMES.get(parsed.name, parsed.name.replace("_", " "))
    return f"{name} ({', '.join(said)})" if said else name


def untrained(methods: Iterable[str]) -> dict[str, list[str]]:
    """Kinds of the untrained controls among methods, by the dictionary they stand beside ("": the compared one).

    >>> untrained(["lda", "lda@latents [untrained random encoder]", "lda@error [untrained random decoder of x]"])
    {'': ['random encoder'], 'x': ['random decoder']}
    """
    found: dict[str, list[str]] = {}
    for method in methods:
        if said := re.fullmatch(r"untrained (.+?)(?: of (.+))?", _parsed(method).dictionary):
            kinds = found.setdefault(said[2] or "", [])
            if said[1] not in kinds:
                kinds.append(said[1])
    return found


class _Parsed(NamedTuple):
    name: str
    params: str = ""
    view: str = ""
    dictionary: str = ""


def _parsed(method: str) -> _Parsed:
    """The parts of `name(params)@view [dictionary]`; what does not parse is a name."""
    found = re.fullmatch(r"(?:.*[/:])?([\w-]+)(?:\((.*)\))?(?:@([\w+]+))?(?: \[(.+)\])?", method)
    return _Parsed(*(part or "" for part in found.groups())) if found else _Parsed(method)


def _said(param: str) -> str:
    """`k=16` as "k = 16", and `column=zero_shot` as "zero-shot": a word needs no key."""
    key, _, value = param.strip().partition("=")
    return value.replace("_", "-") if value[:1].isalpha() else f"{key} = {value}"
