"""`theodolite data check`: what is wrong with a concept or with pairs, with a model's tokenizer where one is named."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from theodolite.core.errors import UserError
from theodolite.data import concept_file, pair_file
from theodolite.data.file_check import ERROR, Finding, Tokens, check_concept, check_pairs
from theodolite.data.sources import file as local_file
from theodolite.data.sources import tables
from theodolite.study.request import is_table


@dataclass(frozen=True)
class Checked:
    """Findings about one file; hidden: its texts are shown only on request."""

    what: str
    findings: tuple[Finding, ...]
    hidden: bool

    @property
    def errors(self) -> int:
        """Number of findings because of which the file cannot be used."""
        return sum(finding.level == ERROR for finding in self.findings)

    def lines(self, *, show_text: bool = False) -> Iterator[str]:
        """A line per finding, what it is about below it where texts may be shown, and the sum."""
        for finding in self.findings:
            yield f"{finding.level + ':':9}{finding.words}"
            if show_text or not self.hidden:
                yield from (f"{'':9}  {text!r}" for text in finding.quoted)
        n = Counter(finding.level for finding in self.findings)
        yield f"{self.what}: {n['error']} errors, {n['warning']} warnings"
        if self.hidden and not show_text and any(finding.quoted for finding in self.findings):
            yield "(texts are hidden: --show-text shows them)"


def check(what: str, *, model: str | None = None, **columns: Any) -> Checked:
    """Check a concept by name or file, or a table of labelled texts or of pairs.

    columns: `text`, `label`, `positive` and `group` of a table of labelled texts. model: whose tokenizer counts.
    A file that cannot be read as what it is has this one error.

    >>> check("french").errors
    0
    """
    tokens = None if model is None else _tokens(model)
    hidden = False  # one's own table may be shown, as by `data audit`
    try:
        if is_table(what) and pair_file.is_pair_table(_columns(what)):
            found = check_pairs(pair_file.read(what), tokens)
        elif is_table(what):
            found = check_concept(concept_file.read_table(what, **columns), tokens)
        else:
            concept = concept_file.read(what)
            found, hidden = check_concept(concept, tokens), concept.fields.private
    except UserError as error:
        found = [Finding(ERROR, str(error))]
    return Checked(what, tuple(found), hidden)


def _columns(what: str) -> list[str]:
    path = Path(what).expanduser()
    return list(map(str, tables.parse({path.name: local_file.read(str(path))}, blank=True).columns))


def _tokens(model: str) -> Tokens:
    from theodolite.models.load import load_tokenizer
    from theodolite.models.tokenise import encode_texts

    return partial(encode_texts, load_tokenizer(model), add_special_tokens=False)
