"""Harvest: rows on disk equal rows by hand; an interrupted harvest loses at most the unit under way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.core.errors import UserError
from theodolite.core.positions import Role
from theodolite.core.site import Site
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.pooled import pooled_latents
from theodolite.models.harvest import Harvest, harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
from theodolite.models.run import Trace
from theodolite.toys.tiny_models import FAMILIES, byte_tokenizer, tiny_model

WORDS = ["tide", "a", "lantern", "of", "brass", "quietly", "turns"]
TEXTS = [" ".join(WORDS[i % 7] for i in range(k, 2 * k + 1)) for k in range(22)]
SITES = ["blocks.0.mlp_out", "blocks.1.resid_post"]
SETTINGS: dict[str, Any] = {"token_sites": SITES[1:], "pooled_sites": SITES, "unit": 5, "max_tokens": 60}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())


def by_hand(model: Model, text: str) -> tuple[Trace, torch.Tensor]:
    """States (1, t, d) and roles of one text, run whole and alone."""
    tokens = model.tokens([text], max_tokens=60)
    return model.run(tokens, capture=model.sites(), logits=False), tokens.roles[0]


@pytest.mark.parametrize("batch_tokens", [40, 4096])
def test_rows_equal_those_of_single_texts(model: Model, tmp_path: Path, batch_tokens: int) -> None:
    found = harvest(
        model,
        TEXTS,
        tmp_path / "rows",
        HarvestPlan(poolings=("mean", "last", "max"), **SETTINGS),
        batch_tokens=batch_tokens,
    )
    rows = list(found.tokens(SITES[1]))
    doc, selected = (np.concatenate([part[k] for part in rows]) for k in (0, 1))
    states = torch.cat([part[2] for part in rows])
    for i, text in enumerate(TEXTS):
        trace, roles = by_hand(model, text)
        for site in SITES:
            h = trace[site][0]
            content = h[roles == Role.CONTENT]
            for how, expected in (("mean", content.mean(0)), ("max", content.amax(0)), ("last", h[-1])):
                np.testing.assert_allclose(found.pooled(site, how)[i], expected, atol=1e-5)
        kept = (roles == Role.CONTENT) | (torch.arange(len(roles)) == len(roles) - 1)
        torch.testing.assert_close(states[doc == i], h[kept], atol=1e-5, rtol=1e-4)
        assert selected[doc == i].tolist() == (roles == Role.CONTENT)[kept].tolist()
    assert found.truncated.tolist() == [len(text) > 60 for text in TEXTS]
    assert found.n_tokens == sum(len(by_hand(model, text)[1]) for text in TEXTS)


@pytest.mark.parametrize("positions", ["content", "suffix", "content[-3:]+suffix[0]"])
@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_pooled_states_and_pooled_token_rows_are_those_of_the_same_tokens(
    model: Model, tmp_path: Path, positions: str, pooling: str
) -> None:
    """What makes a table matched: a dictionary that loses nothing reconstructs the state that the probes see."""
    found = harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(positions=positions, poolings=(pooling,), **SETTINGS))
    signed = torch.cat([torch.eye(model.d_model), -torch.eye(model.d_model)])
    exact = Dictionary(signed, torch.zeros(len(signed)), signed, torch.zeros(model.d_model), ReluRule())
    seen = pooled_latents(exact, found.tokens(SITES[1]), len(TEXTS), pooling)
    np.testing.assert_allclose(seen.reconstruction, found.pooled(SITES[1], pooling), atol=1e-5)
    assert abs(seen.error).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_harvests_what_it_runs(family: str, tmp_path: Path) -> None:
    model = Model.from_pretrained(tiny_model(family), tokenizer=byte_tokenizer())
    found = harvest(model, TEXTS[:6], tmp_path / "rows", HarvestPlan(pooled_sites=model.sites()))
    for i in (0, 5):
        trace, roles = by_hand(model, TEXTS[i])
        for site in model.sites():
            expected = trace[site][0][roles == Role.CONTENT].mean(0)
            np.testing.assert_allclose(found.pooled(site, "mean")[i], expected, atol=5e-5, rtol=1e-4, err_msg=str(site))


def test_bfloat16_rows_keep_their_dtype_and_pool_in_float32(tmp_path: Path) -> None:
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer(), dtype=torch.bfloat16)
    found = harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(**SETTINGS))
    doc, _, rows = next(found.tokens(SITES[1]))
    assert rows.dtype == torch.bfloat16
    pooled = found.pooled(SITES[1], "mean")
    assert pooled.dtype == np.float32
    content = rows[doc == doc[0]][:-1].float().mean(0)
    np.testing.assert_allclose(pooled[doc[0]], content, rtol=1e-5, atol=1e-6)


class _Stopped:
    """A progress callback that interrupts, as Ctrl-C would, once some units are done."""

    def __init__(self, after: int) -> None:
        self.after, self.calls = after, 0

    def __call__(self, done: int, total: int) -> None:
        self.calls += 1
        if self.calls > self.after:
            raise KeyboardInterrupt


def _content(found: Harvest) -> list[np.ndarray]:
    return [found.pooled(site, how) for site in SITES for how in ("mean", "last")]


def test_an_interrupted_harvest_goes_on_and_redoes_nothing(model: Model, tmp_path: Path) -> None:
    whole = harvest(model, TEXTS, tmp_path / "whole", HarvestPlan(**SETTINGS))
    with pytest.raises(KeyboardInterrupt):
        harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(**SETTINGS), progress=_Stopped(after=2))
    finished = sorted(p.name for p in (tmp_path / "rows" / "commits").iterdir())
    assert len(finished) == 2
    seen: list[tuple[int, int]] = []
    again = harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(**SETTINGS), progress=lambda *now: seen.append(now))
    assert all(np.array_equal(a, b) for a, b in zip(_content(again), _content(whole), strict=True))
    assert seen[0][0] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (whole.n_tokens, whole.n_tokens)
    assert len(seen) == 1 + len(again.store.units()) - 2


def test_a_finished_harvest_runs_nothing(model: Model, tmp_path: Path, spy: Callable[..., None]) -> None:
    ran: list[int] = []
    spy(model.network.module.model.embed_tokens, lambda args: ran.append(1))  # first: it is code of the pass
    first = harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(**SETTINGS))
    assert ran
    ran.clear()
    again = harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(**SETTINGS))
    assert ran == []
    assert all(np.array_equal(a, b) for a, b in zip(_content(again), _content(first), strict=True))


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 50}, {"positions": "content[1:]+suffix"}, {"token_sites": SITES}, {"unit": 6}, {"format": "raw"}],
)
def test_other_rows_never_share_a_folder(model: Model, tmp_path: Path, change: dict) -> None:
    texts = [text + " end" for text in TEXTS]
    harvest(model, texts, tmp_path / "rows", HarvestPlan(**SETTINGS))
    with pytest.raises(UserError, match="holds rows of something else"):
        harvest(model, texts, tmp_path / "rows", HarvestPlan(**(SETTINGS | change)))
    with pytest.raises(UserError, match="holds rows of something else"):
        harvest(model, texts[::-1], tmp_path / "rows", HarvestPlan(**SETTINGS))


@pytest.mark.parametrize("change", ["rope_theta", "weights", "epsilon"])
def test_rows_of_another_network_never_share_a_folder(tmp_path: Path, change: str) -> None:
    """Also where it is the same object, edited in place or with another value in its config."""
    model = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())
    harvest(model, TEXTS[:5], tmp_path / "rows", HarvestPlan(**SETTINGS))
    if change == "rope_theta":
        model.network.module.config.rope_parameters["rope_theta"] = 5.0
    elif change == "weights":
        model.network.module.model.layers[0].mlp.up_proj.weight.data.mul_(0)
    else:
        model.network.module.model.norm.variance_epsilon = 0.1
    with pytest.raises(UserError, match="holds rows of something else"):
        harvest(model, TEXTS[:5], tmp_path / "rows", HarvestPlan(**SETTINGS))


def test_rows_of_lower_precision_never_share_a_folder(model: Model, tmp_path: Path) -> None:
    harvest(model, TEXTS, tmp_path, HarvestPlan(pooled_sites=SITES))
    try:
        torch.set_float32_matmul_precision("medium")
        with pytest.raises(UserError, match="dtype"):
            harvest(model, TEXTS, tmp_path, HarvestPlan(pooled_sites=SITES))
    finally:
        torch.set_float32_matmul_precision("highest")


def test_little_is_padded_and_the_template_runs_once(model: Model, tmp_path: Path, spy: Callable[..., None]) -> None:
    ran: list[int] = []
    spy(model.network.module.model.embed_tokens, lambda args: ran.append(args[0].numel()))
    rng = np.random.default_rng(0)
    texts = ["x" * n for n in rng.integers(1, 60, 200)]
    harvest(model, texts, tmp_path / "rows", HarvestPlan(pooled_sites=SITES))
    tokens = model.tokens(texts)
    start = int((tokens.roles[0] == Role.PREFIX).sum())
    assert sum(ran) < 1.1 * int((tokens.lengths - start).sum()) + start


def test_nothing_past_the_deepest_site_runs(model: Model, tmp_path: Path, spy: Callable[..., None]) -> None:
    ran: list[str] = []
    deeper = {"block": model.network.module.model.layers[2], "head": model.network.module.lm_head}
    for name, module in deeper.items():
        spy(module, lambda args, name=name: ran.append(name))
    harvest(model, TEXTS, tmp_path / "rows", HarvestPlan(**SETTINGS))
    assert ran == []


def test_what_was_not_harvested_is_named(model: Model, tmp_path: Path) -> None:
    found = harvest(model, TEXTS[:3], tmp_path / "rows", HarvestPlan(**SETTINGS))
    with pytest.raises(UserError, match=r"did you mean 'blocks\.1\.resid_post'"):
        next(found.tokens("blocks.2.resid_post"))
    with pytest.raises(UserError, match="unknown pooling 'max'"):
        found.pooled(SITES[0], "max")
    with pytest.raises(UserError, match="nothing to harvest"):
        harvest(model, TEXTS, tmp_path / "none", HarvestPlan())
    with pytest.raises(UserError, match="blocks 0 to 2"):
        harvest(model, TEXTS, tmp_path / "none", HarvestPlan(token_sites=[Site(3, "resid_post")]))
