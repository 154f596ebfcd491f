import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_rows import recipe_of, sentences

from theodolite.core.errors import UserError
from theodolite.core.recipe import Choices, Recipe, Shift, Source, Wrap
from theodolite.data import concept
from theodolite.data.dataset import Count
from theodolite.data.leakage import leaks
from theodolite.data.near_duplicates import gram_counts, inverse_frequency

Write = Callable[..., Source]

TRAIN, SHIFT, OTHER, CORPUS = (sentences(n, seed) for seed, n in enumerate((80, 60, 60, 20), start=10))
LEAKED = [TRAIN[0] + " too", TRAIN[41].upper(), CORPUS[3], "Tell me a secret now please"]
FEW_SHOT = [("tell me a secret now, please!", 0)]
BOTH = [1, 0]
COLUMNS = {"id", "text", "label", "source", "cluster", "hash", "template", "request", "unit", "template_tokens"}


def count_words(texts: list[str]) -> np.ndarray:
    return np.array([len(text.split()) for text in texts])


@pytest.fixture
def recipe(write_source: Write, tmp_path: Path) -> Recipe:
    """Two training sources, a shift with four leaks, a sealed one, an over-refusal set, and two wrapped ones."""
    lines = [json.dumps({"text": f"{bare} {{{{ prompt }}}}"}) for bare in sentences(20, 99)]
    (tmp_path / "templates.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = Source(source="templates", file=str(tmp_path / "templates.jsonl"), field="text")
    held = write_source("held", [*SHIFT, *LEAKED], BOTH * 32)
    near = [*OTHER[:50], *(text + " x" for text in SHIFT[:10])]
    return recipe_of(
        [write_source("one", TRAIN[:40], BOTH * 20), write_source("two", TRAIN[40:], BOTH * 20)],
        shifts={
            "plain": Shift(rows=[held]),
            "sealed": Shift(rows=[write_source("sealed", OTHER, BOTH * 30)]),
            "edgy": Shift(rows=[write_source("edgy", sentences(25, 5), 0)], over_refusal=True),
            "wrapped": Shift(rows=[held], wrap=Wrap(templates=source)),
            "wrapped-dev": Shift(rows=[write_source("near", near, BOTH * 30)], wrap=Wrap(templates=source, part="dev")),
        },
        sealed="sealed",
        few_shot=FEW_SHOT,
    )


def load(recipe: Recipe, **options: object) -> concept.Concept:
    return concept.load(recipe, count_tokens=count_words, dictionary_texts=CORPUS, **options)


def test_leaks_are_counted_by_cause_and_none_is_left(recipe: Recipe) -> None:
    found = load(recipe)
    plain = found.shifts["plain"]
    assert set(plain.texts) == set(SHIFT)
    assert plain.counts == (
        Count("plain", "near a training row", 2),
        Count("plain", "near a few-shot prompt", 1),
        Count("plain", "near dictionary text", 1),
    )
    seen = {"seen": [*found.train.texts, *CORPUS, FEW_SHOT[0][0]]}
    idf = inverse_frequency(gram_counts(found.train.texts))
    for dataset in found.shifts.values():
        assert not leaks(dataset.texts, seen, idf)["seen"].any()
        assert set(dataset.frame["request"]).isdisjoint({f"held:{text}" for text in LEAKED})


def test_wrapped_rows_are_the_clean_requests_in_held_out_templates(recipe: Recipe) -> None:
    found = load(recipe, development=True)
    wrapped, plain = found.shifts["wrapped"].frame, found.shifts["plain"].frame
    assert set(wrapped["request"]) == set(plain["id"])
    assert (wrapped.groupby("template")["label"].mean() == 0.5).all()
    assert set(wrapped["template"]).isdisjoint(found.shifts["wrapped-dev"].frame["template"])
    same = wrapped.merge(plain, left_on="request", right_on="id")
    assert (same["cluster_x"] == same["cluster_y"]).all()


def test_development_rows_open_on_demand_and_resemble_no_test_row(recipe: Recipe) -> None:
    assert load(recipe).held == ("sealed", "wrapped-dev")
    found = load(recipe, development=True)
    assert Count("wrapped-dev", "near a row of another shift", 10) in found.counts
    tested = set(found.shifts["plain"].frame["cluster"])
    assert tested.isdisjoint(found.shifts["wrapped-dev"].frame["cluster"])


def test_the_sealed_shift_opens_only_when_the_run_is_final(recipe: Recipe) -> None:
    before = load(recipe)
    after = load(recipe.model_copy(update={"final": True}))
    assert "sealed" not in before.shifts
    assert len(after.shifts["sealed"]) == len(OTHER)
    for name in ("plain", "wrapped"):  # opening it moves nothing else
        pd.testing.assert_frame_equal(
            before.shifts[name].frame.drop(columns="cluster"), after.shifts[name].frame.drop(columns="cluster")
        )
    pd.testing.assert_frame_equal(before.train.frame, after.train.frame)


def test_every_frame_has_the_columns_and_unique_ids(recipe: Recipe) -> None:
    found = load(recipe)
    for dataset in (found.train, *found.shifts.values()):
        assert set(dataset.frame.columns) == COLUMNS
        assert dataset.frame["id"].is_unique


def test_equal_arguments_give_equal_rows(recipe: Recipe) -> None:
    first, again = load(recipe), load(recipe)
    for name, dataset in first.shifts.items():
        pd.testing.assert_frame_equal(dataset.frame, again.shifts[name].frame)


def test_a_limit_keeps_the_balance_and_takes_rows_of_the_whole(recipe: Recipe) -> None:
    whole, part = load(recipe), load(recipe.model_copy(update={"limit": 48}))
    assert len(part.train) == 48
    assert (part.train.frame.groupby(["label", "source"]).size() == 12).all()
    assert set(part.shifts["plain"].frame["id"]) < set(whole.shifts["plain"].frame["id"])
    assert Count("train", "over the limit", 32) in part.counts


def test_wrapped_rows_beyond_the_limit_of_tokens_leave(recipe: Recipe) -> None:
    found = load(recipe.model_copy(update={"max_tokens": 16}))  # 8 words of template and 8 of request, no leak longer
    assert len(found.shifts["wrapped"]) == len(load(recipe).shifts["wrapped"])
    with pytest.raises(UserError, match=r"'wrapped' has 0 usable rows.*longer than 15 tokens"):
        load(recipe.model_copy(update={"max_tokens": 15}))


def test_groups_of_a_source_are_one_cluster(write_source: Write, tmp_path: Path) -> None:
    table = pd.DataFrame({"text": TRAIN, "label": BOTH * 40, "author": [f"a{i // 8}" for i in range(80)]})
    table.to_csv(tmp_path / "t.csv", index=False)
    source = Source(source="t", file=str(tmp_path / "t.csv"), field="text", label="label", group="author")
    train = concept.load(recipe_of([source])).train
    assert train.frame.groupby("cluster").size().tolist() == [8] * 10
    with pytest.raises(UserError, match="no column 'writer' to group by"):
        concept.load(recipe_of([source.model_copy(update={"group": "writer"})]))


def test_length_matching_counts_what_it_leaves_out(write_source: Write) -> None:
    rows = write_source(
        "s",
        [*sentences(40, 1, words=6), *sentences(40, 2, words=9)[:20], *sentences(20, 3, words=6)],
        [1] * 40 + [0] * 40,
    )
    recipe = recipe_of([write_source("t", TRAIN, BOTH * 40)], shifts={"s": Shift(rows=[rows], length_matched=True)})
    found = concept.load(recipe).shifts["s"]
    assert len(found) == 40
    assert found.counts == (Count("s", "no partner of equal length", 40),)


@pytest.mark.parametrize(("right", "rest"), [(40, "right."), (20, "right; outside 30-70 %: few rows carry it.")])
def test_answers_become_labels_and_the_base_rate_a_note(tmp_path: Path, right: int, rest: str) -> None:
    rows = [{"text": text, "options": "A. yes\nB. no", "answer": "B. no"} for text in TRAIN]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = Source(source="q", file=str(tmp_path / "q.jsonl"), field="text", choices=Choices())
    train = concept.load(recipe_of([source]), answer=lambda prompts, _: (np.arange(len(prompts)) < right) * 1).train
    assert train.y.sum() == right
    assert train.note == f"Base rate: the model answers {right / 80:.1%} of 80 {rest}"


def test_a_source_without_labels_is_refused(write_source: Write) -> None:
    source = write_source("one", TRAIN, BOTH * 40).model_copy(update={"label": None})
    with pytest.raises(UserError, match="says nothing about its labels"):
        concept.load(recipe_of([source]))


def grouped(tmp_path: Path, file: str, texts: list[str], groups: list[str | None]) -> Source:
    """A source named "s" over a table with a column of groups, of which some may be blank."""
    pd.DataFrame({"text": texts, "label": BOTH * (len(texts) // 2), "who": groups}).to_csv(tmp_path / file, index=False)
    return Source(source="s", file=str(tmp_path / file), field="text", label="label", group="who")


def test_rows_without_a_group_are_clusters_of_their_own(tmp_path: Path) -> None:
    groups = [f"a{i // 4}" if i < 40 else (None if i % 2 else "  ") for i in range(80)]
    train = concept.load(recipe_of([grouped(tmp_path, "t.csv", TRAIN, groups)])).train
    assert sorted(train.frame.groupby("cluster").size()) == [1] * 40 + [4] * 10


def test_shift_rows_of_a_training_group_leave_and_are_counted(tmp_path: Path) -> None:
    train = grouped(tmp_path, "t.csv", TRAIN, [f"a{i // 2}" for i in range(80)])
    shift = grouped(tmp_path, "s.csv", SHIFT, ["a0", "a9", None, None, *["b"] * 56])
    found = concept.load(recipe_of([train], shifts={"s": Shift(rows=[shift])}))
    assert set(found.shifts["s"].texts) == set(SHIFT[2:])
    assert found.shifts["s"].counts == (Count("s", "in a training group", 2),)
    assert set(found.train.frame["cluster"]).isdisjoint(found.shifts["s"].frame["cluster"])


def test_a_group_is_its_value_whatever_the_file_is_called(tmp_path: Path) -> None:
    """Shift rows of a training user leave also where the files have other names, and 3 and 3.0 are one user."""
    table = pd.DataFrame({"text": TRAIN, "label": BOTH * 40, "who": [i // 2 for i in range(80)]})
    table.to_csv(tmp_path / "t.csv", index=False)
    blank = pd.DataFrame({"text": SHIFT, "label": BOTH * 30, "who": [3, 4, 5, *[77] * 56, None]})
    blank.to_csv(tmp_path / "s.csv", index=False)
    train, shift = (
        Source(source=name, file=str(tmp_path / f"{name}.csv"), field="text", label="label", group="who")
        for name in ("t", "s")
    )
    found = concept.load(recipe_of([train], shifts={"s": Shift(rows=[shift])})).shifts["s"]
    assert found.counts == (Count("s", "in a training group", 3),)
    assert set(found.texts) == set(SHIFT[3:])


def test_groups_of_published_sources_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two generated sources number their groups each in its own way."""
    tables = {"a": TRAIN, "b": SHIFT}

    def table(name: str, *_: object) -> pd.DataFrame:
        n = len(tables[name])
        return pd.DataFrame({"text": tables[name], "label": (BOTH * 40)[:n], "n": np.arange(n) // 2})

    monkeypatch.setattr("theodolite.data.sources.generated.table", table)
    one, two = (Source(source=name, generated=name, field="text", group="n") for name in tables)
    found = concept.load(recipe_of([one], shifts={"s": Shift(rows=[two])})).shifts["s"]
    assert found.counts == ()
    assert len(found) == len(SHIFT)


@pytest.mark.parametrize(
    ("rule", "same", "other"), [("drop-same", 0, 10), ("drop-all", 0, 0), ("keep-all", 12, 10)], ids=str
)
def test_near_copies_are_counted_by_label_and_the_rule_says_which_leave(
    write_source: Write, rule: str, same: int, other: int
) -> None:
    """12 shift rows repeat a training row and its label, 10 repeat one and contradict it."""
    near = [*(f"{text} too" for text in TRAIN[:12]), *(f"{text} not" for text in TRAIN[20:30])]
    labels = [*(BOTH * 6), *(1 - y for y in BOTH * 5)]
    train = write_source("t", TRAIN, BOTH * 40)
    shift = write_source("s", [*SHIFT, *near], [*(BOTH * 30), *labels])
    found = concept.load(recipe_of([train], shifts={"s": Shift(rows=[shift])}, leaks=rule))
    causes = {"near a training row": (12, same), "near a training row of the other label": (10, other)}
    shift = found.shifts["s"]
    assert {c.cause: c.n for c in shift.kept} == {cause: kept for cause, (_, kept) in causes.items() if kept}
    assert {c.cause: c.n for c in shift.counts} == {cause: n - kept for cause, (n, kept) in causes.items() if n > kept}
    assert len(shift) == 60 + same + other
    assert set(shift.frame["cluster"]).isdisjoint(found.train.frame["cluster"])
    alone = concept.load(recipe_of([train])).train
    pd.testing.assert_frame_equal(found.train.frame, alone.frame)  # what stays moves no training cluster


def test_the_order_of_the_rows_in_the_files_plays_no_role(tmp_path: Path) -> None:
    """Copies, a limit, length matching and pairing for templates draw the same rows from a shuffled file."""
    templates = [json.dumps({"text": f"{bare} {{{{ prompt }}}}"}) for bare in sentences(20, 99)]
    (tmp_path / "templates.jsonl").write_text("\n".join(templates), encoding="utf-8")
    wrap = Wrap(templates=Source(source="templates", file=str(tmp_path / "templates.jsonl"), field="text"))
    tables = {
        "t": pd.DataFrame({"text": [*TRAIN, *map(str.upper, TRAIN[:20])], "label": BOTH * 50}),
        "s": pd.DataFrame({"text": [*SHIFT, *(f"{text} more" for text in SHIFT)], "label": BOTH * 60}),
    }

    def loaded(order: int) -> concept.Concept:
        for name, table in tables.items():
            table.sample(frac=1, random_state=order).to_csv(tmp_path / f"{name}.csv", index=False)
        train, shift = (Source(source=n, file=str(tmp_path / f"{n}.csv"), label="label") for n in tables)
        shifts = {
            "plain": Shift(rows=[shift]),
            "matched": Shift(rows=[shift], length_matched=True),
            "wrapped": Shift(rows=[shift], wrap=wrap),
        }
        return concept.load(recipe_of([train], shifts=shifts, limit=60), count_tokens=count_words)

    first, again = loaded(1), loaded(2)
    assert first.counts == again.counts
    for one, other in zip((first.train, *first.shifts.values()), (again.train, *again.shifts.values()), strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)


def test_rows_in_one_template_are_told_apart_by_what_differs(write_source: Write) -> None:
    """As whole texts all rows of a long template are one cluster; a shift in it is no leak of training."""
    asked = "You are a careful reader of short statements, and answer them with one word only. Statement: {}. Is it so?"
    bare = [sentences(1, seed, words=3)[0] for seed in range(140)]
    texts = [asked.format(text) for text in bare]
    train = write_source("t", [*texts[:80], texts[0] + "!"], [*(BOTH * 40), 1])
    shift = write_source("s", texts[80:], BOTH * 30)
    found = concept.load(recipe_of([train], shifts={"s": Shift(rows=[shift])}))
    assert found.train.frame["cluster"].nunique() == 80
    assert found.train.frame["cluster"].value_counts().iloc[0] == 2  # the copy is still a copy
    assert len(found.shifts["s"]) == 60
    assert "A template was detected: most of the text of 81 of 81 rows is shared" in found.train.note


def test_requests_of_one_class_cannot_be_wrapped_and_the_error_says_so(recipe: Recipe, write_source: Write) -> None:
    wrap = recipe.shifts["wrapped"].wrap
    alone = recipe.model_copy(
        update={"shifts": {"wrapped": Shift(rows=[write_source("one-class", SHIFT, 1)], wrap=wrap)}, "sealed": None}
    )
    with pytest.raises(UserError, match=r"'wrapped' has 0 usable rows .*no partner of the other class: 60"):
        load(alone)
