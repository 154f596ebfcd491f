"""Tables for a paper: booktabs, nothing to be edited by hand."""

import re

from theodolite.report import tables
from theodolite.report.blocks import Line, Table, Value
from theodolite.report.sheet import Sheet

_SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
}


def latex(sheet: Sheet, task: str = "matched") -> str:
    """The headline data sets of a task, and the contrasts fixed before the run; needs the package booktabs."""
    model = sheet.run.facts.get("model") or {}
    caption = f"{sheet.figures} on {model.get('name', 'the model')}, {task} site."
    parts = [tables.auroc(sheet, task, sheet.headline(task), caption)]
    if lines := (sheet.run.read_json("verdict") or {}).get("contrasts"):
        parts.append(tables.contrasts(sheet, lines, "Contrasts fixed before the run; p adjusted after Holm."))
    name = sheet.run.recipe["name"]
    return "\n".join(booktabs(part, f"tab:{name}-{at}") for at, part in enumerate(parts, 1))


def booktabs(table: Table, label: str) -> str:
    """One table environment.

    >>> print(booktabs(Table("Two & two", (Value("Sum"),), (Line((Value("4 %"),)),)), "tab:sum"))
    \\begin{table}
      \\centering
      \\caption{Two \\& two}
      \\label{tab:sum}
      \\begin{tabular}{@{}l@{}}
        \\toprule
        Sum \\\\
        \\midrule
        4 \\% \\\\
        \\bottomrule
      \\end{tabular}
    \\end{table}
    <BLANKLINE>
    """
    columns = "".join("r" if value.kind == "number" else "l" for value in table.head)
    body = [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"  \toprule",
        *_head(table),
        r"  \midrule",
        *(_line(line, len(table.head)) for line in table.lines),
        r"  \bottomrule",
        r"\end{tabular}",
    ]
    key = re.sub("[^a-z0-9:]+", "-", label.lower())  # what every engine takes in a label
    head = [r"\centering", rf"\caption{{{escaped(table.caption)}}}", rf"\label{{{key}}}"]
    return "\n".join([r"\begin{table}", *(f"  {part}" for part in head + body), r"\end{table}", ""])


def escaped(words: str) -> str:
    r"""Words in which LaTeX sees no command.

    >>> escaped(r"50 % of \input{x}")
    '50 \\% of \\textbackslash{}input\\{x\\}'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in words)


def _head(table: Table) -> list[str]:
    lines = [" & ".join(escaped(value.words) for value in table.head)]
    if any(value.small for value in table.head):
        lines.append(" & ".join(rf"{{\scriptsize {escaped(v.small)}}}" if v.small else "" for v in table.head))
    return [rf"  {line} \\" for line in lines]


def _line(line: Line, width: int) -> str:
    if line.heading:
        return rf"  \addlinespace \multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{escaped(line.cells[0].words)}}}}} \\"
    return "  " + " & ".join(_cell(value) for value in line.cells) + r" \\"


def _cell(value: Value) -> str:
    return escaped(value.words) + (rf" {{\scriptsize {escaped(value.small)}}}" if value.small else "")
