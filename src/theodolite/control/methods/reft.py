"""Rank-1 representation finetuning."""

import numpy as np
import torch
from torch import Tensor

from theodolite.control.control import Control
from theodolite.control.material import Material
from theodolite.control.method import Method
from theodolite.control.rank_one import RankOneControl, rank_one_edit
from theodolite.core.errors import UserError
from theodolite.core.positions import Positions
from theodolite.core.seeds import child_seed, generator
from theodolite.models.run import Start
from theodolite.models.tokens import Tokens

_CLOSE = 1e-3  # how far from no change at all training starts
_TOGETHER = 32  # texts whose states before the site are computed together


class Reft(Method):
    """h + strength * r (w.h + b - r.h): LoReFT of rank 1 (Wu et al. 2024, arXiv:2404.03592), r of length 1.

    The loss is the mean negative log-likelihood per token of the positive texts, each token given those before it, the
    first one left out, with the edit of strength 1 on all tokens; nothing else is in it, no penalty and no negative
    text. Adam on r, w and b with the model's weights as constants, gradient clipped to norm 1. r starts at a random
    unit vector, w close to r and b close to 0, so that training starts close to the model as it is. Texts are drawn by
    the seed, `batch` at a time. Every `every` steps the same loss is taken on the positive development texts, and the
    best edit so far is kept; training ends after `patience` times without a better one. Without development texts the
    last edit is kept.

    2 d + 1 parameters, where a direction has d. b counts in mean norms of the training rows, so that one rate fits
    all.

    It sees the positive training texts, and the positive development texts to stop on. Extra passes: each text of a
    step counts three times (a backward pass costs about two forward ones), each development text once for each look.
    On one thread a step of 8 texts of 20 tokens in SmolLM2-135M takes about half a second from the middle block on.
    """

    saw = "positive training texts; positive development texts to stop on"

    def __init__(self, steps: int = 60, rate: float = 0.01, batch: int = 8, every: int = 10, patience: int = 3) -> None:
        self.steps = steps
        self.rate = rate
        self.batch = batch
        self.every = every
        self.patience = patience

    def fit(self, material: Material) -> Control:
        """Return the learnt edit as a control."""
        if min(self.steps, self.batch, self.every, self.patience) < 1 or not self.rate > 0:
            raise UserError("reft: steps, batch, every, patience and rate are numbers above 0")
        edit = _Edit.start(material)
        texts = _Texts(material, material.training.of_class(1))
        watched = None if material.development is None else _Texts(material, material.development.of_class(1))
        (write, read, bias), steps, looks = self._train(edit, texts, watched, material.seed)
        passes = 3 * steps * min(self.batch, len(texts)) + looks * (0 if watched is None else len(watched))
        self._done(passes=passes, fits=1, parameters=2 * len(write) + 1, steps=steps)
        return RankOneControl(material.model, "reft", material.site, write.numpy(), read.numpy(), float(bias))

    def _train(
        self, edit: "_Edit", texts: "_Texts", watched: "_Texts | None", seed: int
    ) -> tuple[tuple[Tensor, Tensor, Tensor], int, int]:
        """Return the best edit, the steps taken and how often the development loss was taken."""
        optimiser = torch.optim.Adam(edit.parameters, lr=self.rate)
        draw, queue, size = generator(seed, "reft texts"), list[int](), min(self.batch, len(texts))
        best, kept, worse, looks = float("inf"), edit.values(), 0, 0
        for step in range(self.steps + 1):
            if watched is not None and step % self.every == 0:
                now, looks = watched.loss_of_all(edit, self.batch), looks + 1
                worse = 0 if now < best else worse + 1
                if now < best:
                    best, kept = now, edit.values()
                if worse == self.patience:
                    return kept, step, looks
            if step == self.steps:
                break
            while len(queue) < size:  # every text comes once before one comes twice
                queue += draw.permutation(len(texts)).tolist()
            chosen, queue = queue[:size], queue[size:]
            optimiser.zero_grad()
            log_prob, n = texts.log_prob(chosen, edit, grad=True)
            (-log_prob / n).backward()
            torch.nn.utils.clip_grad_norm_(edit.parameters, 1.0)
            optimiser.step()
        return (edit.values() if watched is None else kept), self.steps, looks


class _Edit:
    """Parameters of the edit: r is `free` scaled to length 1, w and b (in units of `scale`) are themselves."""

    def __init__(self, free: Tensor, w: Tensor, scale: float) -> None:
        self.parameters = [free.requires_grad_(), w.requires_grad_(), torch.tensor(_CLOSE, requires_grad=True)]
        self.scale = scale

    @classmethod
    def start(cls, material: Material) -> "_Edit":
        rows = torch.from_numpy(material.training.rows)
        draw = torch.Generator().manual_seed(child_seed(material.seed, "reft"))
        r, away = (v / v.norm() for v in torch.randn((2, rows.shape[1]), generator=draw))
        # at w = r and b = 0 the edit would change nothing, and an intervention of nothing is refused
        return cls(r.clone(), r + _CLOSE * away, float(rows.norm(dim=1).mean()))

    def current(self) -> tuple[Tensor, Tensor, Tensor]:
        free, w, b = self.parameters
        return free / free.norm(), w, b * self.scale

    def values(self) -> tuple[Tensor, Tensor, Tensor]:
        r, w, b = (value.detach().clone() for value in self.current())
        return r, w, b


class _Texts:
    """Texts to train on, with their states before the site computed once: no step runs the blocks below it again."""

    def __init__(self, material: Material, texts: list[str]) -> None:
        self.model, self.site = material.model, material.site
        self.tokens: Tokens = self.model.tokens(texts, format=material.format)
        self.block = self.site.last_block(self.model.n_blocks)
        parts = [np.arange(len(texts))[i : i + _TOGETHER] for i in range(0, len(texts), _TOGETHER)]
        states = [self.model.start(self.tokens[part], self.block).state for part in parts] if self.block > 0 else []
        self.state = torch.cat(states) if states else None

    def __len__(self) -> int:
        return len(self.tokens)

    def log_prob(self, rows: list[int], edit: _Edit, grad: bool) -> tuple[Tensor, int]:
        """Sum of the log-probabilities of all tokens but the first under the edit, and how many they are."""
        width = int(self.tokens.lengths[rows].max())
        part = self.tokens[rows].first(width)
        start = None if self.state is None else Start(self.block, self.state[rows][:, :width], part)
        change = rank_one_edit(self.site, Positions("all"), edit.current(), 1.0)
        logits = self.model.run(part, interventions=change, grad=grad, start=start).logits
        assert logits is not None
        scored = part.mask[:, 1:].to(logits.device)
        predicted = logits[:, :-1][scored].float()
        ids = part.ids[:, 1:].to(logits.device)[scored]
        return predicted.log_softmax(1).gather(1, ids[:, None]).sum(), int(scored.sum())

    def loss_of_all(self, edit: _Edit, size: int) -> float:
        """Mean negative log-likelihood per token over all texts."""
        rows = list(range(len(self)))
        found = [self.log_prob(rows[i : i + size], edit, grad=False) for i in range(0, len(rows), size)]
        return -sum(float(log_prob) for log_prob, _ in found) / sum(n for _, n in found)
