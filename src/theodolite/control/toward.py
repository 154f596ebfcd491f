"""Where a control comes from: a concept's texts, a finished Run, or a file."""

import hashlib
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from theodolite.control.control import Control, VectorControl
from theodolite.control.file_control import FileControl, to_file
from theodolite.control.imports.control_vector import open_control_vector
from theodolite.control.material import Material
from theodolite.control.method import Method, control_method
from theodolite.control.neutral_texts import neutral_texts
from theodolite.control.purpose import check_purpose, purpose
from theodolite.control.steer_request import METHOD, SteerRequest
from theodolite.core.artefact import load_reader
from theodolite.core.control_file import ControlFile
from theodolite.core.errors import UserError, did_you_mean
from theodolite.core.reader import LinearReader
from theodolite.core.refusal import check_concept
from theodolite.core.run import Run
from theodolite.core.site import Site
from theodolite.data import concept_file
from theodolite.data.sources.tables import form_of
from theodolite.dictionaries.opening import control_beside, open_dictionary
from theodolite.models.model import Model
from theodolite.study.saved_readers import reader_folder, saved_about
from theodolite.study.subjects import default_sites

CONCEPTS = ("", ".yaml", ".yml")  # endings of a concept's name and of its file; a table of the user's has another


@dataclass(frozen=True, eq=False)
class Fitted:
    """A control, with its file where it has one (a prompt has none)."""

    control: Control
    file: ControlFile | None


class Toward(Protocol):
    """Something to steer towards; `model` is the name of the model that it was made on, if it names one."""

    @property
    def concept(self) -> str: ...
    @property
    def model(self) -> str | None: ...

    def fit(self, model: Model, request: SteerRequest) -> Fitted:
        """Return its control on a model."""


def resolve(request: SteerRequest) -> Toward:
    """Return what a request steers towards; files are read and names are checked before any model is loaded."""
    toward = request.toward
    text = f"the control {toward.concept!r}" if isinstance(toward, ControlFile) else str(toward)
    path = Path(text).expanduser()
    found: Toward
    if isinstance(toward, ControlFile):
        found = FromFile(toward)
    elif (place := _run_and_method(text)) is not None:
        found = FromRun(Run.open(place[0]), place[1])
    elif path.suffix in (".safetensors", ".gguf", ".pt"):
        found = FromFile(ControlFile.open(path) if path.suffix == ".safetensors" else open_control_vector(path))
    elif path.is_dir():
        raise UserError(f"{text!r} is a folder: write {text}:METHOD to steer along a method of a Run")
    else:
        control_method(request.method or METHOD)  # an unknown name is an error now, not after the model was read
        found = FromConcept(_concept(request, path))
    _refuse_unread(request, isinstance(found, FromConcept), text)
    return found


def _refuse_unread(request: SteerRequest, is_concept: bool, text: str) -> None:
    """Refuse options that what is steered towards does not read: they would be ignored without a word."""
    if not is_concept and request.method is not None:
        raise UserError(f"--with {request.method!r} is for concepts and tables: {text} names its method itself")
    if not is_concept and request.site is not None:
        raise UserError(f"--site {request.site} is for concepts and tables: {text} names its site itself")
    plain = {each.name: each.default for each in fields(request)}
    asked = {name: getattr(request, name) for name in ("text", "label", "positive", "group")}
    given = [f"--{name}" for name, value in asked.items() if value and value != plain[name]]
    if given and not (is_concept and Path(text).suffix.lower() not in CONCEPTS):
        raise UserError(
            f"{', '.join(given)} belong{'s' * (len(given) == 1)} to a table of yours, and {text} is none: leave "
            f"{'it' if len(given) == 1 else 'them'} out"
        )


def _run_and_method(text: str) -> tuple[Path, str] | None:
    """Return the folder and the method of RUN:METHOD, None for a text that is none."""
    for at, letter in enumerate(text):
        if letter == ":" and at + 1 < len(text) and Path(text[:at]).expanduser().is_dir():
            return Path(text[:at]).expanduser(), text[at + 1 :]
    return None


def _concept(request: SteerRequest, path: Path) -> Any:
    """Return the concept of a name, a concept file or a table; an unknown name also names near files."""
    if path.suffix.lower() in CONCEPTS:
        try:
            return concept_file.load(str(request.toward))
        except UserError as error:
            near = did_you_mean(path.name, [each.name for each in Path().glob("*.*")])
            raise UserError(f"{error}{'; ' + near if near and not path.exists() else ''}") from None
    form_of(path.name)
    columns: dict[str, Any] = {"text": request.text, "label": request.label, "group": request.group}
    return concept_file.from_table(path, **columns, positive=request.positive)


@dataclass(frozen=True, eq=False)
class FromFile:
    """The control that a file holds."""

    file: ControlFile

    @property
    def concept(self) -> str:
        """Name of the concept in the file."""
        return self.file.concept

    @property
    def model(self) -> str | None:
        """Name of the model in the file."""
        return self.file.made_on.name or None

    def fit(self, model: Model, request: SteerRequest) -> Fitted:
        """Return the file's control; its dictionary is the one that --sae names, or the shipped one."""
        wanted = any(change["basis"].get("basis") == "latents" for change in self.file.changes)
        dictionaries = [open_dictionary(request.sae, model, self.file.sites[0])] if wanted else []
        return Fitted(FileControl(model, self.file, dictionaries), self.file)


@dataclass(frozen=True, eq=False)
class FromRun:
    """The direction along which a linear method of a finished Run reads."""

    run: Run
    method: str

    @property
    def concept(self) -> str:
        """Name of the run's recipe."""
        return str(self.run.recipe["name"])

    @property
    def model(self) -> str | None:
        """The run's model."""
        return self.run.local_path(str(self.run.recipe["model"]), "give it with --model PATH")

    def fit(self, model: Model, request: SteerRequest) -> Fitted:
        """Return the control along the reader's direction; its cap is the mean length of the states there.

        A Run keeps no class means, from which other controls take their cap.
        """
        recipe = dict(self.run.recipe)
        check_concept(*purpose(recipe, ("name", "title", "positive", "negative")))
        for source in recipe.get("train") or ():  # a neutral name does not make other data of these
            check_concept(*purpose(dict(source), ("source", "label", "positive", "where", "concept")))
            check_concept(Path(source.get("file") or "").name)
        folder = reader_folder(self.run, self.method)
        about, reader = saved_about(folder), load_reader(folder)
        if not isinstance(reader, LinearReader) or about["view"] != "state":
            raise UserError(f"{self.method!r} has no direction in the state to steer along: name a linear reader of it")
        site, direction = model.site(about["site"]), reader.direction_
        if len(direction) != model.d_model:
            raise UserError(
                f"{self.method!r} of {str(self.run.folder)!r} has a vector of {len(direction)} numbers, this model's "
                f"states have {model.d_model}: give the run's model with --model"
            )
        then = (self.run.facts.get("model") or {}).get("hash", model.hash)
        if then != model.hash:
            warnings.warn(
                f"1 control ({self.concept!r}) reads weights {then[:12]}, these have the hash {model.hash[:12]}: give "
                "the run's model with --model",
                stacklevel=2,
            )
        rows = model.read(neutral_texts(), site, pooling="mean", format="raw")[site].rows
        length = float(np.linalg.norm(rows, axis=1).mean())
        control = VectorControl(model, self.method, site, direction / np.linalg.norm(direction), length)
        return Fitted(control, to_file(control, concept=self.concept))


@dataclass(frozen=True, eq=False)
class FromConcept:
    """A method fitted on the texts of a concept."""

    data: Any

    @property
    def concept(self) -> str:
        """Name of the concept."""
        return str(self.data.name)

    @property
    def model(self) -> str | None:
        """None: a concept is for any model."""
        return None

    def fit(self, model: Model, request: SteerRequest) -> Fitted:
        """Return the control that the method fits on the half of the texts that directions are fitted on."""
        named = self.data.fields
        check_purpose(named)
        method = control_method(request.method or METHOD)
        site = model.site(request.site or default_sites(model.n_blocks)[0])
        parts = concept_file.parts(self.data, request.seed)
        dictionaries = _dictionaries(method, model, site, request.sae)
        about = {"seed": request.seed, "instruction": named.instruction}
        material = Material.of(model, site, parts.direction, parts.development, **about, **dictionaries)
        control = method.fit(material)
        digest = hashlib.sha256(repr(sorted(zip(material.texts, material.labels.tolist(), strict=True))).encode())
        sides = {"positive": named.positive, "negative": named.negative, "training_set": digest.hexdigest()}
        at_site = (
            (material.rows, material.labels) if isinstance(control, VectorControl) and control.site == site else None
        )
        try:
            return Fitted(control, to_file(control, concept=named.name, rows=at_site, **sides))
        except UserError:  # an instruction is no intervention: it steers, and there is nothing to keep
            return Fitted(control, None)


def _dictionaries(method: Method, model: Model, site: Site, spec: str) -> dict[str, Any]:
    """Return the dictionaries that a method needs, by the names of the material's fields."""
    found: dict[str, Any] = {}
    if "dictionary" in method.needs or "control_dictionary" in method.needs:
        found["dictionary"] = open_dictionary(spec, model, site)
    if "control_dictionary" in method.needs:
        shipped = spec == "shipped"
        found["control_dictionary"] = (
            open_dictionary(spec, model, site, control=True) if shipped else control_beside(spec, found["dictionary"])
        )
    return found
