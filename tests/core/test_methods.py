"""Method specs: name, parameters, view; what they may hold and how mistakes are named."""

from pathlib import Path

import pytest

from theodolite.core.errors import UserError
from theodolite.core.methods import file_of, is_file, parse
from theodolite.readers.k_sparse import KSparse
from theodolite.readers.logistic import Logistic


@pytest.mark.parametrize(
    ("spec", "name", "params", "view", "canonical"),
    [
        ("logistic", "logistic", {}, "state", "logistic"),
        ("logistic@latents", "logistic", {}, "latents", "logistic@latents"),
        ("logistic@state+latents", "logistic", {}, "state+latents", "logistic@state+latents"),
        ("k_sparse(k=16)@latents", "k_sparse", {"k": 16}, "latents", "k_sparse(k=16)"),
        (
            "k_sparse( k=4, C=1e-2 )@control",
            "k_sparse",
            {"k": 4, "C": 0.01},
            "control",
            "k_sparse(k=4, C=0.01)@control",
        ),
        ("prompting(column=few_shot)", "prompting", {"column": "few_shot"}, "answer", "prompting(column=few_shot)"),
        ("prompting(column='few_shot')", "prompting", {"column": "few_shot"}, "answer", "prompting(column=few_shot)"),
        (" random_direction(draw=9) ", "random_direction", {"draw": 9}, "state", "random_direction(draw=9)"),
        ("logistic(split=None)", "logistic", {"split": None}, "state", "logistic(split=None)"),
        ("word_ngrams@text", "word_ngrams", {}, "text", "word_ngrams"),
    ],
)
def test_specs(spec: str, name: str, params: dict, view: str, canonical: str) -> None:
    method = parse(spec)
    assert (method.name, method.params, method.view, str(method)) == (name, params, view, canonical)
    assert parse(str(method)) == method


def test_a_reader_is_made_with_its_parameters_and_a_seed() -> None:
    reader = parse("k_sparse(k=3)").reader(seed=5)
    assert isinstance(reader, KSparse)
    assert (reader.k, reader.C) == (3, 0.1)
    assert parse("lat").reader(seed=5).seed == 5
    assert parse("lat(seed=2)").reader(seed=5).seed == 2


def test_a_file_may_stand_for_the_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from theodolite.readers.ridge import Ridge\nclass Mine(Ridge):\n    'Mine.'\n")
    method = parse(f"{tmp_path}/mine.py:Mine(alpha=3)@control")
    assert (method.name, method.spec, method.reader().alpha) == ("mine", "mine(alpha=3)@control", 3)


@pytest.mark.parametrize(
    "spec", ["mine.py", "mine.py:Mine", "lab/mine.py@control", "mine.py:Mine(alpha=3)@control", " mine.py "]
)
def test_a_file_is_one_with_and_without_its_class(spec: str) -> None:
    assert is_file(spec)
    assert file_of(spec).name == "mine.py"


@pytest.mark.parametrize("spec", ["logistic", "logistic@latents", "k_sparse(k=4)", "happy", "logistic(a='x.py')", ""])
def test_a_name_is_no_file(spec: str) -> None:
    assert not is_file(spec)


def test_a_registry_of_ones_own() -> None:
    assert parse("probe(C=1)", {"probe": Logistic}).cls is Logistic


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("logistik", "unknown method 'logistik': did you mean 'logistic'"),
        ("logistic(c=1)", "unknown parameter of logistic 'c' .*known: C, split"),
        ("logistic@latent", "unknown view 'latent': did you mean 'latents'"),
        ("logistic@text", "method 'logistic' reads the view 'state', it cannot read 'text'"),
        ("word_ngrams@state", "method 'word_ngrams' reads the view 'text', it cannot read 'state'"),
        ("prompting@state", "it cannot read 'state'"),
        ("logistic(C=print(1))", "cannot read the parameters of method"),
        ("logistic(1)", "cannot read the parameters of method"),
        ("logistic(C=)", "cannot read the parameters of method"),
        ("logistic(**{'C': 1})", "cannot read the parameters of method"),
        ("logistic(C=1", "cannot read method"),
        ("", "cannot read method"),
        ("@latents", "cannot read method"),
    ],
)
def test_mistakes_are_named(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(spec)


def test_a_class_that_is_no_reader(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    'Not one.'\n")
    with pytest.raises(UserError, match=r"Mine must subclass theodolite\.core\.reader\.Reader"):
        parse(f"{tmp_path}/mine.py")
