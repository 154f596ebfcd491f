"""Faults of a concept file or a pair file, found before any model runs, in plain words."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from theodolite.core.errors import UserError
from theodolite.data import pair_file
from theodolite.data.clean import MIN_PER_CLASS
from theodolite.data.concept_fields import joined, prefixes, spaced
from theodolite.data.concept_file import ConceptFile, LabelledTexts, faults
from theodolite.data.leakage import leaks
from theodolite.data.near_duplicates import gram_counts, inverse_frequency
from theodolite.data.pair_file import Pair

Level = Literal["error", "warning", "note"]
Tokens = Callable[[Sequence[str]], list[list[int]]]  # token ids of each text, without control tokens
ERROR: Level = "error"
WARNING: Level = "warning"
SHOWN = 5  # texts quoted for one finding


@dataclass(frozen=True)
class Finding:
    """One result of the check; `quoted` holds the texts it is about, which are shown only where they may be."""

    level: Level
    words: str
    quoted: tuple[str, ...] = ()


def check_concept(concept: ConceptFile, tokens: Tokens | None = None) -> list[Finding]:
    """Everything that can be said about a concept without a model; with its tokenizer, shared vocabulary too."""
    return [
        *_counts(concept),
        *_rows(concept),
        *_groups(concept.texts),
        *_near(concept, ("shift", "classifier")),
        *_openings(concept),
        *_targets(concept),
        *_unseen(concept, tokens),
        *_choices(concept, tokens),
    ]


def refuse_seen(concept: ConceptFile) -> None:
    """Refuse a concept whose classifier, openings or unseen targets hold what its directions are fitted on.

    A comparison calls these unseen, so it cannot take them; the words are those of `check_concept`.
    """
    seen = [*_near(concept, ("classifier",)), *_inside(concept), *_unseen(concept, None), *_choices(concept, None)]
    if wrong := [finding.words for finding in seen if finding.level == ERROR]:
        raise UserError(
            f"concept {concept.name!r}: {'; '.join(wrong)}: change them in its file, of which `theodolite data check` "
            "shows each text"
        )


def check_pairs(pairs: Sequence[Pair], tokens: Tokens | None = None) -> list[Finding]:
    """Everything that can be said about pairs without a model; with its tokenizer, their lengths in tokens."""
    groups = Counter(pair.group for pair in pairs)
    found = [
        Finding("note", f"{len(pairs)} pairs in {len(groups)} groups, the largest of {max(groups.values(), default=0)}")
    ]
    if not pairs:
        return [Finding("error", "the file holds no pairs")]
    for row, pair in enumerate(pairs):
        found += [Finding("error", f"row {row}: {wrong}", pair.texts()) for wrong in pair_file.faults(pair)]
    begun = [
        row
        for row, pair in enumerate(pairs)
        if pair.answer != pair.counter_answer and prefixes([pair.answer, pair.counter_answer])
    ]
    if begun:
        words = f"{len(begun)} pairs have an answer that is the beginning of the other: only their first tokens differ"
        found.append(Finding("warning", f"{words}, the first is row {begun[0]}"))
    copies = [pair for pair, n in Counter(pair.texts() for pair in pairs).items() if n > 1]
    if copies:
        found.append(Finding("warning", f"{len(copies)} pairs occur more than once", copies[0]))
    return [*found, *_lengths(pairs, tokens)]


def _lengths(pairs: Sequence[Pair], tokens: Tokens | None) -> list[Finding]:
    """Pairs of unequal length, of which no position of one text is that of the other."""
    if tokens is None:
        lengths = [[len(text.split()) for text in pair.texts()] for pair in pairs]
        unit, level = "words (give --model to count its tokens)", WARNING
    else:
        lengths = [[len(ids) for ids in tokens(pair.texts())] for pair in pairs]
        unit, level = "tokens", ERROR
    unequal = [row for row, (one, other) in enumerate(lengths) if one != other]
    if not unequal:
        return []
    words = f"{len(unequal)} of {len(pairs)} pairs differ in their number of {unit}, the first is row {unequal[0]}"
    return [Finding(level, words, pairs[unequal[0]].texts())]


def _parts(concept: ConceptFile) -> dict[str, LabelledTexts]:
    named = {"texts": concept.texts, "shift": concept.shift, "classifier": concept.classifier}
    return {name: rows for name, rows in named.items() if rows is not None}


def _counts(concept: ConceptFile) -> list[Finding]:
    found = []
    for name, rows in _parts(concept).items():
        positive = int(rows.labels.sum())
        found.append(
            Finding(
                "note",
                f"{name}: {positive} {concept.fields.positive}, {len(rows) - positive} {concept.fields.negative}, "
                f"{len(set(rows.groups))} groups",
            )
        )
        few = min(positive, len(rows) - positive)
        if 0 < few < MIN_PER_CLASS:
            found.append(Finding("error", f"{name}: {few} texts of one class, and {MIN_PER_CLASS} are needed"))
    return found


def _rows(concept: ConceptFile) -> list[Finding]:
    found = []
    for name, rows in _parts(concept).items():
        found += [Finding("error", f"{name}: {wrong}") for wrong in faults(rows, concept.fields)]
        copies = [text for text, n in Counter(map(spaced, rows.texts)).items() if n > 1 and text]
        if copies:
            found.append(Finding("warning", f"{name}: {len(copies)} texts occur more than once", tuple(copies[:SHOWN])))
    return found


def _groups(rows: LabelledTexts) -> list[Finding]:
    """Groups against classes: only a group that holds both shows the concept apart from the group."""
    classes = {group: set(rows.labels[rows.groups == group].tolist()) for group in set(rows.groups)}
    both = sum(len(labels) == 2 for labels in classes.values())
    largest = Counter(rows.groups).most_common(1)[0][1] if len(rows) else 0
    if largest == 1:
        return [Finding("note", "no groups: every text is one of its own")]
    found = [
        Finding("note", f"{both} of {len(classes)} groups hold both classes, the largest group has {largest} texts")
    ]
    if not both:
        found.append(
            Finding("warning", "no group holds both classes: what tells the classes apart may be the group's topic")
        )
    lone = [label for label in (0, 1) if sum(label in labels for labels in classes.values()) == 1]
    words = "all texts of label {} are one group, which cannot be divided"
    return [*found, *(Finding("error", words.format(label)) for label in lone)]


def _near(concept: ConceptFile, parts: Sequence[str]) -> list[Finding]:
    """Near-copies of `texts` in these other parts, which would be tested on what was fitted."""
    found: list[Finding] = []
    idf = inverse_frequency(gram_counts(concept.texts.texts)) if len(concept.texts) else None
    for name, rows in _parts(concept).items():
        if name not in parts or idf is None or not len(rows):
            continue
        near = leaks(rows.texts, {"texts": concept.texts.texts}, idf)["texts"]
        if near.any():
            quoted = tuple(rows.at(near).texts[:SHOWN])
            found.append(Finding("error", f"{name}: {int(near.sum())} texts are near-copies of one of `texts`", quoted))
    return found


def _openings(concept: ConceptFile) -> list[Finding]:
    found = [Finding("note", f"{len(concept.openings)} openings")]
    if len(concept.openings) < MIN_PER_CLASS:
        found.append(Finding("error", f"{len(concept.openings)} openings, and {MIN_PER_CLASS} are needed"))
    found += _inside(concept)
    trailing = [opening for opening in concept.openings if opening != opening.rstrip()]
    if trailing:
        words = f"{len(trailing)} openings end in a space, which is a token of its own for most models: remove it"
        found.append(Finding("warning", words))
    return found


def _inside(concept: ConceptFile) -> list[Finding]:
    """Openings that a text of the concept holds, which would be judged on what was fitted."""
    read = joined([text for rows in _parts(concept).values() for text in rows.texts])
    inside = [opening for opening in concept.openings if f" {spaced(opening)} " in read]
    if not inside:
        return []
    return [Finding("error", f"{len(inside)} openings stand in a text of the concept", tuple(inside[:SHOWN]))]


def _targets(concept: ConceptFile) -> list[Finding]:
    fields = concept.fields
    if fields.targets is None:
        return [Finding("note", "no targets: effects are measured by a classifier on generated text alone")]
    found = []
    both = [*fields.targets.all, *(fields.unseen_targets.all if fields.unseen_targets else [])]
    for name, targets in (("targets", fields.targets), ("unseen_targets", fields.unseen_targets)):
        if targets is None:
            continue
        n, m = len(targets.positive), len(targets.negative)
        found.append(Finding("note", f"{name}: {n} positive, {m} negative"))
        bare = [target for target in targets.all if not target.startswith((" ", "\n"))]
        if bare:
            words = f"{name}: {len(bare)} do not begin with a space, so they go on with the opening's last word"
            found.append(Finding("warning", words, tuple(bare[:SHOWN])))
    if shared := prefixes(both):
        words = f"{len(shared)} targets are the beginning of one of the unseen targets, or the other way round"
        found.append(Finding("error", words, shared[0]))
    read = joined(concept.openings)
    inside = [target for target in both if f" {spaced(target)} " in read]
    if inside:
        found.append(Finding("warning", f"{len(inside)} targets occur in an opening", tuple(inside[:SHOWN])))
    return found


def _unseen(concept: ConceptFile, tokens: Tokens | None) -> list[Finding]:
    """Unseen targets that training texts share a word with, or a token of the model's."""
    if concept.fields.unseen_targets is None:
        return []
    targets = concept.fields.unseen_targets.all
    seen = {word for text in concept.texts.texts for word in spaced(text).split()}
    shared = [target for target in targets if set(spaced(target).split()) & seen]
    unit = "word"
    if tokens is not None and not shared:
        ids = {token for row in tokens(concept.texts.texts) for token in row}
        shared = [t for t, row in zip(targets, tokens(targets), strict=True) if row and row[0] in ids]
        unit = "first token"
    if not shared:
        return []
    words = f"unseen_targets: {len(shared)} share their {unit} with a text: choose others"
    return [Finding("error", words, tuple(shared[:SHOWN]))]


def _choices(concept: ConceptFile, tokens: Tokens | None) -> list[Finding]:
    """Questions in which nothing can be preferred or which are asked again, and letters that a tokenizer lacks."""
    choices = concept.fields.choices
    if choices is None:
        return []
    found = [Finding("note", f"choices: {len(choices)} questions")]
    asked = [(one.question.strip(), one.positive.strip(), one.negative.strip()) for one in choices]
    times, pairs = Counter(asked), set(asked)
    faulty: list[tuple[Level, str, list[bool]]] = [
        (ERROR, "have an empty question or answer", [not all(parts) for parts in asked]),
        (ERROR, "have two equal answers", [a == b for _, a, b in asked]),
        # each is asked in both orders, so that its answers the other way round cancel it
        (ERROR, "occur with their answers exchanged", [a != b and (q, b, a) in pairs for q, a, b in asked]),
        (WARNING, "occur more than once", [times[parts] > 1 for parts in asked]),
    ]
    for level, words, is_faulty in faulty:
        if some := [question for (question, *_), wrong in zip(asked, is_faulty, strict=True) if wrong]:
            found.append(Finding(level, f"choices: {len(some)} of {len(asked)} {words}", tuple(some[:SHOWN])))
    if tokens is not None:
        first, second = (row[:1] for row in tokens(["A", "B"]))  # the letters that are scored as answers
        if not first or first == second:
            found.append(Finding(ERROR, "choices: this tokenizer does not tell the letters A and B apart"))
    return found
