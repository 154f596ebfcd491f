"""LaTeX that compiles: columns match cells, nothing from a name is a command."""

import re
from collections.abc import Callable
from pathlib import Path

from planted_run import PRIMARY, VERDICT, row

from theodolite.core.run import Run
from theodolite.report.blocks import Table
from theodolite.report.latex import booktabs, latex
from theodolite.report.sheet import Sheet


def test_headline_and_contrasts_with_their_intervals(run: Run) -> None:
    text = latex(Sheet(run))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"Logistic & .951 {\scriptsize [.917, .985]} & .921" in text
    assert r"$-$.034 {\scriptsize [$-$.054, $-$.014]}" in text
    assert r"\label{tab:planted-1}" in text


def test_a_label_keeps_every_word_of_a_name() -> None:
    assert r"\label{tab:the-dataframe-1}" in booktabs(Table("", (), ()), "tab:the DataFrame-1")


def test_every_line_has_as_many_cells_as_columns(run: Run) -> None:
    for part in latex(Sheet(run)).split(r"\begin{tabular}")[1:]:
        columns = re.match(r"\{@\{\}([lr]+)@\{\}\}", part)
        assert columns
        for line in part.splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns[1]) - 1, line


def test_names_are_escaped(build: Callable[..., Run], tmp_path: Path) -> None:
    attack = r"\input{/etc/passwd} & 50% $x_1$ #~^"
    contrast = VERDICT["contrasts"][0] | {"dataset": attack}
    hostile = build(
        tmp_path,
        only=[row(attack, PRIMARY, value=0.7)],
        facts={"model": {"name": attack}},
        verdict={"contrasts": [contrast]},
    )
    text = latex(Sheet(hostile))
    assert r"\input" not in text
    assert r"\textbackslash{}input\{/etc/passwd\} \& 50\% \$x\_1\$ \#\textasciitilde{}\textasciicircum{}" in text
