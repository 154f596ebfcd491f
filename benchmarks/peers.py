"""Our dictionaries and other libraries' behind one contract: step on a batch, reconstruct, mark latents as dead.

Imported in the peers' environment (benchmarks/requirements.txt). Each peer runs its own training step: SAELens through
its SAETrainer, dictionary_learning through its trainer's `update`, and sparsify, whose Trainer insists on a model, by
the lines of Trainer.fit from its forward pass to the optimiser. Weights are W_enc (f, d), b_enc, W_dec (f, d), b_dec.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from theodolite.dictionaries.training.learner import Learner

_find = importlib.util.find_spec
# transformers takes a torchvision that was built for another torch as usable, and importing SAELens then fails
importlib.util.find_spec = lambda name, *rest: None if name.startswith("torchvision") else _find(name, *rest)

Weights = dict[str, Tensor]
NEVER = 10**12  # rows or steps without firing


@dataclass(frozen=True)
class Contestant:
    """step: one training step on a batch. code: latents (n, f) and reconstruction of rows, as the library ships them.

    kill: mark these latents (f, bool) as dead.
    """

    step: Callable[[Tensor], object]
    code: Callable[[Tensor], tuple[Tensor, Tensor]]
    kill: Callable[[Tensor], object]


@dataclass(frozen=True)
class Score:
    """error_n: |x - x̂|² of each row. l0: active latents per row. unused: share of latents active in none of them."""

    error_n: Tensor
    l0: float
    unused: float

    def fvu(self, x_nd: Tensor) -> float:
        """The error's share of the variance about the mean row."""
        return float(self.error_n.sum() / (x_nd - x_nd.mean(0)).double().square().sum())


def score(contestant: Contestant, x_nd: Tensor, chunk: int = 2048) -> Score:
    """How well it does on these rows."""
    errors, active = [], torch.zeros((), dtype=torch.long)
    with torch.no_grad():
        for x in x_nd.split(chunk):
            z, x_hat = contestant.code(x)
            errors.append((x - x_hat).double().square().sum(1))
            active = active + (z > 0).sum(0)
    return Score(torch.cat(errors), float(active.sum()) / len(x_nd), float((active == 0).double().mean()))


def ours(learner: Learner, x_nd: Tensor, weights: Weights | None = None) -> Contestant:
    """A variant of ours; with `weights` on rows as they are, otherwise started from the rows as in training."""
    learner.start(x_nd)
    if weights is not None:
        learner.scales_ = (1.0,)
        for name, value in weights.items():
            learner.parameters_[name].copy_(value)
    return Contestant(
        learner.partial_fit,
        lambda x: (learner.encode(x), learner.dictionary().reconstruct(x)),
        lambda dead: learner.unused_for_.masked_fill_(dead, NEVER),
    )


def sae_lens(
    architecture: str,
    d: int,
    width: int,
    *,
    batch: int,
    steps: int = 10**6,
    autocast: bool = False,
    weights: Weights | None = None,
    schedule: dict[str, Any] | None = None,
    **options: Any,
) -> Contestant:
    """SAELens' SAETrainer; options go to the architecture's training config, `schedule` to the trainer's."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.registry import get_sae_training_class
    from sae_lens.training.sae_trainer import SAETrainer

    sae_class, config_class = get_sae_training_class(architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae = sae_class(config_class(d_in=d, d_sae=width, apply_b_dec_to_input=True, **options))
    if weights is not None:
        with torch.no_grad():
            for name, value in weights.items():
                getattr(sae, name).copy_(value.T if name == "W_enc" else value)
    schedule = {"lr": 3e-4, "lr_end": 3e-5} | (schedule or {})  # its runner's defaults; the end is for other schedulers
    config = SAETrainerConfig(
        total_training_samples=steps * batch, train_batch_size_samples=batch, autocast=autocast, **schedule
    )
    trainer = SAETrainer(cfg=config, sae=sae, data_provider=iter(()))

    def step(x_nd: Tensor) -> None:
        trainer.step(x_nd)
        trainer.n_training_steps += 1

    def code(x_nd: Tensor) -> tuple[Tensor, Tensor]:
        z = sae.encode_with_hidden_pre(trainer.activation_scaler(x_nd))[0]
        return z.to_dense(), sae.decode(z) / (trainer.activation_scaler.scaling_factor or 1.0)

    if options.get("normalize_activations") == "expected_average_only_in":
        step = _scaled_first(trainer, step)
    return Contestant(step, code, lambda dead: trainer.n_forward_passes_since_fired.masked_fill_(dead, NEVER))


def _scaled_first(trainer: Any, step: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    """The factor that brings rows to norm sqrt(d), from the first batch; SAELens takes it from its data provider."""

    def scaled(x_nd: Tensor) -> None:
        if trainer.activation_scaler.scaling_factor is None:
            trainer.activation_scaler.scaling_factor = x_nd.shape[1] ** 0.5 / float(x_nd.norm(dim=1).mean())
        step(x_nd)

    return scaled


def sparsify(
    d: int,
    width: int,
    k: int,
    *,
    optimizer: str = "adam",
    times: float = 1.0,
    steps: int | None = None,
    aux: float = 0.0,
    dead_after: int = 10_000_000,
    weights: Weights | None = None,
) -> Contestant:
    """sparsify's SparseCoder with its Adam (and linear schedule, if the number of steps is given) or its Signum.

    times: the learning rate over its own.
    """
    from schedulefree import ScheduleFreeWrapper
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
    from transformers import get_linear_schedule_with_warmup

    coder = SparseCoder(d, SparseCoderConfig(num_latents=width, k=k))
    if weights is not None:
        names = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
        coder.load_state_dict({theirs: weights[name] for theirs, name in names.items()})
    share = (width / 2**14) ** 0.5 / times
    scheduler = None
    if optimizer == "adam":
        inner = torch.optim.Adam(coder.parameters(), lr=2e-4 / share)
        if steps is not None:  # its 1,000 steps of warm-up, or a tenth of a shorter run
            scheduler = get_linear_schedule_with_warmup(inner, min(1000, steps // 10), steps)
    else:
        inner = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr=5e-3 / share), momentum=0.95)
        inner.train()
    since_fired = torch.zeros(width, dtype=torch.long)
    begun = weights is not None

    def step(x_nd: Tensor) -> None:
        nonlocal begun
        if not begun:
            coder.b_dec.data, begun = x_nd.mean(0), True
        coder.set_decoder_norm_to_unit_norm()
        dead = since_fired > dead_after if aux else None
        out = coder(x_nd, dead_mask=dead)
        fired = torch.zeros(width, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        (out.fvu + aux * out.auxk_loss + out.multi_topk_fvu / 8).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        inner.step()
        inner.zero_grad()
        if scheduler is not None:
            scheduler.step()
        since_fired.add_(len(x_nd))
        since_fired[fired] = 0

    def code(x_nd: Tensor) -> tuple[Tensor, Tensor]:
        if optimizer == "signum":  # the mean of its steps, which is what it saves
            inner.eval()
        out = coder(x_nd)
        if optimizer == "signum":
            inner.train()
        z = out.sae_out.new_zeros(len(x_nd), width).scatter_(1, out.latent_indices, out.latent_acts)
        return z, out.sae_out

    return Contestant(step, code, lambda dead: since_fired.masked_fill_(dead, NEVER))


def dictionary_learning(d: int, width: int, k: int, *, weights: Weights) -> Contestant:
    """dictionary_learning's TopKTrainer."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(steps=10**6, activation_dim=d, dict_size=width, k=k, layer=0, lm_name="", device="cpu")
    with torch.no_grad():
        trainer.ae.encoder.weight.copy_(weights["W_enc"])
        trainer.ae.encoder.bias.copy_(weights["b_enc"])
        trainer.ae.decoder.weight.copy_(weights["W_dec"].T)
        trainer.ae.b_dec.copy_(weights["b_dec"])
    return Contestant(
        lambda x: trainer.update(1, x),  # step 0 would replace the bias by the geometric median
        lambda x: trainer.ae(x, output_features=True)[::-1],
        lambda dead: trainer.num_tokens_since_fired.masked_fill_(dead, NEVER),
    )
