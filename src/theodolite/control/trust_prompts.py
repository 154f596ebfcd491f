"""Prompts on which selective steering is learnt, certified and tested: none of them is scored anywhere else."""

from collections.abc import Sequence

from theodolite.control.neutral_texts import neutral_texts
from theodolite.data.concept_fields import joined, occurs, spaced
from theodolite.data.concept_file import ConceptFile

N, QUICK_N = 400, 200  # prompts of a whole and of a quick run; three tenths of them certify
_SHORTEST = 3  # words that a beginning keeps
_MARKS = "\"'.,;:!?()[]«»“”‘’…-—–"


def trust_prompts(concept: ConceptFile, scored: Sequence[str], used: int, n: int = N) -> tuple[list[str], str]:
    """Return n prompts that nothing else is measured on, fewer where there are none left, and what they are.

    They are the concept's openings behind the scored ones, if these are at least n / 2: then the certificate is about
    prompts like the user's own. Most packaged concepts have about 110 openings of one kind, too few for four parts. For
    these the prompts are "beginnings": the first half of the words of neutral texts of other concepts. used: number of
    neutral texts, from the first, that strengths and damage are measured on. No prompt holds a target or stands in a
    training text.

    >>> from theodolite.data.concept_file import load
    >>> prompts, kind = trust_prompts(load("sentiment"), load("sentiment").openings[:100], 96, 200)
    >>> len(prompts), kind
    (200, 'beginnings')
    """
    left = [one for one in dict.fromkeys(concept.openings) if one not in set(scored)]
    if len(left) >= n / 2:
        return left[:n], "openings"
    targets = [one for side in (concept.fields.targets, concept.fields.unseen_targets) if side for one in side.all]
    read = joined(concept.texts.texts)
    found = dict.fromkeys(beginning(text) for text in neutral_texts(concept.name, used + 4 * n)[used:])
    usable = [
        one
        for one in found
        if not any(occurs(target, one) for target in targets) and f" {spaced(one)} " not in read and one not in scored
    ]
    return usable[:n], "beginnings"


def beginning(text: str) -> str:
    """Return the first half of a text's words, at least three, without a mark at the end: a word has to follow.

    >>> beginning("The soup was thin, and tasted of nothing.")
    'The soup was thin'
    """
    words = text.split()
    return " ".join(words[: max(_SHORTEST, len(words) // 2)]).rstrip(_MARKS)
