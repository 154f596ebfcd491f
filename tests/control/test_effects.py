"""Log-odds of targets and multiple choice: the formula by hand, and every way to compute it gives the same."""

import math

import numpy as np
import pytest

from theodolite.control.effects import (
    Choice,
    ScoredOpenings,
    Targets,
    check_apart,
    choice_openings,
    log_odds,
    margins,
    scored_choices,
)
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

OPENINGS = ["It is", "We see the", "A"]
PUSH = Intervention.add("blocks.1.resid_post", np.linspace(-1, 1, 32), 3.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


class ByPasses:
    """A policy that is no `Intervened`, as a prompt dial is: its longer targets are read in passes."""

    def __init__(self, model: Model, *changes: Intervention) -> None:
        self.inner = Intervened(model, changes)

    def predictions(self, passes: Passes):  # type: ignore[no-untyped-def]
        return self.inner.predictions(passes)

    def generate(self, prompts, how, *, format="raw"):  # type: ignore[no-untyped-def]
        return self.inner.generate(prompts, how, format=format)


def test_the_formula_by_hand() -> None:
    # positives "ab" (two tokens, p = .04) and "c" (p = .1); negative "d" (p = .05)
    log_prob = np.log([[0.04, 0.1, 0.05]])
    expected = math.log(math.sqrt(0.04) + 0.1) - math.log(0.05)
    assert log_odds(log_prob, np.array([2, 1, 1]), 2) == pytest.approx([expected])


def test_one_token_each_is_the_log_odds_of_two_sets(model: Model) -> None:
    scored = ScoredOpenings(model, OPENINGS, Targets(("a", "b"), ("c",)))
    trace = model.run(model.tokens(OPENINGS, format="raw"), interventions=PUSH, logits="last")
    p = trace.logits[:, 0].double().softmax(1)
    a, b, c = (model.tokenizer.encode(x, add_special_tokens=False)[0] for x in "abc")
    expected = ((p[:, a] + p[:, b]) / p[:, c]).log()
    assert scored.score(Intervened(model, (PUSH,))) == pytest.approx(expected.numpy(), rel=1e-4)


def test_the_unchanged_model_has_no_effect(model: Model) -> None:
    scored = ScoredOpenings(model, OPENINGS, Targets((" yes", "b"), (" no",)))
    assert scored.effect(Intervened(model)).tolist() == [0, 0, 0]
    assert abs(scored.effect(Intervened(model, (PUSH,)))).min() > 1e-3


@pytest.mark.parametrize("changes", [(), (PUSH,)])
def test_keys_and_passes_give_the_same_long_targets(model: Model, changes: tuple[Intervention, ...]) -> None:
    scored = ScoredOpenings(model, OPENINGS, Targets((" yes", "b"), (" no", " never")))
    by_keys = scored.log_probs(Intervened(model, changes))
    assert by_keys == pytest.approx(scored.log_probs(ByPasses(model, *changes)), rel=1e-4)
    every = model.logprobs(
        np.repeat(OPENINGS, 4).tolist(), list(scored.targets.all) * 3, interventions=changes, format="raw"
    )
    assert by_keys == pytest.approx(every.log_prob.reshape(3, 4), rel=1e-4)
    assert scored.n_tokens.tolist() == [4, 1, 3, 6]


def test_an_opening_does_not_depend_on_its_neighbours(model: Model) -> None:
    targets = Targets((" yes",), (" no",))
    together = ScoredOpenings(model, OPENINGS, targets).score(Intervened(model, (PUSH,)))
    alone = [ScoredOpenings(model, [one], targets).score(Intervened(model, (PUSH,)))[0] for one in OPENINGS]
    assert together == pytest.approx(alone, rel=1e-4)


def test_targets_that_begin_with_each_other_are_refused(model: Model) -> None:
    for bad in (("a", "ab"), ("ab", "a"), ("a", "a")):
        with pytest.raises(UserError, match="begins with the target"):
            ScoredOpenings(model, OPENINGS, Targets(bad, ("c",)))
    with pytest.raises(UserError, match="' aab' begins with the target ' a'"):
        check_apart([" aab", " b", " a"], [[1, 1, 2], [3], [1]])
    with pytest.raises(UserError, match="at least one positive"):
        Targets((), ("a",))


def test_an_opening_that_would_be_cut_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match="opening 1 has more than"):
        ScoredOpenings(model, ["a", "b" * 400], Targets(("a",), ("b",)))


def test_unseen_targets_share_no_token(model: Model) -> None:
    targets = Targets(("ax", "yz"), ("bz", "w"))
    assert targets.unseen(model, ["a big cab"]) == Targets(("yz",), ("w",))
    with pytest.raises(UserError, match="0 positive and 2 negative"):
        targets.unseen(model, ["xy"])


def test_the_pull_of_a_letter_cancels_between_orders() -> None:
    # preferences 1 and -.5 under a pull of 2 towards A: the letter A wins all four times
    found = margins(np.array([3.0, 1.5, 1.0, 2.5]))
    assert found.preference.tolist() == [1.0, -0.5]
    assert found.letter.tolist() == [2.0, 2.0]
    assert found.consistent == 0
    assert margins(np.array([1.0, -1.0])).consistent == 1


def test_choices_are_asked_in_both_orders(model: Model) -> None:
    choices = [Choice("Which is warm?", "fire", "ice"), Choice("Which is up?", "sky", "ground")]
    first, other, second, _ = choice_openings(choices)
    assert first == "Question: Which is warm?\n(A) fire\n(B) ice\nAnswer: ("
    assert second == "Question: Which is warm?\n(A) ice\n(B) fire\nAnswer: ("
    assert "up" in other
    turned = [Choice(one.question, one.negative, one.positive) for one in choices]
    plain, swapped = (
        margins(scored_choices(model, these).score(Intervened(model, (PUSH,)))) for these in (choices, turned)
    )
    assert plain.preference == pytest.approx(-swapped.preference, abs=1e-5)
    assert plain.letter == pytest.approx(swapped.letter, abs=1e-5)
