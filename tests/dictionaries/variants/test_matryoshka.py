"""Matryoshka: every prefix reconstructs, at the cost of one decode; a parent keeps its children's rows."""

import json
from dataclasses import replace

import pytest
import torch
from planted_atoms import D as D_MIX
from planted_atoms import mixtures

from theodolite.core.errors import UserError
from theodolite.dictionaries import convert
from theodolite.dictionaries.recovery import mcc
from theodolite.dictionaries.variants.batch_topk import BatchTopK
from theodolite.dictionaries.variants.matryoshka import Matryoshka

D, F, K, N = 7, 24, 3, 40
PREFIXES = (1 / 8, 1 / 2, 1.0)


def started() -> tuple[Matryoshka, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g, dtype=torch.float64)
    fitted = Matryoshka(D, F, k=K, prefixes=PREFIXES)
    fitted.start(x)
    fitted.parameters_ = {
        name: t.double() + 0.3 * torch.randn(t.shape, generator=g, dtype=torch.float64)
        for name, t in fitted.parameters_.items()
    }
    return fitted, x


def reference(w: dict[str, torch.Tensor], x: torch.Tensor, dead: torch.Tensor, alpha: float) -> torch.Tensor:
    """The mean over nested dictionaries with dense tensors, and AuxK on what the whole one misses."""
    pre = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    kept = pre.relu()
    z = kept * (kept >= kept.flatten().topk(K * len(x)).values[-1])
    variance = (x - x.mean(0)).square().sum()
    errors = [x - z[:, :m] @ w["W_dec"][:m] - w["b_dec"] for m in (3, 12, 24)]
    loss = sum(e.square().sum() for e in errors) / (3 * variance)
    e, k_aux = errors[-1].detach(), D // 2
    val, idx = pre.masked_fill(~dead, -torch.inf).topk(min(k_aux, int(dead.sum())), dim=1)
    e_hat = torch.zeros_like(pre).scatter(1, idx, val.relu()) @ w["W_dec"]
    share = min(int(dead.sum()) / k_aux, 1)
    return loss + alpha * share * (e - e_hat).square().sum() / (e - e.mean(0)).square().sum()


@pytest.mark.parametrize("n_dead", [1, 9])
def test_gradients_are_those_of_autograd(n_dead: int) -> None:
    fitted, x = started()
    fitted.unused_for_[:n_dead] = fitted.dead_after
    done = fitted._step(x)
    w = {name: t.clone().requires_grad_() for name, t in fitted.parameters_.items()}
    loss = reference(w, x, torch.arange(F) < n_dead, fitted.aux)
    for name, expected in zip(w, torch.autograd.grad(loss, list(w.values())), strict=True):
        torch.testing.assert_close(done.gradients[name], expected, rtol=1e-9, atol=1e-12)
    share = min(n_dead / (D // 2), 1)
    total = done.losses["nested"] + fitted.aux * share * done.losses["aux"]
    torch.testing.assert_close(total, loss.detach())


def test_the_kernels_give_the_same_in_float32() -> None:
    fitted, x = started()
    expected = fitted._step(x)
    fitted.parameters_ = {name: t.float() for name, t in fitted.parameters_.items()}
    found = fitted._step(x.float())
    for name, gradient in expected.gradients.items():
        torch.testing.assert_close(found.gradients[name].double(), gradient, rtol=1e-4, atol=1e-6)


def test_one_prefix_is_batch_topk() -> None:
    rows = torch.randn(256, D, generator=torch.Generator().manual_seed(1))
    one = Matryoshka(D, F, k=K, prefixes=(1.0,)).fit([rows] * 5).state()
    for name, expected in BatchTopK(D, F, k=K).fit([rows] * 5).state().items():
        assert torch.equal(one[name], expected), name


def test_planted_atoms_are_found_and_the_first_half_does_without_the_second() -> None:
    x, atoms = mixtures(4096, 99_999, around=0)
    batches = [mixtures(512, seed, around=0)[0] for seed in range(60)]
    of_half = {}
    for prefixes in ((0.5, 1.0), (1.0,)):
        fitted = Matryoshka(D_MIX, 64, k=3, lr=2e-2, steps=600, dead_after=5_000, prefixes=prefixes)
        dictionary = fitted.fit(batches[i % 60] for i in range(600)).dictionary()
        assert mcc(dictionary.W_dec.numpy(), atoms) > 0.9
        assert dictionary.fvu(x) < 0.15
        z = dictionary.encode(x)
        z[:, 32:] = 0
        of_half[prefixes] = float((x - dictionary.decode(z)).square().sum() / (x - x.mean(0)).square().sum())
    assert of_half[0.5, 1.0] < 0.8 * of_half[1.0,], of_half


@pytest.mark.parametrize("library", ["dictionary_learning", "saelens"])
def test_other_libraries_files_say_that_it_is_one(tmp_path, library: str) -> None:
    """One writes the sizes of the groups, the other where they end; what is read back is where they end."""
    rows = torch.randn(256, D, generator=torch.Generator().manual_seed(1))
    fitted = Matryoshka(D, F, k=K, prefixes=PREFIXES).fit([rows] * 5)
    as_trained = {"variant": "matryoshka", "k": K, "params": {"k": K, "prefixes": PREFIXES}}  # what a run adds
    dictionary = replace(fitted.dictionary(), info=fitted.dictionary().info | as_trained)
    assert dictionary.info["groups"] == [3, 12, 24]
    written = convert.write(dictionary, tmp_path / "d", to=library)
    if library == "dictionary_learning":
        assert json.loads((written / "config.json").read_text())["trainer"]["dict_class"] == "MatryoshkaBatchTopKSAE"
        assert torch.load(written / "ae.pt", weights_only=True)["group_sizes"].tolist() == [3, 9, 12]
    else:
        metadata = json.loads((written / "cfg.json").read_text())["metadata"]
        assert metadata["training_architecture"] == "matryoshka_batchtopk"
        assert metadata["training_architecture_details"]["matryoshka_widths"] == [3, 12, 24]
    again = convert.read(written)
    assert (again.info["variant"], again.info["groups"], again.info["k"]) == ("matryoshka_batchtopk", [3, 12, 24], K)
    assert torch.equal(again.encode(rows), dictionary.encode(rows))


@pytest.mark.parametrize("prefixes", [(0.5,), (), (0.5, 0.5, 1.0), (1.0, 0.5), (0.001, 1.0)])
def test_prefixes_must_rise_to_the_whole(prefixes: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="rising shares that end with 1"):
        Matryoshka(D, F, k=K, prefixes=prefixes)
