"""Texts on which the disturbance of a control is measured where nobody names others."""

from theodolite.data import concept_file
from theodolite.data.dataset import content_hash

N, TOKENS = 64, 24  # texts, and tokens of each that are read


def neutral_texts(but: str = "", n: int = N) -> list[str]:
    """Return texts of the negative classes of the packaged concepts, in turn, without those of one concept.

    Which they are depends on nothing else, so that a strength found on them is found again.

    >>> texts = neutral_texts("french")
    >>> len(texts), len(set(texts)), texts == neutral_texts("french")
    (64, 64, True)
    """
    by_concept = []
    for name in concept_file.names():
        if name != but:
            rows = concept_file.load(name).texts
            negative = {text for text, label in zip(rows.texts, rows.labels, strict=True) if label == 0}
            by_concept.append(sorted(negative, key=content_hash))
    in_turn = [texts[i] for i in range(n) for texts in by_concept if i < len(texts)]
    return list(dict.fromkeys(in_turn))[:n]
