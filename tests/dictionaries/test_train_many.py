"""Many dictionaries in one pass: each as if alone, resumable whatever the variant, and stopped with a clear word."""

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from theodolite.core.errors import UserError
from theodolite.dictionaries import native
from theodolite.dictionaries.names import parse, variants
from theodolite.dictionaries.opening import find
from theodolite.dictionaries.training import checkpoint
from theodolite.dictionaries.training import train as training
from theodolite.dictionaries.training.tracking import Listeners
from theodolite.dictionaries.training.train import ConstantDimension, train

A, B = "blocks.0.resid_post", "blocks.1.resid_post"
TOPK, JUMP = "topk(k=3, lr=5e-3, width=32)", "jumprelu(lr=5e-3, target_l0=4, width=24)"
SMALL: dict[str, Any] = {"tokens": 3000, "batch": 100, "block_rows": 700}


class Recorder:
    """What a run says to a tracker such as wandb."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def init(self, **how: Any) -> None:
        self.said.append(("init", how))

    def log(self, data: dict[str, Any], *, step: int) -> None:
        self.said.append(("log", (step, data)))

    def finish(self) -> None:
        self.said.append(("finish", None))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    here, there = weights(one), weights(other)
    return here.keys() == there.keys() and all(torch.equal(here[key], there[key]) for key in here)


def losses(folder: Path) -> list[Any]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["losses"]) for line in lines]


def test_a_dictionary_among_many_is_the_one_trained_alone(word_model, word_corpus, tmp_path) -> None:
    together = train(
        word_model,
        [A, B],
        word_corpus,
        tmp_path / "all",
        saes=[TOPK, JUMP],
        seeds=(0, 1),
        controls=("decoder",),
        **SMALL,
    )
    assert len(together) == 2 * 2 * 2 * 2
    calls, word_model.calls = word_model.calls, 0
    alone = train(word_model, [A, B], word_corpus, tmp_path / "jump", saes=[JUMP], controls=("decoder",), **SMALL)
    # four times the dictionaries, the same passes of the model; the cross-entropy then takes one for each
    assert calls - len(together) == word_model.calls - len(alone)
    for site, control in ((A, ""), (B, ""), (B, ".control-decoder")):
        assert same(alone[site + control], together[f"{site}.{parse(JUMP).slug}-0{control}"])
    infos = {name: native.load(path).info for name, path in together.items()}
    assert {info["frozen"] for info in infos.values()} == {"", "decoder"}
    assert {(info["variant"], info["width"], info["k"]) for info in infos.values()} == {
        ("topk", 32, 3),
        ("jumprelu", 24, None),
    }
    one = infos[f"{B}.{parse(JUMP).slug}-1.control-decoder"]
    assert (one["site"], one["seed"], one["params"]["lr"], one["training"]["lr"]) == (B, 1, 5e-3, 5e-3)
    page = (together[f"{B}.{parse(JUMP).slug}-1.control-decoder"] / "card.md").read_text()
    assert page.startswith(f"# frozen-decoder control of a jumprelu dictionary at {B} of words")
    assert "24 latents, seed 1, trained on 3,000 tokens" in page
    assert "Options of `jumprelu`: lr=0.005" in page


def test_find_tells_variants_and_frozen_decoders_apart(word_model, word_corpus, tmp_path, monkeypatch) -> None:
    train(
        word_model,
        [A],
        word_corpus,
        tmp_path,
        saes=["topk(k=3, width=32)", JUMP],
        controls=("encoder", "decoder"),
        **SMALL,
    )
    found = {(one.label, one.control, one.k) for one in find(word_model, folder=tmp_path)}
    assert found == {
        ("topk", False, 3),
        ("topk", True, 3),
        ("topk-frozen-decoder", False, 3),
        ("jumprelu-lr=0.005-target_l0=4", False, 0),
        ("jumprelu-lr=0.005-target_l0=4", True, 0),
        ("jumprelu-lr=0.005-target_l0=4-frozen-decoder", False, 0),
    }


def small(names: Iterable[str]) -> list[str]:
    return [str(parse(name).filled(k=3, target_l0=3, width=12)) for name in names]


def goes_on_bit_equal(train_in_a_child: Callable[..., int], home: Path, saes: list[str], **how: Any) -> None:
    """A run that is killed in its first and in its second half ends with the weights and the log of a whole one."""
    how = {"sites": [A], "saes": saes, "tokens": 1200, "batch": 100, "block_rows": 350} | how
    whole, killed = home / "whole", home / "killed"
    assert train_in_a_child(whole, **how) == 0
    for lines in (1, 2):
        assert train_in_a_child(killed, kill_after=lines, **how) == -signal.SIGKILL
    assert train_in_a_child(killed, **how) == 0
    folders = sorted(path.name for path in whole.iterdir() if path.is_dir())
    assert len(folders) >= len(saes)
    assert [name for name in folders if not same(whole / name, killed / name)] == []
    assert losses(killed) == losses(whole)


@pytest.mark.parametrize(("names", "prefetch"), [(["topk", "jumprelu", "kmeans"], False), (["topk"], True)])
def test_variants_with_gradients_controllers_and_statistics_go_on_bit_equal(
    train_in_a_child, tmp_path, names: list[str], prefetch: bool
) -> None:
    goes_on_bit_equal(train_in_a_child, tmp_path, small(names), prefetch=prefetch)


@pytest.mark.slow
def test_every_variant_goes_on_bit_equal(train_in_a_child, tmp_path) -> None:
    single = [name for name in variants() if parse(name).cls.sites == "one"]
    goes_on_bit_equal(train_in_a_child, tmp_path, small(single))


def test_two_sites_in_one_pass(word_model, word_corpus, tmp_path) -> None:
    made = train(word_model, [f"{A}->{B}"], word_corpus, tmp_path, saes=["transcoder(k=3, lr=5e-3, width=32)"], **SMALL)
    stored = native.load(made[f"{A}--to--{B}"])
    assert (stored.info["read_site"], stored.info["site"]) == (A, B)
    assert 0 < stored.info["card"]["domains"]["held-out documents"]["fvu"]["value"] < 0.8
    assert stored.info["card"]["curve"][-1]["held-out documents"] < 0.8
    assert find(word_model, folder=tmp_path) == []  # a comparison cannot read a site through it


def test_joined_sites_in_one_pass(word_model, word_corpus, tmp_path) -> None:
    made = train(word_model, [f"{A}+{B}"], word_corpus, tmp_path, saes=["crosscoder(k=3, lr=5e-3, width=32)"], **SMALL)
    stored = native.load(made[f"{A}+{B}"])
    assert (stored.d_in, stored.info["sites"]) == (24, [A, B])
    assert 0 < stored.info["card"]["domains"]["held-out documents"]["fvu"]["value"] < 0.8


def test_reading_ahead_changes_nothing(word_model, word_corpus, tmp_path) -> None:
    calls = []
    for prefetch in (False, True):
        word_model.calls = 0
        folder = tmp_path / str(prefetch)
        train(word_model, [A], word_corpus, folder, saes=[TOPK], prefetch=prefetch, checkpoint_seconds=0, **SMALL)
        calls.append(word_model.calls)
    assert calls[0] == calls[1]  # no block is read in vain
    assert same(tmp_path / "False" / A, tmp_path / "True" / A)
    assert losses(tmp_path / "False") == losses(tmp_path / "True")


def broken(model: Any, monkeypatch: pytest.MonkeyPatch, at_call: int, value: float = np.nan) -> None:
    """From this pass of the model on, rows hold NaN."""
    read, calls = model.read, iter(range(10**6))

    def broken_read(*args: Any, **how: Any) -> Any:
        found = read(*args, **how)
        if next(calls) >= at_call:
            for rows in found.values():
                rows.rows[3, 2] = value
        return found

    monkeypatch.setattr(model, "read", broken_read)


@pytest.mark.parametrize("prefetch", [False, True])
def test_nan_rows_stop_the_run_where_they_are_and_the_last_checkpoint_goes_on(
    word_model, word_corpus, tmp_path, monkeypatch, prefetch: bool
) -> None:
    how = {"saes": [TOPK], "checkpoint_seconds": 0, "prefetch": prefetch} | SMALL
    train(word_model, [A], word_corpus, tmp_path / "whole", **how)
    tracker = Recorder()
    with monkeypatch.context() as patched:
        broken(word_model, patched, at_call=8)
        message = (
            r"step \d+, block 3: \d of \d+ rows at blocks.0.resid_post hold NaN .*checkpoint is whole: .*checkpoint-"
        )
        with pytest.raises(UserError, match=message):
            train(word_model, [A], word_corpus, tmp_path / "broken", listeners=Listeners(tracker=tracker), **how)
    assert tracker.said[-1] == ("finish", None)
    train(word_model, [A], word_corpus, tmp_path / "broken", **how)
    assert same(tmp_path / "whole" / A, tmp_path / "broken" / A)


def test_divergence_names_dictionary_step_and_batch(word_model, word_corpus, tmp_path, monkeypatch) -> None:
    cls = parse(JUMP).cls
    learn = cls.partial_fit

    def diverging(self: Any, *rows: torch.Tensor) -> Any:
        if self.step_ == 9 and self.seed == 1:
            self.parameters_["b_dec"][0] = torch.inf
        return learn(self, *rows)

    monkeypatch.setattr(cls, "partial_fit", diverging)
    name = rf"{A}\.{parse(JUMP).slug}-1, step 9, batch \d of block 1: dictionary training diverged at step 9"
    with pytest.raises(UserError, match=name):
        train(
            word_model,
            [A],
            word_corpus,
            tmp_path,
            saes=[JUMP],
            seeds=(0, 1),
            controls=(),
            checkpoint_seconds=0,
            **SMALL,
        )
    kept = checkpoint.load(tmp_path)
    assert kept is not None
    assert 0 < kept[0]["step"] < 9


def test_freed_memory_is_kept_on_a_processor_from_before_the_first_step(
    word_model, word_corpus, tmp_path, monkeypatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(training, "keep_freed_memory", lambda: told.append((tmp_path / "out" / "log.jsonl").exists()))
    train(word_model, [A], word_corpus, tmp_path / "out", saes=[TOPK], controls=(), **SMALL)
    assert told == [False]


def test_coordinates_that_never_change_are_counted_and_said(word_model, word_corpus, tmp_path) -> None:
    word_model.vectors[:, :2] = 0
    with pytest.warns(ConstantDimension, match="2 of 12 coordinates at blocks.0.resid_post are the same"):
        made = train(word_model, [A], word_corpus, tmp_path, saes=[TOPK], controls=(), **SMALL)
    assert native.load(made[A]).info["training"]["constant_dimensions"] == 2
    assert "Coordinates that never change: 2." in (made[A] / "card.md").read_text()


def test_a_tracker_and_a_watcher_hear_every_block(word_model, word_corpus, tmp_path) -> None:
    tracker, seen = Recorder(), []
    train(
        word_model,
        [A],
        word_corpus,
        tmp_path,
        saes=[TOPK],
        listeners=Listeners(watch=seen.append, tracker=tracker),
        **SMALL,
    )
    assert seen == [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (first, how), *middle, last = tracker.said
    assert (first, last) == ("init", ("finish", None))
    assert how["project"] == "theodolite"
    assert how["config"]["saes"] == ["topk(k=3, lr=0.005, width=32)"]
    assert [step for _, (step, _) in middle] == [line["step"] for line in seen]
    assert middle[-1][1][1][f"{A}.control/fvu"] == seen[-1]["losses"][f"{A}.control"]["fvu"]
    assert {"tokens", "left_s", "tokens_per_s"} <= set(middle[0][1][1])


def test_losses_of_a_line_are_means_over_its_block(word_model, word_corpus, tmp_path, monkeypatch) -> None:
    cls = parse(TOPK).cls
    learn, seen = cls.partial_fit, []

    def listening(self: Any, *rows: torch.Tensor) -> Any:
        seen.append(learn(self, *rows))
        return seen[-1]

    monkeypatch.setattr(cls, "partial_fit", listening)
    train(
        word_model,
        [A],
        word_corpus,
        tmp_path,
        saes=["topk(dead_after=150, k=3, lr=5e-3, width=32)"],
        controls=(),
        **SMALL,
    )
    begun = 0
    for step, found in losses(tmp_path):
        block = seen[begun:step]
        assert found[A]["fvu"] == pytest.approx(sum(float(x["fvu"]) for x in block) / len(block), abs=1e-5)
        assert found[A]["dead"] == pytest.approx(sum(float(x["dead"]) for x in block) / len(block) / 32, abs=1e-5)
        begun = step
    assert any(found[A]["dead"] > 0 for _, found in losses(tmp_path))


def test_a_request_of_before_many_dictionaries_goes_on(tmp_path) -> None:
    old = {
        "sites": [A],
        "width": 32,
        "k": 3,
        "seed": 4,
        "tokens": 8000,
        "twin": True,
        "lr": 1e-3,
        "batch": 100,
        "block_rows": 700,
        "model": "m",
        "corpus": "c",
    }
    (tmp_path / "request.json").write_text(json.dumps(old))
    now = {"sites": (A,), "saes": ["topk(k=3, lr=0.001, width=32)"], "controls": ("encoder",), "seeds": (4,)}
    now |= {"tokens": 8000, "batch": 100, "block_rows": 700, "model": "m", "corpus": "c", "dtype": "torch.float32"}
    checkpoint.claim(tmp_path, now)
    with pytest.raises(UserError, match=r"another controls, .*; another saes, "):
        checkpoint.claim(tmp_path, now | {"saes": ["topk(k=3, lr=0.01, width=32)"], "controls": []})
