"""Methods of control: each fits a `Control` from `Material`, and is found by the name of its file."""

from collections.abc import Sequence
from typing import Any, ClassVar

from theodolite.control.control import Control
from theodolite.control.material import Material
from theodolite.core.discover import Registry, discover
from theodolite.core.errors import UserError, unknown
from theodolite.core.methods import Method as ReaderMethod
from theodolite.core.methods import check_known, parse, split
from theodolite.core.reader import LinearReader

PACKAGE = "theodolite.control.methods"
GROUP = "theodolite.controls"
ADAPTER = "reader_direction"  # the file that makes a control of a reader, which goes by the reader's name


class Method:
    """A way to fit a control.

    A method is one subclass in one file of `control/methods`: `__init__` only stores its parameters, and `fit` returns
    a control and sets three names. `passes_` counts the texts that it ran through the model, once for each time, beside
    the training rows that it was given; `n_fits_` counts the fits and candidates that it chose among; `facts_` holds
    what a report can say of the result, as JSON. `saw` says in words what the method was allowed to see, `needs` names
    the optional parts of the material that it cannot do without. `at_depth` is False for a method that changes no state
    inside the model, such as a prompt or a bias of the logits: a run at several sites measures it once.
    """

    saw: ClassVar[str] = "training texts and labels"
    at_depth: ClassVar[bool] = True
    needs: tuple[str, ...] = ()
    passes_: int
    n_fits_: int
    facts_: dict[str, Any]

    def fit(self, material: Material) -> Control:
        """Return the control that this method fits; `passes_`, `n_fits_` and `facts_` are set."""
        raise TypeError(f"{type(self).__name__} must define fit(material)")

    def made_by(self) -> tuple[type, ...]:
        """Return the classes whose code makes the control: what is kept of it is kept under their hash."""
        return (type(self),)

    def describe(self) -> dict[str, Any]:
        """Return what a report can say of the last fit: its cost, what it saw, and facts such as chosen latents."""
        return {"saw": self.saw, "passes": self.passes_, "fits": self.n_fits_} | self.facts_

    def _done(self, *, passes: int, fits: int, **facts: Any) -> None:
        self.passes_, self.n_fits_, self.facts_ = passes, fits, facts


def control_methods(files: Sequence[str] = ()) -> Registry:
    """Return the class of every method of control by name: ours, those of installed packages, and those of files.

    >>> "difference_in_means" in control_methods(), "latent_set" in control_methods()
    (False, True)
    """
    return discover(PACKAGE, GROUP, files, kind="method of control")


def control_method(spec: str, files: Sequence[str] = ()) -> Method:
    """Return the method that a spec such as `latent(choose=output)` names; a linear reader's name is one too.

    A reader steers along the direction that it reads along. Where a control method and a reader have one name, the
    method of control is meant.

    >>> type(control_method("latent_set")).__name__, type(control_method("logistic(C=0.1)")).__name__
    ('LatentSet', 'ReaderDirection')
    """
    name, params, view = split(spec, "method of control")
    if view is not None:
        raise UserError(f"method of control {spec!r}: a control has no view; write {spec.rpartition('@')[0]!r}")
    known, readers = control_methods(files), discover()
    if name in known:
        cls: Any = known[name]
        check_known(params, cls, name)
        return cls(**params)
    if name in readers:
        linear_reader(spec)  # any other is an error now, not after the model was read
        return known[ADAPTER](reader=spec)
    raise unknown("method of control", name, [*(set(known) - {ADAPTER}), *filter(_has_direction, readers)])


def linear_reader(spec: str) -> ReaderMethod:
    """Return the reader that a spec names; one without a direction in the state to steer along is an error.

    >>> linear_reader("lda").view
    'state'
    """
    if not _has_direction(spec):
        raise UserError(
            f"the reader {spec!r} has no direction in the state to steer along: take a linear reader of the state, "
            "such as difference_in_means, or latent_set for latents"
        )
    return parse(spec)


def _has_direction(spec: str) -> bool:
    reader = parse(spec)
    return issubclass(reader.cls, LinearReader) and reader.view == "state"
