"""The readers that a Run keeps: which there are, and whose code they need. No file of a Run names code that is run."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from theodolite.core.atomic import file_sha256, read_json
from theodolite.core.discover import load_file
from theodolite.core.errors import UserError, unknown
from theodolite.core.methods import file_of, is_file, split
from theodolite.core.run import Run

READERS = "artefacts/readers"  # in a run's folder, one of each method
_ABOUT = {"method": str, "view": str, "site": str, "slope": float, "intercept": float}


def saved_about(folder: Path) -> dict[str, Any]:
    """Read what the comparison saved with a reader: method, view, site, and Platt's two numbers."""
    about = read_json(folder / "config.json", finite=True).get("about")
    if not isinstance(about, dict) or any(not isinstance(about.get(key), kind) for key, kind in _ABOUT.items()):
        raise UserError(
            f"{folder / 'config.json'} is not what a run wrote: restore it, or run `theodolite compare` again with "
            "--force"
        )
    return about


def reader_folder(run: Run, method: str | None) -> Path:
    """Return the folder of the reader that was asked for, or of the one that `_preferred` names."""
    home = run.folder / READERS
    places = [path.name for path in sorted(home.glob("*")) if (path / "config.json").is_file()]
    known = {saved_about(path)["method"]: path for path in (run.verify_folder(f"{READERS}/{p}") for p in places)}
    if not known:
        raise UserError(f"{str(run.folder)!r} keeps no fitted readers: {_why_none(run)}")
    if method and is_file(method):
        return known[_label_of_file(method, known)]
    wanted = method or _preferred(run, known)
    if wanted not in known:
        raise unknown("method of this run", wanted, known)
    return known[wanted]


def _preferred(run: Run, known: Mapping[str, Path]) -> str:
    """Return the first contrast's second method, else the reader that training rows preferred, else any."""
    chosen = ((run.read_json("baselines") or {}).get("chosen") or {}).get("")
    wanted = [*(contrast["than"] for contrast in run.recipe.get("contrasts", ())), chosen]
    return next((label for label in wanted if label in known), next(iter(known)))


def _label_of_file(method: str, known: Mapping[str, Path]) -> str:
    """Return the label of the run's method that a user's own file made: of that class, and with the very same bytes.

    The hash is compared before anything is imported: a Run says what code it was made with, never what code to run.
    """
    path = file_of(method)
    assert path is not None
    if not path.is_file():
        raise UserError(f"no file {str(path)!r} (a method of your own is given as path/to/file.py:Class)")
    alike = [label for label in known if is_file(label) and _same_class(method, label)]
    if not alike:
        raise unknown("method of this run", method, known)
    digest = f"sha256:{file_sha256(path)}"
    made = {label: read_json(known[label] / "config.json")["origin"] for label in alike}
    same = [label for label in alike if made[label] == digest]
    if not same:
        raise UserError(
            f"{str(path)!r} has the {digest[:19]}, and {alike[0]!r} was fitted with the code of {made[alike[0]][:19]}: "
            "give that file, or compare again with this one"
        )
    if len(same) > 1:
        raise UserError(f"{method!r} may be {', '.join(same)}: write the parameters and the view too")
    return same[0]


def _same_class(asked: str, label: str) -> bool:
    """Return whether two method files name one class, and the parameters and view that `asked` gives."""
    (mine, params, view), (theirs, *others) = split(asked), split(label)
    classes = [word.rpartition(".py")[2] for word in (mine, theirs)]
    return (not all(classes) or classes[0] == classes[1]) and ((not params and not view) or [params, view] == others)


def own_class(run: Run, folder: Path, method: str | None) -> dict[str, type] | None:
    """Return the class of a reader that the user's own code fitted, from the user's file; None for methods here."""
    config = read_json(folder / "config.json", finite=True)
    label = str(config["about"]["method"])
    if not is_file(label):
        return None
    word = split(label)[0]
    if not method or not is_file(method):
        path, _, name = word.partition(".py")
        command = shlex.join(["theodolite", "read", "--run", str(run.folder), "--method"])
        example = shlex.quote(f"{Path(path).name}.py{name or ':Class'}")
        raise UserError(
            f"{label!r} was fitted with code of your own, which no Run may name: give its file, unchanged, "
            f"as in: {command} {example}"
        )
    own, name = file_of(method), split(method)[0].rpartition(".py")[2] or word.rpartition(".py")[2]
    return {str(config["method"]): load_file(f"{own}{name}")}


def _why_none(run: Run) -> str:
    if run.facts.get("from_arrays"):
        return "it compared rows that were given, so there is no model to read a text with"
    return "none of its methods was fitted at its site" if run.finished else "it did not finish"
