"""Debates of planted Runs, whose answer is known: the same order, the opposite one, none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_debate import LABELS, METHODS, reading, steering
from spoilt import check_pages

from theodolite.control.statistics import contrast, mean_effect
from theodolite.core.recipe import Contrast
from theodolite.core.run import Run
from theodolite.core.stats import share_bounds
from theodolite.debate import joined
from theodolite.debate.figures import Debate, Side, _mean_of_point, conclude
from theodolite.debate.joined import Read, Steered, axis, read_of, steered_of
from theodolite.debate.recipe import READERS
from theodolite.report import debate_page, html

SKILL = [3.2, 2.0, 0.3, 1.6, 1.2, 0.7]
EFFECT = [3.0, 2.5, 0.5, 2.0, 1.5, 1.0]  # the same order
UNRELATED = [1.5, 2.5, 1.0, 0.5, 2.0, 3.0]  # rank correlation -.03


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the draws: the known answers do not need more."""
    monkeypatch.setattr(joined, "N_BOOT", 500)


def side(place: Path, skill: Sequence[float], effect: Sequence[float], concept: str = "joy", **how: Any) -> Side:
    runs = reading(place / f"r-{concept}", skill), steering(place / f"s-{concept}", effect, **how)
    return Side(steered_of(runs[1], concept), read_of(runs[0], READERS))


def concluded(sides: Sequence[Side], **more: Any) -> tuple[dict[tuple[str, ...], Any], dict[str, Any]]:
    rows, facts = conclude(Debate(sides, READERS, **more))
    key = ("task", "dataset", "method", "metric", "versus")
    return {tuple(one.get(name, "") for name in key): one for one in rows}, facts


def correlation(rows: Any, concept: str = "joy", metric: str = "rank_correlation") -> Any:
    return rows["debate", concept, "", metric, ""]


def test_the_same_order_is_a_correlation_of_1_and_the_best_reader_is_the_best_controller(tmp_path: Path) -> None:
    rows, facts = concluded([side(tmp_path, SKILL, EFFECT)])
    found = correlation(rows)
    assert (found["value"], found["hi"], found["n"]) == (1.0, 1.0, 6)
    assert found["lo"] > 0.7
    answer = facts["concepts"][0]["answers"]["effect_written"]
    assert (answer["word"], answer["best_reader"], answer["best_controller"]) == ("is", METHODS[0], METHODS[0])


def test_the_opposite_order_is_a_correlation_of_minus_1_and_another_method_is_the_best_controller(
    tmp_path: Path,
) -> None:
    rows, facts = concluded([side(tmp_path, SKILL, [-e for e in EFFECT])])
    found = correlation(rows)
    assert (found["value"], found["lo"]) == (-1.0, -1.0)
    assert found["hi"] < -0.7
    answer = facts["concepts"][0]["answers"]["effect_written"]
    assert (answer["word"], answer["best_controller"]) == ("is not", "latent")


def test_an_unrelated_order_has_an_interval_that_covers_0(tmp_path: Path) -> None:
    rows, _ = concluded([side(tmp_path, SKILL, UNRELATED, noise=4.0)])
    found = correlation(rows)
    assert found["lo"] < 0 < found["hi"]
    assert rows["debate", "joy", "", "rank_correlation:p", ""]["value"] > 0.05


def test_methods_that_are_nearly_equal_leave_the_answer_open(tmp_path: Path) -> None:
    close = [2.0, 2.02, 0.3, 1.98, 1.2, 0.7]
    _, facts = concluded([side(tmp_path, close, EFFECT)])
    answer = facts["concepts"][0]["answers"]["effect_written"]
    assert answer["word"] == "open"
    assert set(answer["may_read_best"]) == {"difference_in_means", "logistic", "latent_set"}
    assert answer["may_control_best"] == ["difference_in_means"]


def test_the_points_are_the_means_of_the_two_runs(tmp_path: Path) -> None:
    planted = side(tmp_path, SKILL, EFFECT)
    rows, _ = concluded([planted])
    for name, method, by in zip(LABELS, METHODS, EFFECT, strict=True):
        auroc = rows["debate", "joy", method, "auroc", ""]
        assert auroc["params"] == {"reader": name}
        assert auroc["lo"] < auroc["value"] < auroc["hi"] <= 1
        assert (auroc["n"], auroc["n_groups"]) == (120, 60)
        effect = rows["debate", "joy", method, "effect_written", ""]
        assert effect["value"] == pytest.approx(by, abs=0.2)
        assert effect["lo"] < by < effect["hi"]
        metrics = ("effect_ngrams", "effect_sentence")
        each = [planted.steered.effects[method, metric].mean() for metric in metrics]
        assert effect["value"] == pytest.approx(np.mean(each))


def test_an_interval_of_a_point_is_that_of_the_house(tmp_path: Path) -> None:
    """Within the noise of the draws it is what a comparison prints: rows and refits, with Student's t."""
    read = read_of(reading(tmp_path / "r", SKILL), READERS)
    estimate = read.estimates["logistic"][0]
    draws = axis([[estimate]], 5, "x").draws[:, 0]
    lo, hi = np.quantile(draws, [0.025, 0.975])
    ours = share_bounds(float(estimate.seeds.mean()), (hi - lo) / 2, 60)
    printed = estimate.interval()
    assert ours == pytest.approx((printed.lo, printed.hi), abs=0.02)


def test_effects_and_contrasts_have_the_intervals_that_the_steering_run_prints(tmp_path: Path) -> None:
    """A Run of control knows its openings by number, and its table has these numbers as words, in another order."""
    one = side(tmp_path, SKILL, EFFECT)
    table = steering(tmp_path / "again", EFFECT).read_table("effects")
    assert table is not None
    wide = table[table["metric"] == "effect_targets"].pivot(index="group", columns=["method", "split"], values="effect")
    wide = wide.loc[[str(i) for i in range(len(wide))]]
    first, second = (((wide[m]["+"] - wide[m]["-"]) / 2).to_numpy() for m in METHODS[:2])
    rows, _ = concluded([one], contrasts=[Contrast(method=METHODS[0], than=METHODS[1])])
    printed = {
        ("debate", "joy", METHODS[0], "effect_targets", ""): mean_effect(first, np.arange(len(wide))),
        ("debate-contrast", "joy", METHODS[0], "effect_targets", METHODS[1]): contrast(
            first, second, np.arange(len(wide))
        ),
    }
    for key, wanted in printed.items():
        found = rows[key]
        assert (found["value"], found["lo"], found["hi"]) == pytest.approx((wanted.value, wanted.lo, wanted.hi))


def test_refits_widen_the_draws_only_where_there_are_enough(tmp_path: Path) -> None:
    read = read_of(reading(tmp_path / "r", SKILL), READERS)
    estimates = [[read.estimates["logistic"][0]]]
    assert axis(estimates, 5, "x").draws.std() > axis(estimates, 6, "x").draws.std()


def test_a_method_without_a_counterpart_is_absent_and_has_no_point(tmp_path: Path) -> None:
    rows, facts = concluded([side(tmp_path, SKILL, [*EFFECT[:5], np.nan])])
    assert {(one["method"], one["why"]) for one in facts["concepts"][0]["absent"]} == {
        ("logit_bias", "no reader"),
        ("prompt", "not matched"),
    }
    assert correlation(rows)["n"] == 5
    assert ("debate", "joy", "prompt", "auroc", "") not in rows


def test_without_a_usable_classifier_the_primary_correlation_is_not_a_number(tmp_path: Path) -> None:
    rows, facts = concluded([side(tmp_path, SKILL, EFFECT, usable=False)])
    assert np.isnan(correlation(rows)["value"])
    assert correlation(rows, metric="rank_correlation:effect_targets")["value"] == 1
    assert list(facts["concepts"][0]["answers"]) == ["effect_targets"]


def test_the_order_of_rows_and_methods_changes_no_number(tmp_path: Path) -> None:
    run = reading(tmp_path / "r", SKILL), steering(tmp_path / "s", EFFECT)
    mixed = [Run.open(one.folder) for one in run]
    frames = {"scores": run[0].scores.sample(frac=1, random_state=1)}
    table = run[1].read_table("effects")
    assert table is not None
    frames["effects"] = table.sample(frac=1, random_state=2)
    mixed[0].__class__ = type("Shuffled", (Run,), {"scores": frames["scores"]})
    mixed[1].__class__ = type("Shuffled", (Run,), {"read_table": lambda self, name: frames[name]})
    ends = [concluded([Side(steered_of(s, "joy"), read_of(r, READERS))])[0] for r, s in (run, tuple(mixed))]
    assert ends[0].keys() == ends[1].keys()
    for key, one in ends[0].items():
        for name in {"value", "lo", "hi"} & one.keys():
            assert one.get(name) == pytest.approx(ends[1][key].get(name), rel=1e-6, abs=1e-6, nan_ok=True), key


def test_several_concepts_have_a_mean_of_the_correlations_and_of_the_contrasts(tmp_path: Path) -> None:
    # each with noise of its own: concepts that err as one and differ in nothing are one concept
    sides = [side(tmp_path, SKILL, [e + 0.1 * k for e in EFFECT], f"c{k}", seed=k) for k in range(3)]
    alone = [Side(steered_of(steering(tmp_path / f"a{k}", EFFECT, seed=k + 5), f"a{k}")) for k in range(2)]
    pairs = [Contrast(method="latent_set", than="difference_in_means"), Contrast(method="logistic", than="logit_bias")]
    rows, facts = concluded([*sides, *alone], contrasts=pairs, margin=0.2)
    assert correlation(rows, "all")["value"] == 1
    assert correlation(rows, "all")["n"] == 3
    assert facts["overall"]["effect_written"]["n"] == 3
    over = rows["debate-contrast", "all", "latent_set", "effect_written", "difference_in_means"]
    assert (over["n"], over["value"] < 0, over["hi"] < 0) == (5, True, True)
    assert over["lo"] < -1.0 < over["hi"]
    # on single concepts verdicts are of those that are read too
    single = {key[1] for key in rows if key[0] == "debate-contrast"} - {"all"}
    assert single == {"c0", "c1", "c2"}
    everywhere = rows["debate", "all", "logistic", "effect_written", ""]
    assert everywhere["value"] == pytest.approx(2.6, abs=0.15)


def test_concepts_on_the_same_openings_err_together_in_the_mean_of_a_contrast(tmp_path: Path) -> None:
    """The planted effect of an opening is the same in all concepts, and half of a method's scatter."""
    runs = [steering(tmp_path / f"s{k}", EFFECT, seed=k) for k in range(3)]
    common = [steered_of(run, f"c{k}") for k, run in enumerate(runs)]
    size = len(common[0].groups)
    shared = np.random.default_rng(9).normal(size=size)
    moved = [
        replace(one, effects={key: e + shared * (key[0] == METHODS[0]) for key, e in one.effects.items()})
        for one in common
    ]
    # the same numbers, on openings whose texts no other concept has
    own = [replace(one, openings=np.array([f"{one.concept} {i}" for i in range(size)])) for one in moved]
    pair = [Contrast(method=METHODS[0], than=METHODS[1])]
    both = [concluded([Side(one) for one in each], contrasts=pair)[1]["contrasts"] for each in (moved, own)]
    together, apart = (next(c for c in each if c["metric"] == "effect_targets") for each in both)
    assert together["value"] == pytest.approx(apart["value"], abs=0.02)
    assert together["se"] > 1.4 * apart["se"]  # sqrt(3) if all errors were one


def test_a_contrast_without_an_error_is_left_out_and_counted(tmp_path: Path) -> None:
    sides = [Side(steered_of(steering(tmp_path / f"s{k}", EFFECT, seed=k), f"c{k}")) for k in range(4)]
    still = {key: np.zeros_like(effect) for key, effect in sides[0].steered.effects.items()}
    lacking = {key: effect for key, effect in sides[1].steered.effects.items() if key[0] != METHODS[1]}
    for number, effects in enumerate((still, lacking)):
        sides[number] = Side(replace(sides[number].steered, effects=effects))
    rows, facts = concluded(sides, contrasts=[Contrast(method=METHODS[0], than=METHODS[1])])
    row = rows["debate-contrast", "all", METHODS[0], "effect_written", METHODS[1]]
    assert (row["n"], row["n_unscored"]) == (2, 2)
    assert facts["contrasts"][0]["n_left_out"] == 2


def test_an_auroc_of_1_does_not_outweigh_the_other_concepts(tmp_path: Path) -> None:
    # the draws of a perfect reader have no error; what so few groups may hide is one
    sides = [side(tmp_path, [9.0, *SKILL[1:]], EFFECT, "c0"), side(tmp_path, [2.6, *SKILL[1:]], EFFECT, "c1")]
    rows, _ = concluded(sides)
    single = [rows["debate", concept, METHODS[0], "auroc", ""] for concept in ("c0", "c1")]
    assert single[0]["value"] == 1
    # its interval has one side only, which is not half of one
    assert _mean_of_point(sides[0], single[0]).sd_rows == pytest.approx((1 - single[0]["lo"]) / 1.96, rel=1e-3)
    over = rows["debate", "all", METHODS[0], "auroc", ""]
    assert single[1]["value"] < over["value"] < 1
    assert over["lo"] < single[1]["value"]
    assert over["hi"] == 1  # an AUROC is at most that, whatever Student's t over two concepts says


def test_one_method_alone_is_not_the_best_of_anything(tmp_path: Path) -> None:
    runs = reading(tmp_path / "r", SKILL), steering(tmp_path / "s", EFFECT)
    alone = {METHODS[0]: READERS[METHODS[0]]}
    _, facts = conclude(Debate([Side(steered_of(runs[1], "joy"), read_of(runs[0], alone))], alone))
    answer = facts["concepts"][0]["answers"]["effect_written"]
    assert (answer["methods"], answer["word"]) == ([METHODS[0]], "open")


def test_the_family_of_holm_is_contrasts_by_concepts_that_are_read(tmp_path: Path) -> None:
    """Six contrasts that nothing lies behind: the smallest p counts six times."""
    flat = [1.0] * 6
    sides = [side(tmp_path, SKILL, flat, f"c{k}", seed=k) for k in range(3)]
    pairs = [Contrast(method="latent_set", than="difference_in_means"), Contrast(method="logistic", than="logit_bias")]
    _, facts = concluded(sides, contrasts=pairs)
    lines = [one for one in facts["contrasts"] if one["metric"] == "effect_targets" and one["concept"] != "all"]
    alone = []
    for one in sides:
        rows, _ = conclude(Debate([one], READERS, pairs[:1]))
        alone += [r["value"] for r in rows if r["metric"] == "effect_targets:p_holm"]
        rows, _ = conclude(Debate([one], READERS, pairs[1:]))
        alone += [r["value"] for r in rows if r["metric"] == "effect_targets:p_holm"]
    assert len(lines) == len(alone) == 6
    assert 6 * min(alone) < 1  # at its limit of 1 a p says nothing about how often it counts
    assert min(one["p_holm"] for one in lines) == pytest.approx(6 * min(alone))


def finished(folder: Path) -> Run:
    """A finished debate of one concept whose best reader is its worst controller."""
    rows, facts = conclude(Debate([side(folder, SKILL, [-e for e in EFFECT])], READERS))
    run = Run.create(folder / "d", {"name": "debate/joy", "kind": "debate", "title": "Joy"}, "0" * 64)
    run.record("model", {"name": "planted", "hash": "x", "quantisation": "dequantised Q4_1", "parameters": 134_515_008})
    run.record("runs", [])
    run.add_rows(rows)
    run.write_json("debate", facts)
    run.finish()
    return run


def test_the_words_of_the_answer(tmp_path: Path) -> None:
    run = finished(tmp_path)
    facts = run.read_json("debate")
    said = debate_page.answer(run, facts["concepts"][0])
    assert said.startswith("On dequantised Q4_1 135M, the best reader of joy (difference in means, AUROC .9")
    assert "under shift) is not its best controller among methods that have a reader" in said
    assert " (in this run that is one latent, " in said
    assert said.endswith("over 6 methods.")
    assert "rank correlation −1.000" in said
    drawn = debate_page.figure(run)
    assert drawn is not None
    assert drawn.svg() == debate_page.figure(run).svg()  # type: ignore[union-attr]
    table = debate_page.points(run)
    assert any("no reader is its counterpart" in cell.small for line in table.lines for cell in line.cells)


def test_a_page_of_spoilt_facts_is_an_error_or_holds_no_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path)
    monkeypatch.setattr(debate_page, "debate_chart", lambda *given: None)  # drawing takes most of the time

    def page(facts: Any) -> str:
        monkeypatch.setattr(Run, "read_json", lambda self, name: facts)
        return html.page(run)

    check_pages(run.read_json("debate"), page, "debate.json")


def test_the_types_of_what_is_joined(tmp_path: Path) -> None:
    planted = side(tmp_path, SKILL, EFFECT)
    assert isinstance(planted.steered, Steered)
    assert isinstance(planted.read, Read)
    assert planted.read.shifts == ("other-genre",)


def test_a_method_that_is_read_elsewhere_says_where() -> None:
    read = Read(("shift",), {}, "blocks.1.resid_post", {"neurons": "blocks.1.mlp_act"})
    assert (read.site_of("latent"), read.site_of("neurons")) == ("blocks.1.resid_post", "blocks.1.mlp_act")
