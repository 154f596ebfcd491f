"""The coordinates in which an intervention works: E reads them from the stream, W_D writes a change of them back."""

import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from theodolite.core.errors import UserError, unknown

if TYPE_CHECKING:
    from torch import Tensor


class Basis(Protocol):
    """z = E(h) and W_D: anything with these two methods is a basis.

    `decode` is linear and takes a *change* of z, so that a bias or a reconstruction error never enters.
    """

    @property
    def d_model(self) -> int | None:
        """The width it fits, or None for any."""

    def encode(self, h: "Tensor") -> "Tensor":
        """Coordinates of the last axis of `h`."""

    def decode(self, change: "Tensor") -> "Tensor":
        """Return the change of the stream that a change of the coordinates makes."""

    def to_json(self) -> dict[str, Any]:
        """The form `from_json` reads."""


@dataclass(frozen=True)
class Identity:
    """The stream itself: h' = g(h)."""

    d_model = None

    def encode(self, h: "Tensor") -> "Tensor":
        return h

    def decode(self, change: "Tensor") -> "Tensor":
        return change

    def to_json(self) -> dict[str, Any]:
        return {"basis": "identity"}


class Subspace:
    """The span of k vectors; coordinates are in units of those vectors, whatever their length or angles.

    E is the pseudo-inverse of the written vectors unless `read` names other ones: the removal of a weight component
    u v^T is `Subspace(u, read=v)` with a rule of zero.

    >>> Subspace([[0.0, 4.0]]).read_kd.tolist()  # v / |v|^2, so that z = 1 at h = v
    [[0.0, 0.25]]
    """

    name = "subspace"

    def __init__(self, write: Any, read: Any = None) -> None:
        self.write_kd = _matrix("write", write)
        exact = np.linalg.pinv(self.write_kd.astype(np.float64)).T if read is None else read
        self.read_kd = _matrix("read", exact)
        self._given = read is not None
        if self.write_kd.shape != self.read_kd.shape:
            raise UserError(f"read has shape {self.read_kd.shape}, write has {self.write_kd.shape}: they must agree")

    @property
    def d_model(self) -> int:
        return self.write_kd.shape[1]

    def encode(self, h: "Tensor") -> "Tensor":
        return h @ h.new_tensor(self.read_kd).T

    def decode(self, change: "Tensor") -> "Tensor":
        return change @ change.new_tensor(self.write_kd)

    def to_json(self) -> dict[str, Any]:
        read = {"read": pack(self.read_kd)} if self._given else {}
        return {"basis": self.name, "write": pack(self.write_kd)} | read

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={len(self.write_kd)}, d_model={self.d_model})"


class Direction(Subspace):
    """One vector v: z = h.v / |v|^2 counts how many v are in h."""

    name = "direction"

    def __init__(self, write: Any, read: Any = None) -> None:
        super().__init__(write, read)
        if len(self.write_kd) != 1:
            raise UserError(f"a direction is one vector, not {len(self.write_kd)}: use a subspace")


def basis_from_json(form: dict[str, Any]) -> Basis:
    """The basis a JSON form describes."""
    kinds = {"direction": Direction, "subspace": Subspace}
    name = form.get("basis")
    if name == "identity":
        return Identity()
    if name not in kinds:
        raise unknown("basis", str(name), ["identity", *kinds])
    return kinds[name](unpack(form["write"]), unpack(form["read"]) if "read" in form else None)


def pack(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON: float32, little-endian, exact.

    >>> unpack(pack(np.array([0.1, -2.0], np.float32))).tolist() == np.array([0.1, -2.0], np.float32).tolist()
    True
    """
    data = np.ascontiguousarray(array, "<f4")
    return {"shape": list(data.shape), "float32": base64.b64encode(data.tobytes()).decode()}


def unpack(form: dict[str, Any]) -> np.ndarray:
    """The array of a JSON form; a form may come from a stranger, so its size and its values are checked."""
    try:
        data = base64.b64decode(form["float32"], validate=True)
        shape = [int(n) for n in form["shape"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"not an array in JSON form: {error}") from None
    if any(n < 0 for n in shape) or len(data) != 4 * math.prod(shape):
        raise UserError(f"an array of shape {shape} has {4 * math.prod(shape)} bytes, not {len(data)}")
    return _finite("array", np.frombuffer(data, "<f4").reshape(shape).astype(np.float32))


def _matrix(name: str, value: Any) -> np.ndarray:
    rows_kd = np.atleast_2d(np.asarray(value, np.float32))
    if rows_kd.ndim != 2 or not rows_kd.any(axis=-1).all():
        raise UserError(f"{name}: expected vectors other than zero as rows (k, d), got shape {rows_kd.shape}")
    return _finite(name, rows_kd)


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds NaN or infinite numbers")
    return array
