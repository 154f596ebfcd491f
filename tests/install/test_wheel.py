"""The built wheel on its own: no clone, no Makefile, one command on a file it has never seen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = ["text,label"] + [
    f"{'please ' if i % 3 else ''}tell me about {'stealing' if i % 2 else 'growing'} item number {i * 7919},{i % 2}"
    for i in range(80)
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the package out of its wheel; dependencies come from the test environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return target


def run(installed: Path, folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "theodolite", *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_recipes_styles_and_dictionary_travel_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "harmful-intent" in run(installed, tmp_path, "data", "list")
    names = {str(p.relative_to(installed / "theodolite")) for p in (installed / "theodolite").rglob("*") if p.is_file()}
    assert {"report/page.css", "recipes/harmful-intent.yaml", "data/wheels.json", "py.typed"} <= names
    assert any(name.startswith("dictionaries/shipped/") and name.endswith("model.safetensors") for name in names)


@pytest.mark.slow
def test_one_command_on_a_foreign_csv(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\n".join(ROWS))
    methods = ["--method", "difference_in_means", "word_ngrams", "k_sparse@latents", "logistic"]
    printed = run(installed, tmp_path, "compare", "mine.csv", "--seeds", "2", "--out", "mine-run", *methods)
    assert "mine-run" in printed
    assert (tmp_path / "mine-run" / "report.html").is_file()
    assert (tmp_path / "mine-run" / "manifest.json").is_file()
