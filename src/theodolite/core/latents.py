"""Dictionary latents as the coordinates of an intervention."""

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from theodolite.core.errors import UserError
from theodolite.core.several import several

if TYPE_CHECKING:
    from torch import Tensor

# Rows that are encoded at once: all latents of a row are computed to choose a few of them, which at 16k latents is
# 256 MiB for this many rows
_ROWS = 4096


class LatentDictionary(Protocol):
    """A dictionary as far as `LatentBasis` needs it; `dictionaries.dictionary.Dictionary` is one."""

    @property
    def W_dec(self) -> "Tensor":
        """Decoder rows, (width, d_out)."""

    @property
    def normalise(self) -> str:
        """Name of the treatment of every row before encoding."""

    @property
    def is_transcoder(self) -> bool:
        """Return whether it reads another site than it writes."""

    def encode(self, x_nd: "Tensor") -> "Tensor":
        """Latents (n, width) of rows."""

    def fingerprint(self) -> str:
        """sha256 over all that its latents depend on."""

    def to(self, device: Any) -> "LatentDictionary":
        """Return this dictionary on another device."""


class LatentBasis:
    """Chosen latents of a dictionary: z is what its encoder gives, and a change of z is written by their decoder rows.

    The decoder's bias and the dictionary's error never enter, because the change is decoded and not the latents:
    clamping a latent to c gives h + (c - z) W_dec, which is the clamped reconstruction plus the old error. A
    transcoder needs a `read_site` in its intervention. Dictionaries that divide every row by its own norm are refused:
    their latents have no fixed direction in the stream.

    >>> from theodolite.core.intervention import Intervention
    >>> from theodolite.core.rules import Clamp
    >>> Intervention("blocks.17.resid_post", Clamp(8.0), LatentBasis(sae, 621))  # doctest: +SKIP
    Intervention(blocks.17.resid_post, Clamp(value=8.0), LatentBasis([621] of 8192), on all)
    """

    name = "latents"

    def __init__(self, dictionary: Any, latents: int | Iterable[int]) -> None:
        self.dictionary: LatentDictionary = dictionary
        self.latents = distinct_indices("latent", latents, len(dictionary.W_dec))
        if dictionary.normalise not in ("none", "centre"):
            raise UserError(
                f"this dictionary normalises every row ({dictionary.normalise}): its latents have no fixed direction "
                "in the stream: use Direction(dictionary.W_dec[latent]) instead"
            )
        self.reads_elsewhere = dictionary.is_transcoder
        self._on: dict[Any, LatentDictionary] = {dictionary.W_dec.device: dictionary}

    @property
    def d_model(self) -> int:
        return self.dictionary.W_dec.shape[1]

    def encode(self, h: "Tensor") -> "Tensor":
        import torch

        dictionary = self._beside(h)
        parts = [dictionary.encode(rows)[:, self.latents] for rows in h.reshape(-1, h.shape[-1]).split(_ROWS)]
        return torch.cat(parts).reshape(*h.shape[:-1], len(self.latents)).to(h.dtype)

    def decode(self, change: "Tensor") -> "Tensor":
        return change @ self._beside(change).W_dec[self.latents].to(change.dtype)

    def to_json(self) -> dict[str, Any]:
        return {"basis": self.name, "dictionary": self.dictionary.fingerprint(), "latents": self.latents}

    @classmethod
    def from_json(cls, form: dict[str, Any], dictionaries: Iterable[Any] = ()) -> "LatentBasis":
        """Return the basis; a form names its dictionary by the fingerprint, and it must be among those given."""
        wanted, given = str(form.get("dictionary")), several(dictionaries)
        for dictionary in given:
            if dictionary.fingerprint() == wanted:
                return cls(dictionary, form.get("latents", ()))
        raise UserError(
            f"latents of the dictionary with fingerprint {wanted[:12]}: it is not among the {len(given)} that were "
            "given as dictionaries=[...]"
        )

    def _beside(self, h: "Tensor") -> LatentDictionary:
        """The dictionary on the device of `h`; each copy is made once."""
        if h.device not in self._on:
            self._on[h.device] = self.dictionary.to(h.device)
        return self._on[h.device]

    def __repr__(self) -> str:
        return f"LatentBasis({self.latents} of {len(self.dictionary.W_dec)})"


def distinct_indices(kind: str, values: Any, n: int) -> list[int]:
    """Return indices below n as a list; of what is no such index, comes twice, or is none at all, an error."""
    try:
        found = [operator.index(value) for value in several(values)]
    except TypeError:
        raise UserError(f"{kind}s are {values!r}: give a whole number or a list of them") from None
    if not found or len(set(found)) != len(found):
        raise UserError(f"{kind}s are {found}: give each once, and at least one")
    if wrong := [i for i in found if not 0 <= i < n]:
        raise UserError(f"there is no {kind} {wrong[0]}: they count from 0 to {n - 1}")
    return found
