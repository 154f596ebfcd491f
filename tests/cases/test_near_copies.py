"""Near-copies whose label differs, groups in two files, and the order of rows: what leaves a comparison, and why."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from case_kit import QUICK, table, theodolite, workplace

LANDS = ("France", "Norway", "Peru", "Egypt", "Ecuador", "Senegal", "India", "Vietnam", "Latvia", "Bulgaria", "Chad")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workplace(tmp_path_factory.mktemp("copies")) as folder:
        yield folder


@pytest.fixture
def inside(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    monkeypatch.setenv("THEODOLITE_CACHE", str(work / "cache"))
    return work


def shift_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "artefacts" / "audit.json").read_text(encoding="utf-8"))["overviews"][1]
    return found


def compare(folder: Path, out: str, *words: object) -> Path:
    ended = theodolite("compare", *words, "--model", folder / "m", *QUICK, "--out", folder / out)
    assert ended.code == 0, ended.stderr
    return folder / out


def planned(*words: object) -> str:
    ended = theodolite("compare", *words, "--model", "m", *QUICK, "--dry-run")
    assert ended.code == 0, ended.stderr
    return ended.stdout


def statements(negated: bool) -> pd.DataFrame:
    """ "The city of X is in Y.", half of them true; negated ones have the other label."""
    draw = np.random.default_rng(0)
    cities = ["".join(draw.choice(["kra", "sno", "dar", "bel", "mun", "tor", "vis", "gal"], 4)) for _ in range(160)]
    said = [f"The city of {c.title()} is {'not ' * negated}in {LANDS[i % len(LANDS)]}." for i, c in enumerate(cities)]
    return pd.DataFrame({"text": said, "label": (np.arange(160) % 2) ^ negated})


def test_negated_sentences_are_counted_and_kept(inside: Path) -> None:
    statements(False).to_csv("said.csv", index=False)
    pd.concat([statements(True), table(60)]).to_csv("negated.csv", index=False)
    plan = planned("said.csv", "--shift", "negated.csv")
    run = compare(inside, "negation", "said.csv", "--shift", "negated.csv")
    near = shift_of(run)["near"]
    assert near["other_label_kept"] > 0.9 * len(statements(True))
    assert near["other_label_left"] == near["same_label_kept"] == 0
    assert f"{near['other_label_kept']:,} rows kept: near a training row of the other label" in plan
    notes = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["notes"]
    assert "near-copies kept" in json.dumps(notes)
    plan = planned("said.csv", "--shift", "negated.csv", "--leaks", "drop-all")
    assert f"{near['other_label_kept']:,} rows left out: near a training row of the other label" in plan


def test_an_unknown_rule_is_refused(inside: Path) -> None:
    table().to_csv("mine.csv", index=False)
    ended = theodolite("compare", "mine.csv", "--leaks", "drop", "--model", "m", *QUICK)
    assert ended.code != 0
    assert "drop-same" in ended.stderr + ended.stdout


def grouped(seed: int, n_users: int) -> pd.DataFrame:
    return table(240, seed=seed).assign(user=[f"u{i % n_users}" for i in range(240)])


def test_a_group_shared_by_two_files_is_one_whatever_their_names(inside: Path) -> None:
    """Case 12: half of the shift's users are in training; its rows leave under either name."""
    lost = {}
    for folder, name in (("train", "first"), ("same", "first"), ("other", "second")):
        (inside / folder).mkdir(exist_ok=True)
        frame = grouped(0, 30) if folder == "train" else grouped(9, 60)
        frame.to_csv(inside / folder / f"{name}.csv", index=False)
    for folder, name in (("same", "first"), ("other", "second")):
        shift = inside / folder / f"{name}.csv"
        plan = planned(inside / "train" / "first.csv", "--group", "user", "--shift", shift)
        lost[folder] = re.findall(r"([\d,]+) rows left out: in a training group", plan)
    assert lost["same"] == lost["other"]
    assert lost["other"] == ["119"]


def test_the_order_of_the_rows_changes_no_number(inside: Path) -> None:
    """A file with copies, near-copies and more rows than the limit, whole and shuffled, with a shift."""
    base, extra = table(160, seed=1), table(60, seed=2)
    copies = base.iloc[:20].assign(text=base["text"].iloc[:20].str.upper())
    near = base.iloc[20:40].assign(text=base["text"].iloc[20:40] + " too")
    rows = {}
    for name, order in (("first", 0), ("again", 7)):
        folder = inside / f"order-{name}"
        folder.mkdir()
        for file, frame in (("mine", pd.concat([base, copies, near])), ("shift", extra)):
            frame.sample(frac=1, random_state=order).to_csv(folder / f"{file}.csv", index=False)
        run = compare(
            inside,
            f"order-{name}-run",
            folder / "mine.csv",
            "--shift",
            folder / "shift.csv",
            "--limit",
            "100",
        )
        frame = pd.read_csv(run / "rows.csv")
        rows[name] = frame.drop(columns=[c for c in ("run", "seconds", "peak_mb") if c in frame])
    for column in rows["first"]:
        one, other = rows["first"][column], rows["again"][column]
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9, err_msg=column)
        else:
            assert one.tolist() == other.tolist(), column
