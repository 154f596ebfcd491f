"""Gated dictionaries (2404.16014)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.dictionaries.activations import GatedRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops.support import entries_above
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.training.sparsity import Penalised, linear_gradients


@dataclass(eq=False)
class GatedSAE(Penalised):
    """A gate decides which latents fire, a second path how much; the penalty sees the gate alone, so nothing shrinks.

    With π = W_enc (x - b_dec) + b_gate: z = 1[π > 0] relu(exp(r_mag) W_enc (x - b_dec) + b_mag); the loss is the
    error's share of the variance, coefficient times sum relu(π) per row, and the share that relu(π) misses through the
    decoder (W_dec, b_dec) held fixed. That the decoder is held fixed is the published loss; SAELens trains it there
    too.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> few, many = (GatedSAE(8, width=16, coefficient=c, lr=1e-2).fit([rows] * 50) for c in (0.3, 0.01))
    >>> bool((few.encode(rows) > 0).sum() < (many.encode(rows) > 0).sum())
    True
    """

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self._start_penalty()
        biases = {name: rows_fd.new_zeros(self.width) for name in ("b_gate", "b_mag", "r_mag")}
        return {"W_enc": rows_fd.clone(), **biases, "W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        w, n, weight = self.parameters_, len(x_nd), self._weight()
        centred = x_nd - w["b_dec"]
        found = entries_above(centred, w["W_enc"], w["b_gate"], torch.zeros_like(w["b_gate"]))
        open_, gate = found.pre > 0, found.pre.relu()
        gain = found.of(w["r_mag"].exp())
        grown = gain * (found.pre - found.of(w["b_gate"]))
        z = (grown + found.of(w["b_mag"])).relu() * open_
        error = centred - found.decode(z, w["W_dec"])
        missed = centred - found.decode(gate, w["W_dec"])
        variance = (x_nd - x_nd.mean(0)).square().sum()

        g_hat = error * (-2 / variance)
        g_z = found.dots(g_hat, w["W_dec"]) * (z > 0)
        g_gate = (found.dots(missed * (-2 / variance), w["W_dec"]) + weight / n) * open_
        g = linear_gradients(w, found, centred, z, g_hat, g_z * gain + g_gate, self.frozen != "encoder")
        del g["b_enc"]  # the two paths share W_enc (x - b_dec), and each has a bias of its own
        g |= {
            "b_gate": found.per_latent(g_gate),
            "b_mag": found.per_latent(g_z),
            "r_mag": found.per_latent(g_z * grown),
        }
        losses = {
            "fvu": error.square().sum() / variance,
            "sparsity": gate.sum() / n,
            "gate_fvu": missed.square().sum() / variance,
        }
        active = z > 0
        return Step(losses, g, found.fired(active), active.sum() / n)

    def _dictionary(self) -> Dictionary:
        w = {name: t.clone() for name, t in self.parameters_.items()}
        gain = w["r_mag"].exp()
        rule = GatedRule(gain, w["b_mag"] - gain * w["b_gate"])
        return Dictionary(w["W_enc"], w["b_gate"], w["W_dec"], w["b_dec"], rule)
