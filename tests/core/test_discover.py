"""Methods are found by walking: folders, entry points, files; clashes, near misses and broken files are named."""

import pickle
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from theodolite.core import discover as module
from theodolite.core.discover import discover, load_file, name_of, origin
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.site import Site
from theodolite.readers.logistic import Logistic

MINE = "from theodolite.readers.ridge import Ridge\nclass Mine(Ridge):\n    'Mine.'\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def test_a_method_is_called_by_its_file() -> None:
    registry = discover()
    assert registry["logistic"] is Logistic
    assert all(name_of(registry[name]) == name for name in registry)
    assert not [name for name in registry if name.startswith("_")]


def test_names_are_known_before_anything_is_imported() -> None:
    code = (
        "import sys; from theodolite.core.discover import discover; names = list(discover());"
        "assert 'logistic' in names; assert not [m for m in sys.modules if m.startswith('theodolite.readers.')];"
        "assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UserError, match="unknown method 'logistc': did you mean 'logistic'"):
        discover()["logistc"]


def test_a_file_of_your_own(mine: Path) -> None:
    registry = discover(files=[f"{mine}:Mine"])
    assert registry["mine"] is registry["mine"] is load_file(str(mine))
    assert registry["mine"].__name__ == "Mine"
    assert registry["mine"]().alpha == 1000.0
    assert origin(registry["mine"]).startswith("sha256:")


def test_its_readers_travel_to_worker_processes(mine: Path) -> None:
    reader = load_file(str(mine))().fit([[0.0], [1.0]], [0, 1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).coef_, reader.coef_)


def test_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("logistic", "theodolite.readers.logistic:Logistic", "theodolite.methods")
    monkeypatch.setattr(module, "entry_points", lambda group: [entry] if group == "theodolite.methods" else [])
    with pytest.raises(UserError, match=r"two methods are called 'logistic': theodolite\.readers\.logistic and"):
        discover()
    registry = discover(package="theodolite.toys")
    assert registry["logistic"] is Logistic


def test_an_entry_point_is_called_as_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("probe", "theodolite.readers.logistic:Logistic", "theodolite.methods")
    monkeypatch.setattr(module, "entry_points", lambda group: [entry])
    with pytest.raises(UserError, match=r"entry point 'probe' .* its file's stem, 'logistic'"):
        discover()["probe"]


@dataclass(frozen=True)
class Double:
    """A rule of somebody else's package."""

    times: float = 2.0

    def __call__(self, z: object, context: object) -> object:
        return z * self.times  # type: ignore[operator]


class Mirror:
    """A basis of somebody else's package."""

    name = "mirror"
    d_model = None

    def to_json(self) -> dict:
        return {"basis": "mirror"}

    @classmethod
    def from_json(cls, form: dict, dictionaries: object = ()) -> "Mirror":
        return cls()


def test_rules_and_bases_of_an_installed_package_have_a_json_form(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Intervention(Site(1, "resid_post"), Double(3.0), Mirror())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no JSON form: only add, clamp, mean"):
        change.to_json()
    found = {"theodolite.rules": ("double", Double), "theodolite.bases": ("mirror", Mirror)}

    def entry_points(group: str) -> list:
        name, cls = found[group]
        return [SimpleNamespace(name=name, value=f"mine:{cls.__name__}", load=lambda: cls)]

    monkeypatch.setattr(module, "entry_points", entry_points)
    form = change.to_json()
    assert form["rule"] == {"rule": "double", "times": 3.0}
    again = Intervention.from_json(form)
    assert (again.rule, type(again.basis), again.to_json()) == (Double(3.0), Mirror, form)
    found["theodolite.rules"] = ("add", Double)
    with pytest.raises(UserError, match=r"two methods are called 'add': theodolite\.core\.rules\.Add and mine:Double"):
        Intervention.from_json(form)


def test_a_file_that_clashes(tmp_path: Path) -> None:
    (tmp_path / "ridge.py").write_text(MINE)
    with pytest.raises(UserError, match=r"two methods are called 'ridge'.*rename one file"):
        discover(files=[str(tmp_path / "ridge.py")])


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        (MINE, "mine.py:Meine", "unknown class in mine.py 'Meine': did you mean 'Mine'"),
        (MINE + "class Second(Ridge):\n    pass\n", "mine.py", "exactly one public class, it defines: Mine, Second"),
        ("x = 1", "mine.py", "exactly one public class, it defines: none"),
        ("import nowhere", "mine.py", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("def broken(:", "mine.py", "cannot be imported: SyntaxError"),
        (MINE, "other.py:Mine", "no file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, spec: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=message):
        load_file(f"{tmp_path}/{spec}")


def test_a_broken_file_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load_file(str(path))
    path.write_text(MINE)
    assert load_file(str(path)).__name__ == "Mine"
