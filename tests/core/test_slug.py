"""Names as file names: nothing leads out of a folder, and two names are never one file, on Windows and macOS either."""

import itertools
from pathlib import Path, PureWindowsPath

import pytest

from theodolite.core.slug import LONGEST, slug

NASTY = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    " ",
    "a/b",
    "a\\b",
    "a:b",
    "a b",
    "a_b",
    "a-b",
    "A-B",
    "a*b",
    "a?b",
    "C:\\x",
    "con",
    "CON",
    "con.txt",
    "lpt1",
    "nul.",
    "a.",
    "a ",
    ".a",
    "-rf",
    "~",
    "$HOME",
    "a\nb",
    "a\0b",
    "\x1b[2J",
    "é",
    "é",
    "É",
    "\ud800",
    "x" * 300,
    "x" * 301,
    "logistic@latents",
    "k_sparse(k=16)@latents [text-only]",
    "'; rm -rf /",
    "%2e%2e",
    "a|b",
    'a"b',
    "<script>",
]


def test_no_name_leads_out_of_its_folder_or_is_special(tmp_path: Path) -> None:
    for name in NASTY:
        found = slug(name)
        assert found.isascii()
        assert (tmp_path / found).parent == tmp_path
        assert (tmp_path / found).resolve().parent == tmp_path.resolve()
        assert PureWindowsPath(found).name == found
        assert not PureWindowsPath(found).is_reserved()
        assert not set(found) & set('<>:"/\\|?*')
        assert found[0] not in "-.~"
        assert found[-1] not in ". "
        assert len(found) <= LONGEST
        (tmp_path / found).touch()


def test_different_names_are_different_files_without_regard_to_case() -> None:
    names = [*NASTY, *map(slug, NASTY), *(slug(slug(name)) for name in NASTY)]
    found = {name: slug(name).casefold() for name in dict.fromkeys(names)}
    for one, other in itertools.combinations(found, 2):
        assert found[one] != found[other], (one, other)


@pytest.mark.parametrize("name", ["train", "held-out", "k_sparse(k=16)@latents", "jailbreak.2", "difference_in_means"])
def test_plain_names_stay(name: str) -> None:
    assert slug(name) == name
