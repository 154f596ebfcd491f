"""A trained dictionary: rows in, latents out, and back. Every format in `formats/` becomes this one value."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from scipy import sparse as scipy_sparse
from torch import Tensor
from torch.nn.functional import pad

from theodolite.core.errors import UserError
from theodolite.dictionaries.activations import AbsTopKRule, Activation, TopKRule
from theodolite.dictionaries.ops import sparse, tiles
from theodolite.dictionaries.refit import magnitudes

Normalise = Literal["none", "centre", "layer_norm", "constant_norm"]


@dataclass(frozen=True, eq=False)
class Dictionary:
    """z = activation(W_enc (x - b_dec) + b_enc), x̂ = z W_dec + b_dec; latents are rows of both matrices.

    `subtract_b_dec=False` leaves b_dec out of the encoder (Gemma Scope). `normalise` is what is done to every row
    before and undone after: `centre` (mean 0 over d_model), `layer_norm` (mean 0, standard deviation 1) or
    `constant_norm` (norm sqrt d). A constant factor is never kept apart: it is folded into the weights. `info` is what
    the file said about itself: model, site, card.

    A transcoder predicts rows of another site, which may have another width: x̂ = z W_dec + b_dec + W_skip x, where
    W_skip (d_out, d_in) is None or a skip transcoder's affine path. `refit`: magnitudes of the active latents are
    those that fit the row best (`refit.py`), not the encoder's.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    activation: Activation
    subtract_b_dec: bool = True
    normalise: Normalise = "none"
    info: dict[str, Any] = field(default_factory=dict)
    W_skip: Tensor | None = None
    refit: bool = False

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def width(self) -> int:
        return self.W_dec.shape[0]

    @property
    def is_transcoder(self) -> bool:
        """Return whether its target is not the row it reads: declared, by an affine path, or by the width of its
        output.
        """
        return "read_site" in self.info or self.W_skip is not None or self.d_out != self.d_in

    def fingerprint(self) -> str:
        """sha256 over weights, activation rule and row treatment: equal fingerprints give equal latents."""
        rule = self.activation
        words = [rule.name, rule.numbers(), self.subtract_b_dec, self.normalise, *["refit"] * self.refit]
        whole = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
        for tensor in (*self.weights().values(), *rule.tensors().values()):
            whole.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return whole.hexdigest()

    def weights(self) -> dict[str, Tensor]:
        """The matrices and biases by name; W_skip only where there is one."""
        found = {name: getattr(self, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip")}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def info_after(self, **change: Any) -> dict[str, Any]:
        """Return the info of a dictionary whose weights have changed, without the card, which is of the old ones."""
        return {name: said for name, said in self.info.items() if name != "card"} | change

    def to(self, device: str | torch.device) -> "Dictionary":
        """Return this dictionary on another device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.weights().items()}
        return replace(self, activation=self.activation.to(device), **moved)

    def folded(self, scale: float | Tensor, scale_out: float | None = None) -> "Dictionary":
        """This dictionary of rows times `scale`, as one of the rows themselves; `scale_out` is the targets' factor.

        Latents of a homogeneous rule are `scale` times smaller then and the encoder stays; those of another rule stay,
        and the matrices change. A factor for every coordinate (d) always goes into the matrices.
        """
        out = scale if scale_out is None else scale_out
        how: dict[str, Any] = {"b_dec": self.b_dec / out}
        if self.W_skip is not None:
            how["W_skip"] = self.W_skip * (scale / out)
        if isinstance(scale, float | int) and self.activation.homogeneous:
            how |= {"b_enc": self.b_enc / scale, "activation": self.activation.times(1 / scale)}
            return replace(self, **how, W_dec=self.W_dec if out == scale else self.W_dec * (scale / out))
        return replace(self, **how, W_enc=self.W_enc * scale, W_dec=self.W_dec / out)

    def normalised(self, x_nd: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """The rows the encoder sees, with the scale and shift that lead back."""
        x = x_nd.to(self.W_enc.dtype)
        if self.normalise == "centre":
            mean = x.mean(1, keepdim=True)
            return x - mean, 1.0, mean
        if self.normalise == "layer_norm":
            mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True)
            return (x - mean) / (std + 1e-5), std, mean  # SAELens adds 1e-5 on the way in only
        if self.normalise == "constant_norm":
            scale = x.norm(dim=1, keepdim=True) / self.d_in**0.5
            return x / scale, scale, 0.0
        return x, 1.0, 0.0

    def pre_activations(self, x_nd: Tensor) -> Tensor:
        """W_enc (x - b_dec) + b_enc, after the row normalisation."""
        return torch.addmm(self.b_enc, self._encoder_inputs(x_nd), self.W_enc.T)

    def _encoder_inputs(self, x_nd: Tensor) -> Tensor:
        x_nd, _, _ = self.normalised(x_nd)
        return x_nd - self.b_dec if self.subtract_b_dec else x_nd

    def encode(self, x_nd: Tensor) -> Tensor:
        """(n, width) latents, mostly 0; negative ones from a signed rule only."""
        if self.refit:
            idx, val = self.encode_sparse(x_nd)
            return val.new_zeros(len(val), self.width).scatter_add(1, idx, val)
        return self.activation(self.pre_activations(x_nd), self.W_dec)

    def encode_sparse(self, x_nd: Tensor) -> tuple[Tensor, Tensor]:
        """(n, k) indices and values of the active latents, k the largest L0 of these rows; empty slots have value 0."""
        idx, val = self._active(x_nd)
        return (idx, self._refitted(x_nd, idx, val)) if self.refit else (idx, val)

    def _active(self, x_nd: Tensor) -> tuple[Tensor, Tensor]:
        """Latents as of `encode_sparse`, with the encoder's own magnitudes; in tiles where they are many."""
        return self._in_tiles(x_nd) if len(x_nd) * self.width > tiles.CELLS else self._whole(x_nd)

    def _whole(self, x_nd: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.activation, TopKRule):
            return sparse.top_k(self.pre_activations(x_nd), self.activation.k)
        z_nf = self.activation(self.pre_activations(x_nd), self.W_dec)
        k = max(int((z_nf != 0).sum(1).max()), 1) if len(z_nf) else 1
        idx = z_nf.abs().topk(k, dim=1, sorted=False).indices
        return idx, z_nf.gather(1, idx)

    def _in_tiles(self, x_nd: Tensor) -> tuple[Tensor, Tensor]:
        rule, inputs = self.activation, self._encoder_inputs(x_nd)
        if isinstance(rule, TopKRule | AbsTopKRule):
            return tiles.top_k(inputs, self.W_enc, self.b_enc, rule.k, signed=rule.signed)
        if rule.elementwise:
            return tiles.active(
                inputs, self.W_enc, self.b_enc, lambda latents, pre: rule.part(latents)(pre, self.W_dec)
            )
        found = [self._whole(part) for part in x_nd.split(tiles.row_blocks(len(x_nd), self.width))]
        k = max(idx.shape[1] for idx, _ in found)  # rows of a block have as many slots as its fullest row
        idx, val = ([pad(part, (0, k - part.shape[1])) for part in parts] for parts in zip(*found, strict=True))
        return torch.cat(idx), torch.cat(val)

    def _refitted(self, x_nd: Tensor, idx: Tensor, val: Tensor) -> Tensor:
        if self.is_transcoder:
            raise UserError("refit=True: a transcoder's target is not the row it reads, so nothing can be fitted to it")
        _, scale, shift = self.normalised(x_nd)
        target = (x_nd.to(self.W_dec.dtype) - shift) / scale - self.b_dec
        return magnitudes(target, idx, val, self.W_dec, signed=self.activation.signed)

    def decode(self, z_nf: Tensor) -> Tensor:
        """z W_dec + b_dec, in the normalised space if rows are normalised; W_skip's part needs the row itself."""
        return z_nf @ self.W_dec + self.b_dec

    def reconstruct(self, x_nd: Tensor) -> Tensor:
        """x̂ for every row, in the space of x, or of the targets."""
        return self.code(x_nd)[2]

    def code(self, x_nd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Indices and values as from `encode_sparse`, and the reconstruction."""
        idx, val = self.encode_sparse(x_nd)
        x, scale, shift = self.normalised(x_nd)
        x_hat = sparse.decode(idx, val, self.W_dec) + self.b_dec
        if self.W_skip is not None:
            x_hat = x_hat + x @ self.W_skip.T
        return idx, val, x_hat * scale + shift

    def fvu(self, x_nd: Tensor, target_nd: Tensor | None = None) -> float:
        """Error energy over the variance about the mean of the same rows, in float64; not finite for equal rows.

        target: the rows a transcoder predicts; without them a row is its own target.
        """
        y = (x_nd if target_nd is None else target_nd).double()
        error = y - self.reconstruct(x_nd)
        y = self.explainable(y)
        return float(error.square().sum() / (y - y.mean(0)).square().sum())

    def explainable(self, y_nd: Any) -> Any:
        """The rows (n, d) whose variance an FVU is a share of; a mean that is passed through explains nothing.

        A tensor or an array. `layer_norm` and `constant_norm` give back more than a mean, but peers count it in.
        """
        return y_nd - y_nd.mean(1)[:, None] if self.normalise == "centre" else y_nd


def to_csr(idx_nk: Tensor, val_nk: Tensor, width: int) -> scipy_sparse.csr_matrix:
    """Active latents as a scipy matrix; values of 0 are empty slots and are not stored."""
    idx, val = idx_nk.cpu().numpy(), val_nk.cpu().numpy()
    kept = val != 0
    starts = [0, *kept.sum(1).cumsum()]
    return scipy_sparse.csr_matrix((val[kept], idx[kept], starts), shape=(len(idx), width))
