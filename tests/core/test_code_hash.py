"""A closure holds what an entry can reach by imports, and nothing else; a hash changes where a result could."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from theodolite.core import code_hash
from theodolite.core.code_hash import ABSENT, closure, helpers_hash
from theodolite.core.discover import discover, load_file
from theodolite.core.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write modules of a package `labkit_xyz` that lies on the path and is not installed."""
    home = tmp_path / "labkit_xyz"
    home.mkdir()
    (home / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "labkit_xyz"]:  # of an earlier test
        monkeypatch.delitem(sys.modules, name)

    def write(**sources: str) -> Path:
        for name, source in sources.items():
            (home / f"{name}.py").write_text(source)
        return home

    return write


def reached(*entries: str) -> set[str]:
    return {name.removeprefix("labkit_xyz.") for name in closure(*entries).modules} - {"labkit_xyz"}


ENTRY = "labkit_xyz.entry"


@pytest.mark.parametrize(
    "line",
    [
        "import labkit_xyz.used",
        "from labkit_xyz import used",
        "from labkit_xyz.used import value as other",
        "from labkit_xyz.used import *",
        "from . import used",
        "from .used import value",
        "def f():\n    from labkit_xyz import used",
        "class A:\n    def f(self):\n        if self:\n            import labkit_xyz.used as u",
        "import importlib\ndef f():\n    importlib.import_module('labkit_xyz.used')",
        "try:\n    import labkit_xyz.used\nexcept ImportError:\n    pass",
        "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import labkit_xyz.used",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import labkit_xyz.used",
        "from labkit_xyz import between",
    ],
)
def test_every_way_to_import_is_followed(package: Write, line: str) -> None:
    package(entry=line, used="value = 1", between="import labkit_xyz.used", unused="value = 1")
    first = closure(ENTRY)
    assert "labkit_xyz.used" in first.modules
    assert "labkit_xyz.unused" not in first.modules
    package(unused="value = 2")
    assert closure(ENTRY) == first
    package(used="value = 2")
    assert closure(ENTRY).digest() != first.digest()


def test_what_only_a_type_checker_reads_does_not_count(package: Write) -> None:
    package(entry="import typing\nif typing.TYPE_CHECKING:\n    import labkit_xyz.used", used="")
    assert reached(ENTRY) == {"entry"}


def test_the_code_of_every_package_on_the_way_counts(package: Write) -> None:
    home = package(entry="import labkit_xyz.inner.deep")
    (home / "inner").mkdir()
    (home / "inner" / "__init__.py").write_text("from labkit_xyz import used")
    (home / "inner" / "deep.py").write_text("")
    package(used="")
    assert reached(ENTRY) == {"entry", "inner", "inner.deep", "used"}


def test_modules_that_import_each_other_end(package: Write) -> None:
    package(entry="import labkit_xyz.used", used="import labkit_xyz.entry")
    assert reached(ENTRY) == {"entry", "used"}


def test_of_the_module_of_a_function_only_what_it_uses_counts(package: Write) -> None:
    source = (
        "from labkit_xyz import used, unused\nfrom labkit_xyz import typed as kind\nSIZE = 1\nOTHER = 1\n"
        "def entry(x: kind.A) -> kind.B:\n    return helper(x)\n"
        "def helper(x):\n    return used.value + SIZE\n"
        "def another():\n    return unused.value + OTHER\n"
    )
    package(functions=source, used="value = 1", unused="value = 1", typed="A = B = int")
    import labkit_xyz.functions as functions

    first = closure(functions.entry)
    assert set(first.modules) == {"labkit_xyz", "labkit_xyz.used", "labkit_xyz.functions:entry"}
    for edit, changes in [
        (("OTHER = 1", "OTHER = 2"), False),
        (("def another", "def third"), False),
        (("SIZE = 1", "SIZE = 2"), True),
        (("return used", "return - used"), True),
    ]:
        package(functions=source.replace(*edit))
        code_hash._function_scan.cache_clear()  # our own files do not change while the program runs
        assert (closure(functions.entry) != first) is changes


def test_libraries_count_by_version_and_by_whether_they_are_there(
    package: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(entry="import json, numpy\ndef f():\n    import sklearn.linear_model, not_installed_xyz.part")
    first = closure(ENTRY)
    assert set(first.libraries) == {"python", "numpy", "scikit-learn", "not_installed_xyz"}
    assert first.libraries["not_installed_xyz"] == ABSENT
    version = code_hash.version
    monkeypatch.setattr(code_hash, "version", lambda name: "9" if name == "scikit-learn" else version(name))
    assert closure(ENTRY).digest() != first.digest()


def test_the_same_code_elsewhere_has_the_same_hash(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("import helper\nclass Mine: pass")
        (tmp_path / name / "helper.py").write_text("value = 1")
    one, two = (closure(str(tmp_path / name / "mine.py")) for name in ("one", "two"))
    assert one == two
    assert set(one.modules) == {"./mine", "./helper"}


def test_helpers_beside_a_users_own_file_count(tmp_path: Path) -> None:
    mine, helper = tmp_path / "mine.py", tmp_path / "helper_xyz.py"
    mine.write_text("def lazily():\n    import helper_xyz\nclass Mine: pass")
    helper.write_text("value = 1")
    first, of_class = helpers_hash(mine), closure(load_file(str(mine)))
    assert "./helper_xyz" in of_class.modules
    helper.write_text("value = 2")
    assert helpers_hash(mine) != first
    assert closure(load_file(str(mine))) != of_class
    mine.write_text("import numpy, theodolite.core.seeds\nclass Mine: pass")
    assert helpers_hash(mine) == ""


def test_an_edited_file_is_loaded_anew_and_an_edited_helper_of_a_loaded_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one session: the new code must not be kept under the old hash, nor the old code under the new."""
    monkeypatch.syspath_prepend(str(tmp_path))
    mine, helper = tmp_path / "mine.py", tmp_path / "helper_abc.py"
    helper.write_text("value = 1")
    mine.write_text("import helper_abc\nclass Mine:\n    k = 1")
    first = closure(load_file(str(mine)))
    mine.write_text("import helper_abc\nclass Mine:\n    k = 2")  # of the same size, within the same second
    assert load_file(str(mine)).k == 2
    assert closure(load_file(str(mine))) != first
    helper.write_text("value = 2")
    with pytest.raises(UserError, match=r"helper_abc\.py was edited after this session imported it.*restart"):
        closure(load_file(str(mine)))


def test_a_reader_that_only_discovery_reaches_counts_as_an_entry() -> None:
    """Nothing imports it by name, so that its caller's closure lacks it and the class itself has to be named."""
    from theodolite.comparison import fits

    name = "theodolite.readers.k_sparse"
    assert name not in closure(fits._work).modules
    assert {name, "theodolite.readers._path"} <= closure(fits._work, discover()["k_sparse"]).modules.keys()


def test_an_installed_plugin_counts_by_its_source_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "site-packages"
    (home / "plugin_xyz").mkdir(parents=True)
    (home / "plugin_xyz" / "__init__.py").write_text("")
    (home / "plugin_xyz" / "probe.py").write_text("from plugin_xyz import inside\nclass Probe: pass")
    (home / "plugin_xyz" / "inside.py").write_text("value = 1")
    about = home / "plugin_xyz_dist-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-xyz-dist\nVersion: 1.0\n")
    (about / "top_level.txt").write_text("plugin_xyz\n")
    monkeypatch.syspath_prepend(str(home))
    code_hash._distributions.cache_clear()
    from plugin_xyz.probe import Probe

    first = closure(Probe)
    assert {"plugin_xyz.probe", "plugin_xyz.inside"} <= first.modules.keys()
    assert first.libraries["plugin-xyz-dist"] == "1.0"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-xyz-dist\nVersion: 1.1\n")
    assert closure(Probe).digest() != first.digest()
    code_hash._distributions.cache_clear()


def test_a_module_that_nobody_installed_counts_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "site-packages"
    home.mkdir()
    (home / "stray_xyz.py").write_text("value = 1")
    (tmp_path / "mine.py").write_text("import stray_xyz\nclass Mine: pass")
    monkeypatch.syspath_prepend(str(home))
    first = closure(str(tmp_path / "mine.py"))
    (home / "stray_xyz.py").write_text("value = 2")
    assert closure(str(tmp_path / "mine.py")) != first


def test_what_makes_each_cached_thing_stays_bounded() -> None:
    """No key depends on how a result is shown, and the state of a model on no dictionary or reader."""
    from theodolite.comparison import fits
    from theodolite.models.model import Model
    from theodolite.selection import fitting
    from theodolite.study import build, corpora, datasets
    from theodolite.study.views import Views

    entries = {
        "state": (build._states, Views, Model),
        "latents": (build._codes, Views),
        "embedding": (build._embedding, Views, Model),
        "sentence": (build._sentence, Views),
        "answer": (build._answer, Views, Model),
        "fits": (fits._work, Views, discover()["k_sparse"]),
        "judgements": (fitting._work, Views, discover()["k_sparse"]),
        "answers": (datasets._chosen, Model),
        "corpora": (corpora._cleared,),
    }
    found = {name: closure(*entry) for name, entry in entries.items()}
    rooms = {name: {module.split(".")[1] for module in each.modules if "." in module} for name, each in found.items()}
    assert rooms == {
        "state": {"core", "data", "store", "models", "study"},
        # a worker of a harvest loads the model, which may come out of a wheel: data.sources
        "latents": {"core", "data", "store", "models", "dictionaries", "study"},
        "embedding": {"core", "data", "models", "study"} | (rooms["embedding"] & {"store"}),
        "sentence": {"core", "data", "models", "study"},
        "answer": {"core", "data", "models", "study"} | (rooms["answer"] & {"store"}),
        "fits": {"core", "data", "readers", "study", "comparison"},
        "judgements": {"core", "data", "readers", "calibration", "study", "selection"},
        "answers": {"core", "data", "models", "study"} | (rooms["answers"] & {"store"}),
        "corpora": {"core", "data", "dictionaries", "study"},
    }
    assert {"theodolite.models.hooks", "theodolite.models.tokens", "theodolite.models.families"} <= (
        found["state"].modules.keys()
    )
    assert {"torch", "transformers", "numpy"} <= found["state"].libraries.keys()
    coding = {f"theodolite.dictionaries.{name}" for name in ("coding", "refit", "ops.kernels", "pooled")}
    assert coding <= found["latents"].modules.keys()
    assert "numba" in found["latents"].libraries
    assert {"scikit-learn", "scipy"} <= found["judgements"].libraries.keys()


def test_hashing_imports_neither_torch_nor_what_it_reads() -> None:
    code = (
        "import sys; from theodolite.core.code_hash import closure; closure('theodolite.study.build'); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'transformers', 'theodolite.models')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
