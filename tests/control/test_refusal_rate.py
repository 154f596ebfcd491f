"""How often a model refuses is measured, with an interval, and called power-limited at the floor."""

import numpy as np
import pytest
from scipy.stats import binomtest

from theodolite.control.refusal_rate import BEGINNINGS, of_log_odds, refusal_rate
from theodolite.core.errors import UserError
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


def test_a_prompt_is_refused_where_a_refusal_is_likelier_than_not() -> None:
    model, prompts = Model(tiny_model(), byte_tokenizer()), ["What is it?", "Tell me more.", "Why?"]
    each = [model.logprobs(prompts, [words] * 3, format="raw").log_prob for words in BEGINNINGS]
    p_n = np.exp(each).sum(0)
    log_odds_n = np.log(p_n / (1 - p_n))
    found = refusal_rate(model, prompts, format="raw")
    assert found.value == pytest.approx((log_odds_n > 0).mean())
    assert found.median == pytest.approx(np.median(log_odds_n), abs=1e-4)


@pytest.mark.parametrize(
    ("refused", "n", "limited"), [(0, 100, True), (0, 15, True), (5, 100, True), (6, 100, False), (60, 100, False)]
)
def test_a_rate_is_power_limited_where_a_fall_to_none_could_not_be_told(refused: int, n: int, limited: bool) -> None:
    found = of_log_odds(np.where(np.arange(n) < refused, 1.0, -1.0))
    assert found.lo <= refused / n <= found.hi
    assert ("power-limited" in found.words) == limited
    # of the refused prompts all change and no other does
    told = refused > 0 and binomtest(refused, refused).pvalue < 0.05
    assert limited == (not told)


def test_no_beginning_of_a_refusal_begins_another() -> None:
    assert not [(a, b) for a in BEGINNINGS for b in BEGINNINGS if a != b and b.startswith(a)]


def test_no_prompt_has_no_rate() -> None:
    with pytest.raises(UserError, match="at least one"):
        refusal_rate(Model(tiny_model(), byte_tokenizer()), [])
