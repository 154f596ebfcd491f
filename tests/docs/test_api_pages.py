"""The API reference: every public name of the source has its place, nothing private has, and every link leads there."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import theodolite

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "build_api.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_api", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages as the command writes them, without the package on the path."""
    out = tmp_path_factory.mktemp("api")
    subprocess.run([sys.executable, "-I", str(SCRIPT), "--out", str(out)], check=True, capture_output=True)
    return {path.name: path.read_text(encoding="utf-8") for path in out.glob("*.md")}


def headings(text: str) -> list[str]:
    return re.findall(r"^### (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)


def test_every_public_name_is_listed_and_its_link_leads_to_its_heading(
    script: ModuleType, pages: dict[str, str]
) -> None:
    links = re.findall(r"^- \[`(\w+)`\]\((\w+\.md)#(\w+)\)", pages["index.md"], re.M)
    assert sorted(name for name, _, _ in links) == sorted(theodolite.__all__)
    for name, page, anchor in links:
        assert [script.anchor(heading) for heading in headings(pages[page])].count(anchor) == 1, name


def test_the_index_links_every_page(pages: dict[str, str]) -> None:
    assert set(re.findall(r"\((\w+\.md)\)", pages["index.md"])) == pages.keys() - {"index.md"}


def test_no_heading_occurs_twice_and_none_is_private(pages: dict[str, str]) -> None:
    found = [heading for page, text in pages.items() if page != "index.md" for heading in headings(text)]
    assert len(found) > 500
    assert len(found) == len(set(found))
    assert not [heading for heading in found if any(part.startswith("_") for part in heading.split("."))]


SOURCE = '''
"""Greets."""
from dataclasses import dataclass
from typing import ClassVar

@dataclass
class Greeting:
    """What is said.

    >>> Greeting("hello").loud
    'HELLO'

    Parameters
    ----------
    word
        the word
    """

    known: ClassVar[int] = 3
    word: str
    times: int = 2

    @property
    def loud(self) -> str:
        """The word in capitals."""

    def _hidden(self): ...

class Plain:
    def __init__(self, a: int, *, b: str = "x") -> None: ...

def say(greeting: Greeting, *rest: int) -> None:
    ...
'''

PAGE = """# theodolite.room

Written by `make docs` from the source; do not edit.

## theodolite.room.greet

Greets.

### room.greet.Greeting

```python
class Greeting(word: str, times: int = 2)
```

What is said.

```pycon
>>> Greeting("hello").loud
'HELLO'
```

**Parameters**

word
    the word

### room.greet.Greeting.loud

```python
loud -> str
```

The word in capitals.

### room.greet.Plain

```python
class Plain(a: int, *, b: str='x')
```

### room.greet.say

```python
say(greeting: Greeting, *rest: int) -> None
```
"""


def test_a_page_worked_by_hand(script: ModuleType, tmp_path: Path) -> None:
    """Fields without class variables, an `__init__` without self, a property without brackets; nothing private."""
    source = tmp_path / "source"
    (source / "room").mkdir(parents=True)
    (source / "room" / "greet.py").write_text(SOURCE, encoding="utf-8")
    (source / "room" / "_own.py").write_text("def shown(): ...", encoding="utf-8")
    (source / "__init__.py").write_text('_HOMES = {"Greeting": "room.greet"}', encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / "gone.md").write_text("a room that was removed", encoding="utf-8")
    script.write(source, out)
    assert (out / "room.md").read_text(encoding="utf-8") == PAGE
    assert sorted(path.name for path in out.iterdir()) == ["index.md", "room.md"]
