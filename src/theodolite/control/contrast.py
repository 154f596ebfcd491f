"""The contrast vector of representation engineering: a change of each token that two instructions make there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from theodolite.control.control import check_strength
from theodolite.control.instructed import behind_opening, inserted, instructed_states, instruction_ids
from theodolite.control.passes import Passes
from theodolite.control.policy import Intervened, Policy, Predictions
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.language_model import Format, Texts
from theodolite.core.rules import Add
from theodolite.core.site import Site
from theodolite.models.generate import Decoding, Generation, Step
from theodolite.models.model import Model
from theodolite.models.past import Past
from theodolite.models.run import Batch, Effects, run
from theodolite.models.tokens import Encoding, Tokens, pad


@dataclass(frozen=True, eq=False)
class Contrasted:
    """The model with h + amount * (h+ - h-) at a site, on every token of every text; amount 0 is the model.

    h+ and h- are the states of the same token when the positive or the negative instruction stands before the text.
    What opens a text, before the instruction, is left as it is. Two extra passes up to the site for every pass over the
    text, counted in the `spent` of teacher-forced passes; while text is written each of the three has its own cache.
    """

    model: Model
    site: Site
    positive: str
    negative: str
    amount: float

    def predictions(self, passes: Passes) -> Iterable[Predictions]:
        """Log-probabilities at the targets of the passes."""
        passes.check_model(self.model)
        if self.amount == 0:
            return [passes.unchanged]
        # kept with the passes: it does not depend on the amount, which a calibration changes many times
        key = ("contrast", self.site, self.positive, self.negative)
        delta = passes.kept(key, lambda: self._delta(passes))
        return passes.intervened(self.model, [_added(self.site, self.amount * delta)])

    def generate(self, prompts: Texts, how: Decoding, *, format: Format = "raw") -> list[Generation]:
        """New text after each prompt; every new token has a contrast of its own."""
        if how.predict is not None:
            raise UserError("a contrast predicts the next token itself: leave out Decoding(predict=...)")
        if self.amount == 0:
            return self.model.generations(prompts, how, format=format)
        return self.model.generations(prompts, replace(how, predict=self._step), format=format)

    def _delta(self, passes: Passes) -> Tensor:
        tokens = passes.tokens
        both = [instructed_states(self.model, self.site, words, tokens) for words in (self.positive, self.negative)]
        share = (self.site.last_block(self.model.n_blocks) + 1) / self.model.n_blocks
        own = int(tokens.mask.sum())
        for words in (self.positive, self.negative):
            passes.spent += share * (own + len(tokens) * len(instruction_ids(self.model, words))) / own
        return _masked(both[0] - both[1], tokens)

    def _step(self, prompts: Sequence[Encoding], plain: Step) -> Step:
        """The step that predicts under the contrast, for prompts that run together."""
        start = pad(prompts, pad_id=0, side="left")
        sides = [_Side(self.model, self.site, words, start) for words in (self.positive, self.negative)]
        past, batch = Past.empty(self.model.network), Batch.whole(len(prompts))
        so_far: list[Tensor] = []

        def step(tokens: Tokens) -> Tensor:
            new = [side.states(tokens) for side in sides]
            so_far.append(new[0] - new[1])
            delta = _masked(torch.cat(so_far, 1), tokens)
            effects = Effects([_added(self.site, self.amount * delta)])
            logits = run(self.model.network, tokens, effects=effects, logits=[-1], after=past, batch=batch).logits
            assert logits is not None
            return logits[:, -1]

        return step


class _Side:
    """One instruction before prompts that are being continued; each call gives the states of the new columns."""

    def __init__(self, model: Model, site: Site, instruction: str, prompts: Tokens) -> None:
        self.model, self.site, self.width = model, site, prompts.ids.shape[1]
        ids = instruction_ids(model, instruction)
        self.prompts, self.past = inserted(prompts, ids), Past.empty(model.network)
        self.columns = torch.arange(self.width) + len(ids) * behind_opening(prompts)
        self.seen = 0

    def states(self, tokens: Tokens) -> Tensor:
        written = (tokens.ids[:, self.width :], tokens.roles[:, self.width :])
        joined = Tokens(
            torch.cat([self.prompts.ids, written[0]], 1),
            torch.cat([self.prompts.roles, written[1]], 1),
            tokens.truncated,
        )
        found = run(self.model.network, joined, [self.site], after=self.past).activations[self.site]
        if self.seen:
            found = found[:, self.seen - tokens.ids.shape[1] :]  # before the first attention no cache shortens a pass
        else:
            columns = self.columns.to(found.device).unsqueeze(2).expand(-1, -1, found.shape[2])
            found = found.gather(1, columns)
        self.seen = tokens.ids.shape[1]
        return found


@dataclass(frozen=True, eq=False)
class ContrastControl:
    """The control by contrast vectors: strength 1 adds the whole difference that the two instructions make."""

    model: Model
    method: str
    site: Site
    positive: str
    negative: str
    cap: float = 10.0
    has_dial: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", self.model.site(self.site))

    def at(self, strength: float) -> Policy:
        """Return the model with that many contrasts; a strength that is NaN or beyond the cap is an error."""
        if not check_strength(self, strength):
            return Intervened(self.model)
        return Contrasted(self.model, self.site, self.positive, self.negative, float(strength))


def _added(site: Site, change_ntd: Tensor) -> Intervention:
    return Intervention(site, Add(change_ntd))


def _masked(delta_ntd: Tensor, tokens: Tokens) -> Tensor:
    """The difference, exactly 0 at padding and at what stands before the instruction."""
    chosen = behind_opening(tokens) & tokens.mask
    return delta_ntd * chosen.to(delta_ntd.device).unsqueeze(2)
