"""Every law of `checks/laws.py` on every reader we ship, and on some of them with other parameters or views."""

from collections.abc import Callable

import pytest

from theodolite.checks.check import case_for, law_result
from theodolite.checks.laws import LAWS, Case
from theodolite.core.discover import discover
from theodolite.core.methods import parse

READERS = [*discover(), "k_sparse(k=12)", "k_sparse(C=0.1)", "logistic(split=7)", "mlp(decay=3.0)@latents"]


@pytest.fixture(scope="module", params=READERS)
def case(request: pytest.FixtureRequest) -> Case:
    return case_for(parse(request.param))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], str], case: Case) -> None:
    verdict = law_result(law, case)
    assert verdict.passed, verdict.message


def test_the_readers_of_the_first_comparison_are_here() -> None:
    wanted = {"difference_in_means", "lat", "logistic", "ridge", "lda", "mlp", "k_sparse", "word_ngrams", "char_ngrams"}
    wanted |= {"length", "sentence", "embedding", "prompting", "random_direction", "shuffled_labels", "majority"}
    assert wanted <= set(discover())


def test_only_the_empty_readers_claim_nothing() -> None:
    nothing = {name for name, cls in discover().items() if not cls.learns}
    assert nothing == {"random_direction", "shuffled_labels", "majority", "prompting"}
    assert {name for name, cls in discover().items() if not cls.order_free} == {"lat", "shuffled_labels"}
