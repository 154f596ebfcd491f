"""What a terminal or a spreadsheet would obey is shown; numbers stay numbers; every cell can be given back."""

import io

import numpy as np
import pandas as pd

from theodolite.core.visible import csv, neutral, visible

CELLS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "'quoted",
    "''",
    "plain",
    "",
    "-1.5",
    "+3",
    "1e5",
    "-",
]


def test_control_characters_are_shown() -> None:
    text = "a\x1b]0;title\x07b\x9b2Jc\rd\u202ee\x00"
    assert not [c for c in visible(text) if not c.isprintable()]
    assert "\\x1b]0;title\\x07" in visible(text)
    assert visible("α\tβ\nγ 'q' −") == "α\tβ\nγ 'q' −"


def test_formulas_are_text_numbers_stay_and_all_is_given_back() -> None:
    frame = pd.DataFrame({"=name": CELLS, "n": np.linspace(-1, 1, len(CELLS)), "i": range(-1, len(CELLS) - 1)})
    frame["none"] = [None, *CELLS[1:]]
    file = csv(frame, index=False)
    back = pd.read_csv(io.StringIO(file), dtype={"'=name": str}, keep_default_na=False)
    for cell in back["'=name"]:
        assert cell[:1] not in "=@\t\r\n" or cell == ""
        assert cell[:1] not in "+-" or cell in ("-1.5", "+3", "")
    assert back["n"].tolist() == frame["n"].tolist()
    assert back["i"].tolist() == frame["i"].tolist()
    assert [cell.removeprefix("'") for cell in back["'=name"]] == CELLS  # the documented way back
    assert neutral(frame)["none"].isna().tolist() == frame["none"].isna().tolist()
    assert frame["=name"].tolist() == CELLS  # the table itself is as before


def test_two_columns_of_one_name_are_both_written() -> None:
    frame = pd.DataFrame([["=a", "=b"]], columns=["x", "x"])
    assert csv(frame, index=False) == "x,x\n'=a,'=b\n"
