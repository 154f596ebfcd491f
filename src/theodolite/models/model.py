"""A language model that is read, changed, scored and sampled at named sites."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from theodolite.core.activations import Activations
from theodolite.core.errors import UserError
from theodolite.core.language_model import Format, Interventions, LanguageModel, Sites, Texts
from theodolite.core.positions import Positions, Role
from theodolite.core.several import several
from theodolite.core.site import AtSites, Site
from theodolite.models import preflight, scoring
from theodolite.models.constant import gradients
from theodolite.models.continuations import score_continuations
from theodolite.models.generate import Decoding, Generation, generate, stop_ids
from theodolite.models.load import load
from theodolite.models.read import embed, read
from theodolite.models.run import Effects, Start, Trace, run
from theodolite.models.scoring import Scored
from theodolite.models.spans import found_in, placed
from theodolite.models.sweep import select
from theodolite.models.tokenise import check_texts, encode_texts
from theodolite.models.tokenised import TokenisedModel
from theodolite.models.tokens import Encoding, Tokens


class Model(TokenisedModel):
    """A causal language model of transformers with its tokenizer.

    Everything goes through `run`: tokens in, states at sites out, changed on the way by interventions. `read`,
    `loss`, `logprobs` and `generate` are what one asks of it with texts; each takes `interventions=[...]`. Texts are
    a user's turn in a chat (`format="chat"`) or stand alone (`"raw"`). Where a list of texts, sites or interventions is
    expected, one alone is a list of one. More than `max_tokens` of a text are cut; where none are given it is 256, and
    a warning (`Truncated`) counts the texts that were longer.

    hash: what tells these weights from all others; taken from the module where none is given.

    A Model may be used from several threads: the networks of all Models on one `nn.Module` share one lock, so forward
    passes run one after the other and no pass meets the interventions of another thread. Edits of the weights are not
    covered by it: make them while no other thread uses the model.

    >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
    >>> model = Model(tiny_model(), byte_tokenizer())  # yours: Model.from_pretrained("name or folder")
    >>> model
    Model('', 3 blocks, d_model 32, torch.float32)
    >>> model.read(["a text", "another"], "blocks.1.resid_post")["blocks.1.resid_post"].rows.shape
    (2, 32)
    """

    @classmethod
    def from_pretrained(
        cls,
        name: Any,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Any = "auto",
        device_map: Any = None,
        token: str | None = None,
        tokenizer: Any = None,
    ) -> "Model":
        """A model by shipped name, hub id, folder or `.gguf` file, or a loaded transformers model and `tokenizer=`.

        >>> model = Model.from_pretrained("smollm2-135m-instruct")  # doctest: +SKIP
        """
        loaded = load(
            name, revision=revision, device=device, dtype=dtype, device_map=device_map, token=token, tokenizer=tokenizer
        )
        return cls(loaded.model, loaded.tokenizer, name=loaded.name, hash=loaded.hash, quantisation=loaded.quantisation)

    def run(
        self,
        tokens: Tokens,
        capture: Sites = (),
        interventions: Interventions = (),
        grad: bool = False,
        logits: bool | Literal["last"] = True,
        start: Start | None = None,
    ) -> Trace:
        """One forward pass: states (n, t, d) at the captured sites, after interventions there, and logits.

        `logits="last"` gives those of each text's last token, (n, 1, vocabulary). Without logits the pass ends at the
        deepest captured site. With `grad`, gradients reach the captured states and the tensors in the interventions;
        the weights count as constants, so that no parameter's `grad` is filled. With a `start` (see there) no block
        before it runs.

        >>> from theodolite import Intervention
        >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
        >>> model = Model(tiny_model(), byte_tokenizer())
        >>> tokens = model.tokens(["a text", "another one"])
        >>> trace = model.run(tokens, "blocks.1.resid_post", Intervention.add("blocks.0.resid_post", [1.0] * 32))
        >>> trace["blocks.1.resid_post"].shape, trace.logits.shape, trace.changed
        (torch.Size([2, 30, 32]), torch.Size([2, 30, 260]), (55,))
        >>> model.run(tokens, logits="last").logits.shape
        torch.Size([2, 1, 260])
        """
        if not isinstance(tokens, Tokens):
            raise UserError(f"run takes tokens, not {type(tokens).__name__}: write model.run(model.tokens(text), ...)")
        wanted = [self.site(site) for site in several(capture)]
        if not wanted and logits is False:
            raise UserError("nothing to run for: capture a site or ask for logits")
        if not isinstance(logits, bool) and logits != "last":
            raise UserError(f"logits={logits!r}: give True, False or 'last'")
        effects = self._effects(interventions, tokens)
        last = tokens.last_columns
        columns = sorted(set((last - tokens.ids.shape[1]).tolist()))  # counted from the end, so that one is [-1]
        with gradients(self.network, grad):
            kept = columns if logits == "last" else bool(logits)
            trace = run(self.network, tokens, wanted, effects, logits=kept, after=start)
        found = trace.logits
        if logits == "last" and found is not None and len(columns) > 1:
            place = torch.searchsorted(torch.tensor(columns), last - tokens.ids.shape[1]).to(found.device)
            found = found[torch.arange(len(found), device=found.device), place].unsqueeze(1)
        return replace(trace, logits=found, changed=effects.check())

    def start(self, tokens: Tokens, block: int, interventions: Interventions = ()) -> Start:
        """Compute the stream at the input of a block once, for passes over the same tokens that change what follows.

        `run(tokens, start=...)` gives what the whole pass gives, bit for bit, at the cost of the blocks from there on.
        Interventions given here have acted; those of the passes must lie at the block's input or behind it.

        >>> from theodolite import Intervention
        >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
        >>> model = Model(tiny_model(), byte_tokenizer())
        >>> tokens = model.tokens("a text")
        >>> start, change = model.start(tokens, 2), Intervention.add("blocks.2.attn_out", [1.0] * 32)
        >>> resumed = model.run(tokens, interventions=change, start=start)
        >>> torch.equal(resumed.logits, model.run(tokens, interventions=change).logits)
        True
        """
        if block == 0:
            raise UserError("a pass that starts at block 0 is a whole one: give a block from 1 on")
        site = self.site(Site(block, "resid_pre"))
        return Start(block, self.run(tokens, site, interventions, logits=False)[site], tokens)

    def read(
        self,
        texts: Texts,
        sites: Sites,
        *,
        positions: Positions | str = "content",
        pooling: str | None = "mean",
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> AtSites[Activations]:
        """Rows at sites: one per text, pooled over the positions, or with `pooling=None` one per token; float32.

        `pooling="last"` is the last token of all, in a chat the template's, whatever the positions: as in a harvest.
        """
        wanted = [self.site(site) for site in several(sites)]
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        return read(
            self,
            tokens,
            wanted,
            found_in(Positions.parse(positions), self.tokenizer, tokens),
            pooling,
            self._effects(interventions, tokens),
            batch_tokens or self.batch_tokens(wanted),
        )

    def embed(self, texts: Texts, *, format: Format = "chat", max_tokens: int | None = None) -> np.ndarray:
        """Mean of the model's own input embeddings over the content of each text; (n, d) float32, no block runs."""
        return embed(self.network, self._pad(self._encoded(texts, format, max_tokens)))

    def loss(
        self,
        texts: Texts,
        *,
        positions: Positions | str = "content",
        interventions: Interventions = (),
        format: Format = "raw",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> Scored:
        """Score each text: log-probability of its tokens at the positions, given all before them."""
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        targets = self._targets(tokens, positions)
        return self._score(tokens, targets, interventions, batch_tokens)

    def kl(
        self,
        texts: Texts,
        *,
        interventions: Interventions,
        positions: Positions | str = "content",
        format: Format = "raw",
        max_tokens: int | None = None,
    ) -> torch.Tensor:
        """Mean KL divergence, in nats, of the next-token predictions at the positions from those without interventions.

        The value can be differentiated by tensors inside the interventions: a dictionary is trained on it. All texts
        run in one pass, whose logits are held in memory, so give few at a time, or take `kl_per_text`.
        """
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        targets = self._targets(tokens, positions)
        return scoring.divergence(self.network, tokens, targets, self._effects(interventions, tokens))

    def kl_per_text(
        self,
        texts: Texts,
        *,
        interventions: Interventions,
        positions: Positions | str = "content",
        format: Format = "raw",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> np.ndarray:
        """Mean KL divergence of each text in nats per token, where `kl` has that of all; (n) float64, no gradient."""
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        targets, size = self._targets(tokens, positions), batch_tokens or self.batch_tokens(None)
        return scoring.divergence_per_text(self.network, tokens, targets, self._effects(interventions, tokens), size)

    def logprobs(
        self,
        prompts: Texts,
        continuations: Texts,
        *,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> Scored:
        """Log-probability of each continuation after its prompt (in a chat: as the answer).

        Continuations are tokenised by themselves, so a raw one normally begins with a space. A prompt that comes
        several times is read once for all its continuations.

        >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
        >>> model = Model(tiny_model(), byte_tokenizer())
        >>> scored = model.logprobs(["2 + 2 ="] * 2, [" 4", " 5"], format="raw")
        >>> scored.log_prob.shape, scored.n_tokens.tolist()
        ((2,), [2, 2])
        """
        prompts, continuations = several(prompts), several(continuations)
        if len(prompts) != len(continuations):
            raise UserError(f"{len(prompts)} prompts and {len(continuations)} continuations: give one for each")
        check_texts(continuations, "continuation")
        answers = encode_texts(self.tokenizer, continuations, add_special_tokens=False)
        encodings = self._encoded(prompts, format, max_tokens)
        joined = [row.extend(ids, Role.GENERATED) for row, ids in zip(encodings, answers, strict=True)]
        self.check_ids(joined)
        tokens, size = self._pad(joined), batch_tokens or self.batch_tokens(None)
        targets, effects = select(tokens, Positions("generated")), self._effects(interventions, tokens)
        return score_continuations(self.network, encodings, tokens, targets, effects, size)

    def generate(
        self,
        prompts: Texts,
        *,
        max_new_tokens: int = 64,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        batch_tokens: int | None = None,
    ) -> list[str]:
        """New text after each prompt, in the order of the prompts; greedy at temperature 0.

        An intervention on `prompt` positions acts while the prompt is read, on `generated` while the new tokens are;
        the first new token is predicted at `last`, the last token of the prompt.

        >>> from theodolite import Intervention
        >>> from theodolite.toys.tiny_models import byte_tokenizer, tiny_model
        >>> model = Model(tiny_model(), byte_tokenizer())
        >>> steer = Intervention.add("blocks.1.resid_post", [1.0] * 32, 2.0, positions="last+generated")
        >>> plain, steered = (model.generate("a prompt", max_new_tokens=5, interventions=i) for i in ([], steer))
        >>> plain != steered
        True
        """
        how = Decoding(max_new_tokens, temperature, seed)
        found = self._generate(self._encoded(prompts, format, max_tokens), how, interventions, batch_tokens)
        return [one.text for one in found]

    def generations(
        self,
        prompts: Texts,
        how: Decoding | None = None,
        *,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> list[Generation]:
        """New text after each prompt as in `generate`, with token ids, log-probabilities and why it stopped.

        `how` also takes a callback for each piece of text and one that cancels.
        """
        return self._generate(
            self._encoded(prompts, format, max_tokens), how or Decoding(), interventions, batch_tokens
        )

    def steer(self, prompt: str, toward: Any, **given: Any) -> Any:
        """Continue a prompt as it is and pushed towards a concept: `theodolite.steer` with this model.

        >>> model.steer("I went to the market and", "joy", tokens=20).steered     # doctest: +SKIP
        """
        import theodolite  # the public name: controls are fitted on models, so their room stands above this one

        return theodolite.steer(prompt, toward, model=self, **given)

    def _effects(self, interventions: Interventions, tokens: Tokens) -> Effects:
        changes = [placed(change, self.tokenizer, tokens) for change in several(interventions)]
        return Effects.checked(changes, self.site)

    def _targets(self, tokens: Tokens, positions: Positions | str) -> torch.Tensor:
        return select(tokens, found_in(Positions.parse(positions), self.tokenizer, tokens))

    def _score(self, tokens: Tokens, targets: Any, interventions: Interventions, batch_tokens: int | None) -> Scored:
        effects = self._effects(interventions, tokens)
        return scoring.score(self.network, tokens, targets, effects, batch_tokens or self.batch_tokens(None))

    def _generate(
        self, prompts: Sequence[Encoding], how: Decoding, interventions: Interventions, batch_tokens: int | None
    ) -> list[Generation]:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return generate(
            self.network,
            prompts,
            how,
            effects=self._effects(interventions, self._pad(prompts)),
            stop_ids=stop_ids(self.network.module, self.tokenizer),
            batch_tokens=batch_tokens or preflight.batch_tokens(self.network.module, deepest_block=None, writing=True),
            decode=lambda ids: self.tokenizer.decode(ids, **options),
        )

    def __repr__(self) -> str:
        kept = f", {self.quantisation}" if self.quantisation else ""
        return f"Model({self.name!r}, {self.n_blocks} blocks, d_model {self.d_model}, {self.dtype}{kept})"


_A_MODEL_IS_ONE: type[LanguageModel] = Model  # mypy checks the class against what other rooms are promised
