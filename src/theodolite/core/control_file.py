"""A fitted control in one file: safetensors, whose header holds JSON. Nothing in it names code.

The tensors are the numbers of the interventions (unit directions, values of latents). The JSON says where they act,
what they were fitted on, how far the classes lie apart along them, and which strength costs how many nats. A file may
come from a stranger: its size, its keys and every number are checked before anything is built from them.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from theodolite.core.atomic import publish
from theodolite.core.basis import Direction, pack, unpack
from theodolite.core.control_card import card
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import LanguageModel
from theodolite.core.refusal import check_concept
from theodolite.core.rules import Add, Clamp
from theodolite.core.site import PARTS, AtSites, Site
from theodolite.core.strict import Strict, validated

FORMAT = "theodolite-control/1"
HEADER = "theodolite"  # the key of the safetensors metadata under which the JSON stands
LARGEST = 2**28  # bytes; a direction at each of 128 sites of width 16384 takes 8 MiB
LONGEST = 2**22  # characters of JSON
MOST = 4096  # interventions, and tensors
_UNIT = 1e-3  # a unit vector's norm may be off by this much: float16 rounds it by 5e-4

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Size = Annotated[int, Field(ge=1, le=2**31)]
Words = Annotated[str, Field(max_length=1000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]


class MadeOn(Strict):
    """The model on which a control was fitted; an empty hash says that nobody knows."""

    name: Words
    architecture: Words  # as transformers calls it: llama, gpt2
    d_model: Size
    n_blocks: Annotated[int, Field(ge=0, le=2**20)] = 0  # 0: not known
    hash: Digest = ""
    identity: Digest = ""

    @classmethod
    def of(cls, model: LanguageModel) -> "MadeOn":
        """Describe a model as it is now; reads all weights for their hash."""
        kind = str(model.network.module.config.get_text_config().model_type)
        return cls(
            name=str(model.name)[-1000:],
            architecture=kind,
            d_model=model.d_model,
            n_blocks=model.n_blocks,
            hash=model.hash,
            identity=model.identity,
        )


class Spread(Strict):
    """The natural scale of a direction: mean and standard deviation of each class's projections on it."""

    mean_positive: Number
    sd_positive: Annotated[Number, Field(ge=0)]
    mean_negative: Number
    sd_negative: Annotated[Number, Field(ge=0)]

    @classmethod
    def of(cls, direction: np.ndarray, rows_nd: np.ndarray, labels: np.ndarray) -> "Spread":
        """Measure it on rows (n, d) with labels 0 and 1.

        >>> Spread.of(np.array([0.0, 1.0]), np.array([[9.0, 1.0], [9.0, 3.0], [9.0, -1.0]]), np.array([1, 1, 0]))
        Spread(mean_positive=2.0, sd_positive=1.0, mean_negative=-1.0, sd_negative=0.0)
        """
        along = np.asarray(rows_nd, np.float64) @ np.asarray(direction, np.float64)
        one, zero = along[np.asarray(labels) == 1], along[np.asarray(labels) == 0]
        if not len(one) or not len(zero):
            raise UserError(f"{len(one)} rows of the positive class and {len(zero)} of the negative: both are needed")
        return cls(
            mean_positive=float(one.mean()),
            sd_positive=float(one.std()),
            mean_negative=float(zero.mean()),
            sd_negative=float(zero.std()),
        )


class KeptStrength(Strict):
    """A strength for so many nats, with its `kl`; `capped`: none was found, and this is the cap or the nearest."""

    nats: Positive
    sign: Literal[1, -1]
    strength: Number
    kl: Annotated[Number, Field(ge=0)]
    capped: bool = False


class _Header(Strict):
    """The JSON of the file."""

    format: Literal["theodolite-control/1"]
    concept: Words
    positive: Words
    negative: Words
    method: Words
    made_on: MadeOn
    changes: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST)]
    cap: Positive | None
    training_set: Digest
    spreads: Annotated[dict[str, Spread], Field(max_length=MOST)]
    strengths: Annotated[list[KeptStrength], Field(max_length=MOST)]


@dataclass(frozen=True, eq=False)
class ControlFile:
    """A fitted control as it is kept and passed on: its interventions at strength 1, and how strongly they may act.

    changes: the JSON forms of the interventions (`Intervention.to_json`). Their vectors along a direction have norm 1.
    cap: the largest strength that may be used. training_set: sha256 of the rows it was fitted on. spreads: by site.

    >>> made_on = MadeOn(name="mine", architecture="llama", d_model=2)
    >>> change = Intervention.add("blocks.3.resid_post", [0.6, 0.8])
    >>> control = ControlFile("joy", "difference_in_means", made_on, (change.to_json(),), cap=5.0)
    >>> control.at(-2.0)
    [Intervention(blocks.3.resid_post, Add(strength=-2.0), Direction(k=1, d_model=2), on all)]
    >>> control.at(0.0)
    []
    """

    concept: str
    method: str
    made_on: MadeOn
    changes: tuple[dict[str, Any], ...] = field(repr=False)
    cap: float = math.inf
    training_set: str = ""
    spreads: Mapping[str, Spread] = field(default_factory=dict, repr=False)
    strengths: Sequence[KeptStrength] = ()
    positive: str = ""
    negative: str = ""

    def __post_init__(self) -> None:
        # here, so that no way to a file, or out of one, lacks it
        check_concept(self.concept, self.positive, self.negative)
        for change in self.changes:
            if change.get("basis", {}).get("basis") != "latents":  # these wait for their dictionary
                _check_change(Intervention.from_json(change), self.made_on.d_model)
        for calibrated in self.strengths:
            if abs(calibrated.strength) > self.cap * (1 + 1e-6):
                raise UserError(f"strength {calibrated.strength:g} of {calibrated.nats:g} nats is above {self.cap:g}")

    def at(self, strength: float, dictionaries: Iterable[Any] = ()) -> list[Intervention]:
        """Return its interventions at a strength, none at 0; latents need their dictionary among those given."""
        check_strength(strength, self.cap)
        if strength == 0:
            return []
        given = list(dictionaries)
        return [scaled(Intervention.from_json(change, given), strength) for change in self.changes]

    def strength(self, nats: float, sign: int = 1) -> float:
        """Return the strength that was calibrated to so many nats, towards the positive class or (sign -1) away.

        A strength that does not have these nats is an error.
        """
        known: dict[tuple[float, int], KeptStrength] = {(each.nats, each.sign): each for each in self.strengths}
        if (nats, sign) not in known:
            levels = ", ".join(f"{n:g} ({'+' if s > 0 else '-'})" for n, s in sorted(known)) or "none"
            raise UserError(f"no strength is kept for {nats:g} nats and sign {sign:+d}: there are {levels}")
        found = known[nats, sign]
        if found.capped:
            raise UserError(
                f"no strength was found for {nats:g} nats: {found.strength:g}, at the cap or nearest, disturbs by "
                f"{found.kl:.3g}"
            )
        return found.strength

    @property
    def sites(self) -> list[Site]:
        """Sites that it changes, in the order of a pass."""
        return sorted({Site.parse(change["site"]) for change in self.changes})

    @property
    def directions(self) -> AtSites[np.ndarray]:
        """Return the unit vector (d) at each site where it adds along one direction."""
        forms = [c for c in self.changes if c["basis"].get("basis") == "direction" and c["rule"].get("rule") == "add"]
        return AtSites({Site.parse(c["site"]): unpack(c["basis"]["write"])[0] for c in forms})

    def check(self, model: LanguageModel) -> None:
        """Refuse a model of another width or without its sites; other weights are one warning."""
        made_on = self.made_on
        if made_on.d_model != model.d_model:
            raise UserError(
                f"the control {self.concept!r} has vectors of {made_on.d_model} numbers (made on {made_on.name!r}), "
                f"this model's states have {model.d_model}: give the model it was made on, or fit it again on this one"
            )
        for site in self.sites:
            model.site(site)
        if made_on.hash != model.hash:
            made = f"on weights {made_on.hash[:12]} of {made_on.name!r}" if made_on.hash else "on weights nobody knows"
            warnings.warn(
                f"1 control ({self.concept!r}) was made {made}, these have the hash {model.hash[:12]}: its strengths "
                "need not hold here",
                stacklevel=2,
            )

    def save(self, path: str | Path) -> Path:
        """Write the file, and beside it a card in words (`.md`); the name ends in `.safetensors`."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError(f"{str(path)!r} is no name of a control file: end it in .safetensors")
        tensors: dict[str, np.ndarray] = {}
        changes = [
            _without_arrays(c, f"{number}/{c['site']}", tensors) for number, c in enumerate(self.changes)
        ]  # arrays by number, site and place: 0/blocks.3.resid_post/basis/write
        fields = {
            "format": FORMAT,
            "concept": self.concept,
            "positive": self.positive,
            "negative": self.negative,
            "method": self.method,
            "made_on": self.made_on,
            "changes": changes,
            "cap": None if math.isinf(self.cap) else self.cap,
            "training_set": self.training_set,
            "spreads": dict(self.spreads),
            "strengths": list(self.strengths),
        }
        text = validated(_Header, fields, str(path)).model_dump_json()
        publish(path, save(tensors, metadata={HEADER: text}))
        publish(path.with_suffix(".md"), card(self).encode())
        return path

    @classmethod
    def open(cls, path: str | Path) -> "ControlFile":
        """Read a file; what is not one, is too large, or holds NaN or keys that are not known, is refused."""
        path = Path(path)
        text, tensors = _read(path)
        used: list[str] = []
        try:
            header = validated(_Header, _json(text, path), str(path))
            changes = tuple(_with_arrays(change, tensors, used, path) for change in header.changes)
        except RecursionError:
            raise UserError(f"{path}: its JSON is nested too deep") from None
        if sorted(used) != sorted(tensors):
            raise UserError(
                f"{path} holds the tensors {sorted(tensors)[:5]}, its interventions name {sorted(used)[:5]}"
            )
        rest = {name: getattr(header, name) for name in ("concept", "method", "made_on", "training_set", "spreads")}
        try:
            return cls(
                **rest,
                changes=changes,
                cap=math.inf if header.cap is None else header.cap,
                strengths=tuple(header.strengths),
                positive=header.positive,
                negative=header.negative,
            )
        except (UserError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} holds no valid intervention: {error}") from None


def check_strength(strength: float, cap: float = math.inf) -> float:
    """Return a strength, or an error if it is no finite number or beyond the cap."""
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not math.isfinite(strength):
        raise UserError(f"strength {strength!r} is no finite number")
    if abs(strength) > cap * (1 + 1e-6):  # one that was calibrated to the cap may be above it by the last bit
        raise UserError(f"strength {strength:g} is above the cap of {cap:g}: beyond it text falls apart")
    return float(strength)


def scaled(change: Intervention, strength: float) -> Intervention:
    """Return an intervention at another strength; one whose rule is not linear in it exists at strength 1 only."""
    if isinstance(change.rule, Add):
        return change.at(change.rule.strength * strength)
    if isinstance(change.rule, Clamp):
        return change.at(change.rule.value * strength)
    if strength != 1:
        raise UserError(f"{change} has no strength between none and all: give 1")
    return change


def _check_change(change: Intervention, d_model: int) -> None:
    """Refuse a direction that is no unit vector, and vectors of the stream of another width than the model's."""
    width, on_stream = change.basis.d_model, change.site.block is None or change.site.part in PARTS
    if width is not None and on_stream and change.site.part != "logits" and width != d_model:
        raise UserError(f"{change} has vectors of {width} numbers, the model it was made on has states of {d_model}")
    if isinstance(change.basis, Direction):
        norm = float(np.linalg.norm(change.basis.write_kd.astype(np.float64)))
        if abs(norm - 1) > _UNIT:
            raise UserError(
                f"{change} has a vector of norm {norm:.4g}: keep the unit vector, and its length in the rule"
            )


def _read(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the JSON text and the tensors of a file; sizes and types are looked at before a tensor is read."""
    if not path.is_file():
        raise UserError(f"no control file {str(path)!r}")
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, no control has more than {LARGEST:,}")
    try:
        with safe_open(path, "np") as opened:
            text, names = (opened.metadata() or {}).get(HEADER), list(opened.keys())
            if text is None:
                raise UserError(f"{path} is no control file of theodolite: its header lacks the entry {HEADER!r}")
            if len(text) > LONGEST or len(names) > MOST:
                raise UserError(f"{path} has {len(text):,} characters of JSON and {len(names):,} tensors: too many")
            if other := [name for name in names if opened.get_slice(name).get_dtype() != "F32"]:
                raise UserError(f"{path}: tensor {other[0]!r} is {opened.get_slice(other[0]).get_dtype()}, not F32")
            tensors = {name: opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if bad := [name for name, array in tensors.items() if not np.isfinite(array).all()]:
        raise UserError(f"{path}: tensor {bad[0]!r} holds NaN or infinite numbers")
    return text, tensors


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, parse_constant=_refused, object_pairs_hook=_once)
    except ValueError as error:
        raise UserError(f"{path}: its JSON is damaged ({error})") from None


def _refused(word: str) -> float:
    raise ValueError(f"{word} is not a finite number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _without_arrays(form: Any, place: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return a JSON form with its packed arrays moved into the tensors, and their names in their place."""
    if isinstance(form, dict) and "float32" in form:
        tensors[place] = unpack(form)
        return {"tensor": place}
    if isinstance(form, dict):
        return {key: _without_arrays(value, f"{place}/{key}", tensors) for key, value in form.items()}
    return form


def _with_arrays(form: Any, tensors: Mapping[str, np.ndarray], used: list[str], path: Path) -> Any:
    """Return a JSON form with the arrays back in it; each tensor is used once, and no array stands in the JSON."""
    if not isinstance(form, dict):
        return form
    if "float32" in form:
        raise UserError(f"{path}: an array stands in the JSON, where only names of tensors may")
    if "tensor" not in form:
        return {key: _with_arrays(value, tensors, used, path) for key, value in form.items()}
    name = form["tensor"]
    if set(form) != {"tensor"} or not isinstance(name, str) or name not in tensors or name in used:
        raise UserError(f"{path}: {form!r:.60} names no tensor of the file, or one that is taken")
    used.append(name)
    return pack(tensors[name])
