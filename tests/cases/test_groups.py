"""Case 16: groups that no split can part are refused, in words that would help."""

import pytest
from case_kit import model_folder, table, theodolite

from theodolite.core.errors import UserError
from theodolite.data.clean import require_groups
from theodolite.data.dataset import Dataset


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (lambda t: "a", "all 60 rows of 'train' are one group"),
        (lambda t: t["label"], "'train' has two groups, and each holds one class only"),
        (lambda t: t.index.where(t["label"] == 0, -1), "all rows of 'train' with label 1 are one group"),
    ],
)
def test_groups_that_cannot_be_split_are_refused(tmp_path, groups, words: str) -> None:
    frame = table(60)
    frame.assign(g=groups(frame)).to_csv("mine.csv", index=False)
    command = [
        "compare",
        "mine.csv",
        "--group",
        "g",
        "--model",
        model_folder(tmp_path / "m"),
        "--sae",
        "none",
        "--out",
        "run",
    ]
    ended = theodolite(*command)
    assert ended.code == 2, ended.stderr
    assert words in ended.stderr
    assert "group by a column with more values in each class, or by none" in ended.stderr


def test_two_groups_of_each_class_pass() -> None:
    frame = table(8).assign(cluster=[0, 1, 2, 3] * 2)
    require_groups(Dataset("train", frame))
    with pytest.raises(UserError):
        require_groups(Dataset("train", frame.assign(cluster=[0, 1, 2, 1] * 2)))
