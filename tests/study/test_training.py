"""`theodolite train`: on one's own text and model, from stored rows, and what it refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from theodolite.cli import app
from theodolite.comparison import conclusion
from theodolite.core.errors import UserError
from theodolite.dictionaries import native, opening
from theodolite.dictionaries.names import crossed, parse
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
from theodolite.study import training
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
TINY: dict[str, Any] = {"sites": [SITE], "tokens": 4096, "width": 16, "k": 2}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Model]:
    """A tiny model instead of the shipped one, a cache of its own, and one thread: a second would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny = Model(tiny_model("llama"), byte_tokenizer(), name="tiny")
    monkeypatch.setattr(training.Model, "from_pretrained", lambda *_, **__: tiny)
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    yield tiny
    torch.set_num_threads(before)


def texts(n: int = 120, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["alpha", "beta", "gamma", "delta", "omega", "sun", "moon", "tree"]
    return [f"{i} " + " ".join(rng.choice(words, 8)) for i in range(n)]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["body,label", *(f"{text},1" for text in texts())]))
    return path


@pytest.mark.parametrize("format", ["raw", "chat"])
def test_ones_own_text_and_model_in_one_call(model: Model, csv: Path, tmp_path: Path, format: str) -> None:
    lines = training.train(training.TrainRequest(data=csv, text="body", format=format, out=tmp_path / "out", **TINY))
    assert lines[-1] == f"in {tmp_path / 'out'}"
    info = native.load(tmp_path / "out" / SITE).info
    ce, fvu = info["card"]["cross_entropy"], info["card"]["domains"][info["card"]["judged_on"]]["fvu"]
    assert [line.split()[0] for line in lines[2:-1]] == [SITE, f"{SITE}.control"]
    assert f"{fvu['value']:.3f} [{fvu['lo']:.3f}, {fvu['hi']:.3f}]" in lines[2]
    assert f"{ce['recovered']:.3f} [{ce['recovered_lo']:.3f}, {ce['recovered_hi']:.3f}]" in lines[2]
    assert info["training"]["corpus"].startswith("mine.csv-")
    assert info["card"]["judged_on"] == {"raw": "held-out documents", "chat": "prompt content"}[format]
    assert info["model_hash"] == model.hash


def test_the_cache_is_where_a_comparison_looks(model: Model, csv: Path) -> None:
    training.train(training.TrainRequest(data=csv, text="body", **TINY))
    ((one, control),) = opening.paired(opening.find(model))
    assert (one.width, one.k, one.label, control is not None) == (16, 2, "topk", True)
    assert one.path.parent.name == f"{one.corpus}-0-w16-k2"


def test_the_command_trains_several_and_says_how_far_it_is(
    model: Model, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    specs = ["--sae", "topk(k=3)", "pca(width=8)", "--width", "16", "24", "--seed", "0", "1", "--controls", "none"]
    rows = ["--data", str(csv), "--text", "body", "--site", SITE, "--tokens", "4096", "--out", str(out)]
    app(["train", *specs, *rows], result_action="return_value")
    told = capsys.readouterr()
    slugs = [f"{slug}-{seed}" for slug in ("topk-k=3-width=16", "topk-k=3-width=24", "pca-width=8") for seed in (0, 1)]
    legend, _, *cards, last = told.out.splitlines()
    assert legend.startswith("On held-out documents (")
    assert last == f"in {out}"
    assert [line.split()[0] for line in cards] == [f"{SITE}.{slug}" for slug in slugs]
    assert "4,096 of 4,096 activations, 0 s left" in told.err
    assert f"  {SITE}.pca-width=8-1: FVU " in told.err


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    model: Model, csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    app(["train", "--data", str(csv), "--text", "body", "--sites", SITE, "--dry-run"], result_action="return_value")
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert told["tokens"] == str(2_000_000 // 2048 * 2048)
    assert float(told["minutes"]) > 0
    times, available = (json.loads(told[key].replace("'", '"'))["own"] for key in ("times_read", "available_tokens"))
    assert times == pytest.approx(int(told["tokens"]) / available, abs=0.01)
    # two dictionaries of 4,096 latents: weights and two moments each; the control stores and trains no encoder
    parameters = 4096 * 32 * (2 * 3 + 1 * 3)
    assert float(told["checkpoint_gb"]) * 1e9 == pytest.approx(4 * parameters, rel=0.1)
    assert float(told["disk_gb"]) > 2 * float(told["checkpoint_gb"])
    assert sorted(tmp_path.rglob("*")) == before


def test_rows_harvested_before(model: Model, tmp_path: Path) -> None:
    harvest(model, texts(), tmp_path / "rows", HarvestPlan(token_sites=[SITE], format="raw"))
    training.train(training.TrainRequest(data=tmp_path / "rows", out=tmp_path / "out", **TINY))
    info = native.load(tmp_path / "out" / SITE).info
    assert (info["model"], info["model_hash"], info["card"]["cross_entropy"]) == ("tiny", model.hash, None)
    assert info["training"]["corpus"].startswith("store-")
    site_dictionary = SimpleNamespace(site=SITE, dictionary=SimpleNamespace(info=info, width=16))
    assert conclusion.card(site_dictionary)["ce_recovered"] is None
    with pytest.raises(UserError, match="unknown harvested site"):
        training.train(
            training.TrainRequest(
                data=tmp_path / "rows", out=tmp_path / "new", **TINY | {"sites": ["blocks.0.resid_post"]}
            )
        )


def test_stored_rows_are_those_the_model_gives_and_train_the_same(model: Model, tmp_path: Path) -> None:
    """As far as padding allows: the same rows in another order reach nearly the same FVU."""
    harvest(model, texts(), tmp_path / "rows", HarvestPlan(token_sites=[SITE], format="raw"))
    (tmp_path / "t.txt").write_text("\n".join(texts()))
    fvu = []
    for data in (tmp_path / "rows", tmp_path / "t.txt"):
        training.train(training.TrainRequest(data=data, out=tmp_path / f"out-{data.name}", **TINY | {"tokens": 40_960}))
        card = native.load(tmp_path / f"out-{data.name}" / SITE).info["card"]
        fvu.append(card["domains"]["held-out documents"]["fvu"]["value"])
    assert fvu[0] == pytest.approx(fvu[1], rel=0.25)


def test_two_files_of_one_name_are_two_corpora(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        path = tmp_path / str(seed) / "mine.txt"
        path.write_text("\n".join(texts(seed=seed)))
        found.append(training.own_corpus(path))
    assert found[0].recipe.name != found[1].recipe.name
    held = sum(d.held_out for d in found[0].documents)
    assert 0.1 < held / len(found[0].documents) < 0.35  # a small file holds out a fifth, not a fiftieth


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        ("body\n" + "\n".join(texts()), {}, "text"),
        ("text\n", {}, "no row|no text|empty"),
        ("text\n" + "\n".join(["short"] * 9), {}, "holds no text of 15 characters in column 'text'"),
        ("text\nonly this one text is here", {}, "holds out no document|has no document to train on"),
    ],
)
def test_a_file_without_texts_is_refused(
    model: Model, tmp_path: Path, content: str, how: dict[str, Any], message: str
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        training.train(training.TrainRequest(data=path, out=tmp_path / "out", **TINY, **how))
    assert not (tmp_path / "out").exists()


def test_what_contradicts_itself_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="or --data, not both"):
        training.train(training.TrainRequest("text-only", data=tmp_path / "x.csv"))
    with pytest.raises(UserError, match="unknown dictionary 'topkk': did you mean 'topk'"):
        training.train(training.TrainRequest(sae=["topkk"]))


def test_folders_of_the_cache_are_told_apart() -> None:
    def folder(saes: list[str], seeds: tuple[int, ...] = (0,), widths: tuple[int, ...] = (4096,), k: int = 32) -> str:
        return training.folder_name("text-chat", crossed(map(parse, saes), widths, k), seeds)

    assert folder(["topk"]) == "text-chat-0"
    assert folder(["topk"], widths=(8192,)) == "text-chat-0-w8192-k32"
    assert folder(["topk(lr=0.01)"], seeds=(2,)) == "text-chat-2-topk-lr=0.01"
    assert folder(["jumprelu(target_l0=64)"]) == "text-chat-0-jumprelu-target_l0=64"
    assert folder(["pca(width=64)"]) == "text-chat-0-pca-w64"
    assert folder(["topk"], seeds=(0, 1)) == "text-chat-0+1"
    several = folder(["topk", "pca(width=64)"], seeds=(0, 1))
    assert several.startswith("text-chat-0+1-2-dictionaries-")
    assert several != folder(["topk", "pca(width=65)"], seeds=(0, 1))


def test_a_finished_run_is_a_request_and_no_other_may_have_its_folder(model: Model, csv: Path, tmp_path: Path) -> None:
    how = {"data": csv, "text": "body", "out": tmp_path / "out"}
    training.train(training.TrainRequest(**how, **TINY))
    assert json.loads((tmp_path / "out" / "request.json").read_text())["saes"] == ["topk(k=2, width=16)"]
    with pytest.raises(UserError, match="another controls"):
        training.train(training.TrainRequest(**how, **TINY, controls=["decoder"]))


def test_tokens_in_a_batch_reach_every_pass_and_change_no_request(
    model: Model, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    true = model.read
    monkeypatch.setattr(model, "read", lambda *a, **how: seen.append(how.get("batch_tokens")) or true(*a, **how))
    how: dict[str, Any] = {"data": csv, "text": "body", "controls": [], **TINY}
    training.train(training.TrainRequest(out=tmp_path / "out", batch_tokens=70, **how))
    assert set(seen) == {70}
    training.train(training.TrainRequest(out=tmp_path / "out", batch_tokens=90, **how))  # the same run, finished
    with pytest.raises(UserError, match="--batch-tokens must be 1 or more, got 0"):
        training.train(training.TrainRequest(batch_tokens=0))


def test_options_of_the_command_are_the_fields_of_the_request() -> None:
    from dataclasses import fields

    named = {name for argument in app["train"].assemble_argument_collection() for name in argument.names}
    assert {f"--{field.name.replace('_', '-')}" for field in fields(training.TrainRequest)} <= named


def test_one_alone_is_a_list_of_one() -> None:
    one = training.TrainRequest(sae="topk", width=64, seed=3)
    many = training.TrainRequest(sae=["topk"], width=[64], seed=[3])
    assert one.specs() == many.specs()
    assert one.seeds == many.seeds == (3,)
