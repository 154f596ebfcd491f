"""The coordinates in which an intervention works: E reads them from the stream, W_D writes a change of them back."""

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from theodolite.core.discover import Registry, registered
from theodolite.core.errors import UserError
from theodolite.core.latents import LatentBasis
from theodolite.core.neurons import Neurons
from theodolite.core.tensors import Constant, detached, is_tensor, like

if TYPE_CHECKING:
    from torch import Tensor


class Basis(Protocol):
    """z = E(h) and W_D: anything with these methods is a basis.

    `decode` is linear and takes a *change* of z, so that a bias or a reconstruction error never enters. One that is to
    be read from JSON has a `name` and a class method `from_json(form, dictionaries)`; a package of yours registers it
    as an entry point of that name in the group `theodolite.bases`.
    """

    @property
    def d_model(self) -> int | None:
        """The width it fits, or None for any."""

    def encode(self, h: "Tensor") -> "Tensor":
        """Coordinates of the last axis of `h`."""

    def decode(self, change: "Tensor") -> "Tensor":
        """Return the change of the stream that a change of the coordinates makes."""

    def to_json(self) -> dict[str, Any]:
        """The form that `basis_from_json` reads: at least {"basis": name}."""


@dataclass(frozen=True)
class Identity:
    """The stream itself: h' = g(h)."""

    d_model = None
    name: ClassVar[str] = "identity"
    is_constant: ClassVar[bool] = True

    def encode(self, h: "Tensor") -> "Tensor":
        return h

    def decode(self, change: "Tensor") -> "Tensor":
        return change

    def to_json(self) -> dict[str, Any]:
        return {"basis": self.name}

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "Identity":
        """Return the basis that a JSON form describes."""
        return cls()


class Subspace:
    """The span of k vectors; coordinates are in units of those vectors, whatever their length or angles.

    E is the pseudo-inverse of the written vectors unless `read` names other ones: the removal of a weight component
    u v^T is `Subspace(u, read=v)` with a rule of zero. Vectors that are a tensor stay that tensor: they get their
    gradient in a pass with gradients, and what is written into them later counts.

    >>> Subspace([[0.0, 4.0]]).read_kd.tolist()  # v / |v|^2, so that z = 1 at h = v
    [[0.0, 0.25]]
    """

    name = "subspace"

    def __init__(self, write: Any, read: Any = None) -> None:
        self._write, self._read = _vectors("write", write), None if read is None else _vectors("read", read)
        self._given = read is not None
        if self._read is None and isinstance(self._write, Constant):
            self._read = _vectors("read", _pseudo_inverse(self._write.array))  # once: it does not change
        if self.write_kd.shape != self.read_kd.shape:
            raise UserError(f"read has shape {self.read_kd.shape}, write has {self.write_kd.shape}: they must agree")

    @property
    def write_kd(self) -> np.ndarray:
        """The written vectors as they are now, (k, d) float32."""
        return _array(self._write)

    @property
    def read_kd(self) -> np.ndarray:
        """The vectors that z is read with as they are now, (k, d) float32."""
        return _pseudo_inverse(self.write_kd) if self._read is None else _array(self._read)

    @property
    def d_model(self) -> int:
        return int((self._write.array if isinstance(self._write, Constant) else self._write).shape[-1])

    @property
    def is_constant(self) -> bool:
        """Return whether no tensor is in it, which someone may write into."""
        return isinstance(self._write, Constant) and isinstance(self._read, Constant)

    def encode(self, h: "Tensor") -> "Tensor":
        if self._read is not None:
            return h @ _on(self._read, h).mT
        return h @ _right_inverse(_rows(self._write)).to(h)

    def decode(self, change: "Tensor") -> "Tensor":
        return change @ _on(self._write, change)

    def cosine(self, h: "Tensor") -> "Tensor":
        """Return the cosines of states with each vector, (..., k); 0 for a state of zeros."""
        rows_kd = _on(self._write, h)
        norms = h.norm(dim=-1, keepdim=True) * rows_kd.norm(dim=-1)
        return h @ rows_kd.mT / norms.clamp_min(1e-30)

    def to_json(self) -> dict[str, Any]:
        read = {"read": pack(self.read_kd)} if self._given else {}
        return {"basis": self.name, "write": pack(self.write_kd)} | read

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "Subspace":
        """Return the basis that a JSON form describes."""
        return cls(unpack(form.get("write", {})), unpack(form["read"]) if "read" in form else None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={len(self.write_kd)}, d_model={self.d_model})"


class Direction(Subspace):
    """One vector v: z = h.v / |v|^2 counts how many v are in h."""

    name = "direction"

    def __init__(self, write: Any, read: Any = None) -> None:
        super().__init__(write, read)
        if len(self.write_kd) != 1:
            raise UserError(f"a direction is one vector, not {len(self.write_kd)}: use a subspace")


def bases() -> Registry:
    """Return the class of every basis that has a JSON form, by name: ours and those of installed packages."""
    return registered([Identity, Direction, Subspace, LatentBasis, Neurons], "theodolite.bases", "basis")


def basis_from_json(form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> Basis:
    """Return the basis that a JSON form describes; latents need their dictionary among those given."""
    cls: Any = bases()[str(form.get("basis"))]
    return cls.from_json(form, dictionaries)


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


def _vectors(name: str, value: Any) -> Any:
    """Return vectors as constant rows (k, d) in float32, or the tensor that they are, once they are checked."""
    rows_kd = np.atleast_2d(np.asarray(detached(value), np.float32))
    if rows_kd.ndim != 2 or not rows_kd.any(axis=-1).all():
        raise UserError(f"{name}: expected vectors other than zero as rows (k, d), got shape {rows_kd.shape}")
    _finite(name, rows_kd)
    return value if is_tensor(value) else Constant(rows_kd)


def _array(vectors: Any) -> np.ndarray:
    """Return vectors as they are now, (k, d) float32."""
    return np.array(np.atleast_2d(detached(vectors)), np.float32)  # a copy, which its taker may write into


def _right_inverse(rows_kd: "Tensor") -> "Tensor":
    """Return the pseudo-inverse (d, k) of a tensor; of one row it needs no decomposition, at every pass."""
    return rows_kd.mT / rows_kd.square().sum() if len(rows_kd) == 1 else rows_kd.pinverse()


def _on(vectors: Any, h: "Tensor") -> "Tensor":
    """Return vectors as rows (k, d) in the dtype and on the device of states."""
    return vectors.like(h) if isinstance(vectors, Constant) else _rows(like(vectors, h))


def _rows(tensor: "Tensor") -> "Tensor":
    """Return one vector (d) as a row (1, d), several as they are; half precision as float32, to be inverted."""
    wide = tensor.float() if tensor.dtype.itemsize < 4 else tensor
    return wide.reshape(-1, tensor.shape[-1])


def _pseudo_inverse(write_kd: np.ndarray) -> np.ndarray:
    """Return the vectors (k, d) that read the coordinates in units of the written ones."""
    return np.linalg.pinv(write_kd.astype(np.float64)).T.astype(np.float32)


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds NaN or infinite numbers")
    return array
