"""What a card says of a run that ended too soon, or was too short to say."""

import pytest

from theodolite.dictionaries import native
from theodolite.dictionaries.training import card
from theodolite.dictionaries.training.train import train


@pytest.mark.parametrize("ends", [[100, 210, 390, 800], [100, 333, 640, 800], [300, 450, 510, 800]])
def test_a_power_law_falls_by_its_exponent_wherever_blocks_end(ends: list[int]) -> None:
    curve = [{"tokens": t, "d": float(t**-0.3)} for t in ends] + [{"tokens": 1000, "d": 1e-9}]
    assert card.still_falling(curve, "d", decay_begins=800) == pytest.approx(1 - 2**-0.3, abs=1e-6)


@pytest.mark.parametrize(
    "curve",
    [
        [],
        [{"tokens": 500, "d": 0.5}, {"tokens": 999, "d": 0.4}],  # less than a doubling
        [{"tokens": 100, "d": 0.5}, {"tokens": 1200, "d": 0.4}],  # the last one after the decay began
        [{"tokens": 100, "e": 0.5}, {"tokens": 900, "d": 0.4}],
    ],
)
def test_without_a_doubling_nothing_is_said(curve: list[dict[str, float]]) -> None:
    assert card.still_falling(curve, "d", decay_begins=1000) is None


@pytest.mark.parametrize(
    ("l0s", "expected"),
    [
        ([32, 32, 32, 32], 0.5),
        ([300, 33, 31, 32], 0.5),  # at its L0 since a whole doubling
        ([300, 33, 90, 32], None),  # it only passed by
        ([300, 100, 50, 32], None),
        ([None, None, None, 32], 0.5),  # begun by a version that kept no L0
    ],
)
def test_fvu_is_compared_at_one_l0_only(l0s: list[float | None], expected: float | None) -> None:
    curve = [
        {"tokens": t, "d": 1 / t} | ({} if l0 is None else {"l0": l0})
        for t, l0 in zip([100, 200, 400, 800], l0s, strict=True)
    ]
    assert card.still_falling(curve, "d", decay_begins=1000) == (expected and pytest.approx(expected))


def test_a_run_of_one_block_is_neither_undertrained_nor_done(word_model, word_corpus, tmp_path) -> None:
    how = {"saes": ["topk(k=3, width=32)"], "controls": (), "tokens": 1400, "batch": 100, "block_rows": 1400}
    (path,) = train(word_model, ["blocks.0.resid_post"], word_corpus, tmp_path, **how).values()
    said = native.load(path).info["card"]
    assert (said["fell_over_last_doubling"], said["undertrained"]) == (None, None)
    assert "The run was too short to say whether more tokens would help." in (path / "card.md").read_text()
    ce = said["cross_entropy"]
    assert f"{ce['n']:,} tokens of {ce['n_groups']} texts" in (path / "card.md").read_text()
    assert ce["lost_lo"] <= ce["lost"] <= ce["lost_hi"]


def test_a_run_too_short_to_steer_its_l0_says_so(word_model, word_corpus, tmp_path) -> None:
    how = {"controls": (), "tokens": 1400, "batch": 100, "block_rows": 1400}
    saes = ["relu(target_l0=0.5, width=32)", "relu(width=32)"]
    steered, free = train(word_model, ["blocks.0.resid_post"], word_corpus, tmp_path, saes=saes, **how).values()
    said = native.load(steered).info["card"]
    l0 = said["domains"]["held-out documents"]["l0"]
    assert l0 > 0.55
    assert said["undertrained"] is True
    assert f"L0 on held-out documents is {l0:.1f}, where 0.5 was asked for." in (steered / "card.md").read_text()
    assert native.load(free).info["card"]["undertrained"] is None
    (_, _, line, _) = card.summary({path.name: native.read_config(path)["info"] for path in (steered, free)})
    assert line.endswith("undertrained")


@pytest.mark.parametrize(("l0", "expected"), [(10.9, False), (11.2, True), (8.8, True)])
def test_an_l0_a_tenth_from_its_target_is_a_run_that_was_too_short(l0: float, expected: bool) -> None:
    domain = "held-out documents"
    said = {"domains": {domain: {"l0": l0}}, "judged_on": domain, "fell_over_last_doubling": 0.01}
    assert card.undertrained(said, 10.0) is expected
    assert card.undertrained(said, None) is False
