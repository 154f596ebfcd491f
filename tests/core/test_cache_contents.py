"""The cache is listed and cleared by kind; what is not ours, and what a link leads to, stays."""

import os
import time
from pathlib import Path

import pytest

from theodolite.core.cache_contents import KINDS, TRAINED, chosen, clear, contents
from theodolite.core.errors import UserError

SOURCE = Path(__file__).parents[2] / "src" / "theodolite"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache of two kinds, one old, and something of another program; links lead out of it from three places."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("x" * 1000)
    root = tmp_path / "cache"
    for name, size in (("views/a/b.safetensors", 300), ("fits/c.json", 20), ("dictionaries/d", 5), ("notes/mine", 7)):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"x" * size)
    (root / "views" / "folder").symlink_to(outside, target_is_directory=True)
    (root / "views" / "file").symlink_to(outside / "precious.txt")
    (root / "models").symlink_to(outside, target_is_directory=True)
    os.utime(root / "fits" / "c.json", (time.time() - 7200, time.time() - 7200))
    return root


def test_each_kind_has_its_size_and_ages_and_links_are_not_followed(root: Path) -> None:
    found = {held.kind: held for held in contents(root)}
    assert list(found) == ["views", "fits", "dictionaries"]
    assert found["views"].files == 3
    assert 300 < found["views"].bytes < 1000  # two links, and not what they lead to
    assert found["fits"].bytes == 20
    assert found["fits"].oldest == pytest.approx(7200, abs=60)
    assert found["views"].newest < 60


def test_only_what_is_named_goes_and_nothing_that_a_link_leads_to(root: Path) -> None:
    outside = root.parent / "outside" / "precious.txt"
    freed = clear(root, ["views", "selection"])
    assert 300 < freed < 1000
    assert sorted(path.name for path in root.iterdir()) == ["dictionaries", "fits", "models", "notes"]
    assert outside.read_text() == "x" * 1000


def test_a_kind_that_is_a_link_is_refused_before_anything_goes(root: Path) -> None:
    with pytest.raises(UserError, match="models' is a link out of the cache, so nothing was removed"):
        clear(root, ["fits", "models"])
    assert (root / "fits" / "c.json").is_file()
    assert (root.parent / "outside" / "precious.txt").is_file()


def test_all_means_what_is_made_again_by_itself(root: Path) -> None:
    (root / "models").unlink()
    clear(root, chosen(["all"]))
    assert sorted(path.name for path in root.iterdir()) == [TRAINED, "notes"]
    assert chosen(["all", TRAINED]) == sorted(KINDS)
    with pytest.raises(UserError, match="did you mean 'views'"):
        chosen(["veiws"])


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    assert contents(tmp_path / "none") == []
    assert clear(tmp_path / "none", chosen(["all"])) == 0


def test_every_folder_that_the_package_writes_into_the_cache_is_a_kind() -> None:
    import re

    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    named = set(re.findall(r'cache_root\(\) / "(\w+)"', text)) | set(re.findall(r'\bcache / "(\w+)"', text))
    assert named <= KINDS.keys()
    assert set(KINDS) - named == {"selection"}  # it names its folder in a constant
    from theodolite.selection.fitting import CACHE

    assert CACHE == "selection"
