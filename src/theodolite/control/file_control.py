"""Controls to and from their files: what was fitted is kept as interventions at strength 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from theodolite.control.control import Control
from theodolite.control.policy import Intervened
from theodolite.core.basis import Direction
from theodolite.core.block_order import BlockOrder
from theodolite.core.control_file import ControlFile, KeptStrength, MadeOn, Spread, scaled
from theodolite.core.errors import UserError
from theodolite.core.site import Site
from theodolite.models.model import Model


@dataclass(frozen=True, eq=False)
class FileControl:
    """The control that a file holds, on a model; latents need their dictionary among those given.

    >>> from theodolite.control.control import VectorControl
    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())
    >>> push = VectorControl.scaled(model, "difference_in_means", "blocks.1.resid_post", [1.0] * 32, 0.5)
    >>> kept = FileControl(model, to_file(push, concept="joy"))
    >>> kept.at(2.0).interventions
    [Intervention(blocks.1.resid_post, Add(strength=2.0), Direction(k=1, d_model=32), on all)]
    """

    model: Model
    file: ControlFile
    dictionaries: Sequence[Any] = ()
    has_dial: bool = True

    def __post_init__(self) -> None:
        self.file.check(self.model)

    @property
    def method(self) -> str:
        """Name of the method that fitted it."""
        return self.file.method

    @property
    def site(self) -> Site | None:
        """The first site that it changes."""
        return self.file.sites[0]

    @property
    def cap(self) -> float:
        """The largest strength."""
        return self.file.cap

    def at(self, strength: float) -> Intervened:
        return Intervened(self.model, self.file.at(strength, self.dictionaries))


def to_file(
    control: Control,
    *,
    concept: str,
    positive: str = "",
    negative: str = "",
    training_set: str = "",
    strengths: Sequence[KeptStrength] = (),
    rows: tuple[Any, Any] | None = None,
) -> ControlFile:
    """Return the file of a control that acts by interventions; one that mixes or instructs has none.

    rows: states (n, d) of the training texts at the control's site with their labels (n), for the natural scale.
    """
    unit = min(1.0, control.cap)  # a control whose cap is below 1 has nothing at 1
    policy = control.at(unit)
    changes = getattr(policy, "interventions", ())
    if not changes or any(isinstance(change, BlockOrder) for change in changes):
        raise UserError(f"{control.method} is no intervention on states, so that no file can hold it")
    assert isinstance(policy, Intervened)
    at_one = [scaled(change, 1 / unit) for change in changes if not isinstance(change, BlockOrder)]
    spreads = {
        str(change.site): Spread.of(change.basis.write_kd[0], *rows)
        for change in at_one
        if rows is not None and change.site == control.site and isinstance(change.basis, Direction)
    }
    return ControlFile(
        concept,
        control.method,
        MadeOn.of(policy.model),
        tuple(change.to_json() for change in at_one),
        cap=control.cap,
        training_set=training_set,
        spreads=spreads,
        strengths=tuple(strengths),
        positive=positive,
        negative=negative,
    )
