"""A claim file is data under a strict schema, and the shipped ones say what the debate says, in order."""

import re
from collections import Counter

import pytest

from theodolite.core import claim_file
from theodolite.core.errors import UserError
from theodolite.core.recipe import names as recipe_names

TEXT = """
name: dense-wins
area: reading
sentence: The dense probe wins.
source: somebody
command: theodolite compare weather
recipe: weather
digest: {digest}
fixed: before
rule:
  over: all
  regimes:
    drizzle:
      - {{task: contrast, metric: auroc, dataset: drizzle, method: logistic, versus: lat, lies: above, margin: 0.02}}
power: {{effect: 0.05, reason: planned}}
""".format(digest="a" * 64)


def test_a_claim_is_read_from_its_file() -> None:
    claim = claim_file.parse(TEXT, "dense-wins")
    (statement,) = claim.rule.regimes["drizzle"]
    assert (statement.method, statement.versus, statement.lies, statement.bound) == ("logistic", "lat", "above", 0)
    assert claim.digest == "a" * 64


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("lies: above", "lies: over", "lies: Input should be"),
        ("lies: above", "lies: above, code: 'os.remove'", "code: Extra inputs"),
        ("over: all", "over: most", "over"),
        ("margin: 0.02", "margin: -0.02", "greater than or equal to 0"),
        ("lies: above, margin: 0.02", "lies: within", "give a margin above 0"),
        ("effect: 0.05", "effect: 0", "greater than 0"),
        ("a" * 64, "abc", "digest"),
        ("compare weather\n", "compare sun\n", "must begin with `theodolite compare weather`"),
        ("fixed: before", "fixed: never", "fixed"),
        ("rule:\n", "rule: !!python/object:os.system\n", "cannot be parsed"),
        ("metric: auroc, ", "", "metric: Field required"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, says: str) -> None:
    assert old in TEXT
    with pytest.raises(UserError, match=re.escape(says)):
        claim_file.parse(TEXT.replace(old, new), "dense-wins")


def test_a_regime_states_something() -> None:
    text = re.sub(r"drizzle:\n.*\n", "drizzle: []\n", TEXT)
    with pytest.raises(UserError, match="regime 'drizzle' states nothing"):
        claim_file.parse(text, "dense-wins")


def test_an_unknown_claim_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'one-latent-is-not-enough'"):
        claim_file.load("one-latent-is-not-enuogh")


@pytest.mark.parametrize("name", claim_file.names())
def test_a_shipped_claim_is_whole(name: str) -> None:
    claim = claim_file.load(name)
    assert claim.sentence.endswith(".")
    assert not re.search('["\u201c\u201d]', claim.sentence), "in our words, and no quotation"
    assert (claim.digest is None) == (claim.recipe not in recipe_names()), "a recipe that ships has its digest here"
    if claim.digest is None:
        assert claim.fixed == "before"


def test_reading_and_control_are_both_claimed() -> None:
    areas = Counter(claim_file.load(name).area for name in claim_file.names())
    assert areas["reading"] >= 10
    assert areas["control"] >= 5
