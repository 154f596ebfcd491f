"""Directions of the nulls beside random ones: other concepts, halves of neutral text, stratified shuffles."""

from collections.abc import Sequence

import numpy as np

from theodolite.control.material import Material
from theodolite.control.neutral_texts import neutral_texts
from theodolite.control.nulls import half_differences, stratified_labels, unit
from theodolite.core.reader import class_means
from theodolite.data import concept_file

OTHER_CONCEPTS, NEUTRAL_HALVES, STRATIFIED = "other_concepts", "neutral_halves", "stratified_shuffles"
NULLS = (OTHER_CONCEPTS, NEUTRAL_HALVES, STRATIFIED)
TEXTS = 60  # of another concept, and of neutral text: what they cost is a few seconds for all of them

Array = np.ndarray


def null_directions(null: str, material: Material, m: int, *, concept: str, skip: int = 0) -> dict[str, Array]:
    """Return at most m unit directions (d) of one null of a concept, at the site of the material, each with its name.

    other_concepts: the difference in means of each other packaged concept, fitted as the method is. neutral_halves:
    between two random halves of neutral texts; the first `skip` of them, on which strengths are matched and damage is
    measured, are left out. stratified_shuffles: the difference in means of the training texts under labels that are
    shuffled within the classes.
    """
    if null == OTHER_CONCEPTS:
        return _of_other_concepts(material, m, concept)
    if null == NEUTRAL_HALVES:
        texts = neutral_texts(concept, skip + TEXTS)[skip:]
        found_md = half_differences(_rows(material, texts), np.arange(len(texts)), m)
    else:
        training = material.training
        # texts in an order of their own, so that the order of a table changes no draw
        rows_nd, label_n, group_n = (x[training.canonical] for x in (training.rows, training.labels, training.groups))
        shuffled_mn = stratified_labels(label_n, m, group_n=group_n)
        found_md = unit(np.array([_difference(rows_nd[one >= 0], one[one >= 0]) for one in shuffled_mn]))
    return {str(number): vector for number, vector in enumerate(found_md)}


def _of_other_concepts(material: Material, m: int, but: str) -> dict[str, Array]:
    found = {}
    for name in [name for name in concept_file.names() if name != but][:m]:
        own = concept_file.parts(concept_file.load(name), material.seed).direction
        # whole groups, in an order that only names them, so that both classes keep their pairs
        chosen = np.isin(own.groups, sorted(set(own.groups))[: TEXTS // 2])
        texts, label_n = own.at(chosen).texts, own.labels[chosen]
        found[name] = unit(_difference(_rows(material, texts), label_n)[None])[0]
    return found


def _rows(material: Material, texts: Sequence[str]) -> Array:
    """Pooled states (n, d) of texts, read as the training texts were."""
    how = {"positions": material.positions, "format": material.format}
    read = material.model.read(list(texts), material.site, pooling=material.pooling, **how)  # type: ignore[arg-type]
    return np.asarray(read[material.site].rows, float)


def _difference(rows_nd: Array, label_n: Array) -> Array:
    negative_d, positive_d = class_means(rows_nd, label_n)
    return np.asarray(positive_d, float) - np.asarray(negative_d, float)
