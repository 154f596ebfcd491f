"""Training end to end on a word model: folders, cards, and a killed run that ends bit-equal to one that was not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from theodolite.core.errors import UserError
from theodolite.dictionaries import native
from theodolite.dictionaries.training import checkpoint
from theodolite.dictionaries.training import train as training
from theodolite.dictionaries.training.corpus import Corpus
from theodolite.dictionaries.training.estimate import estimate
from theodolite.dictionaries.training.material import Texts
from theodolite.dictionaries.training.tracking import Listeners
from theodolite.dictionaries.training.train import train

SITES = ["blocks.0.resid_post", "blocks.1.resid_post"]
SMALL = {"saes": ["topk(k=3, lr=5e-3, width=32)"], "tokens": 8000, "batch": 100, "block_rows": 700}
NAMES = [site + suffix for site in SITES for suffix in ("", ".control")]


def test_train_writes_dictionaries_controls_cards_and_a_log(word_model, word_corpus, tmp_path) -> None:
    seen = []
    paths = train(word_model, SITES, word_corpus, tmp_path, listeners=Listeners(lambda *at: seen.append(at)), **SMALL)
    assert list(paths) == NAMES
    assert seen[-1] == (8000, 8000)
    for name, path in paths.items():
        info = native.load(path).info
        card = info["card"]
        assert (info["site"], info["frozen_encoder"]) == (name.removesuffix(".control"), name.endswith("control"))
        assert set(card["domains"]) == {"held-out documents", "prompt content", "last template token"}
        assert 0 < card["domains"]["held-out documents"]["fvu"]["value"] < 0.6
        assert card["curve"][-1]["tokens"] == 8000
        assert 2 < card["curve"][-1]["l0"] <= 3  # FVU is compared at one L0 only
        assert card["curve"][0]["held-out documents"] > card["curve"][-1]["held-out documents"]
        assert card["cross_entropy"]["untouched"] == 2.0
        assert 0.5 < card["cross_entropy"]["recovered"] < 1
        page = (path / "card.md").read_text()
        assert f"{card['domains']['prompt content']['fvu']['value']:.3f}" in page
        assert f"{card['dead']['share']:.1%}" in page
    trained, control = (
        native.load(paths[n]).info["card"]["domains"]["held-out documents"]["fvu"]["value"] for n in NAMES[:2]
    )
    assert trained < control
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"step", "tokens", "total", "tokens_per_s", "left_s", "activations_per_s", "losses"} <= set(log[0])
    assert set(log[0]["losses"][NAMES[0]]) == {"fvu", "aux", "l0", "dead"}
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_finished_folder_is_returned_untouched(word_model, word_corpus, tmp_path) -> None:
    paths = train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    word_model.calls = 0
    # of runs that were killed after their last file, and inside a checkpoint
    whole, cut = tmp_path / "checkpoint-000000080", tmp_path / "checkpoint-000000070"
    checkpoint.save(tmp_path, 80, {"step": 80}, {SITES[0]: {"x": torch.zeros(2)}, checkpoint.CARRY: {}})
    cut.mkdir()
    (cut / f".{SITES[0]}.safetensors.0a1b2c-77-0123abcd.tmp").write_text("half")
    assert train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL) == paths
    assert not whole.exists()
    assert not cut.exists()
    assert word_model.calls == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_another_request_into_the_same_folder_is_refused(word_model, word_corpus, tmp_path) -> None:
    train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    with pytest.raises(
        UserError, match=r"another saes, .*k=3.* and not .*k=4.*another seeds, 0 and not 1: choose another folder"
    ):
        train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL | {"saes": ["topk(k=4, width=32)"], "seeds": (1,)})


def test_measuring_is_told_of_every_dictionary(word_model, word_corpus, tmp_path) -> None:
    told: list[tuple[int, int]] = []
    made = train(
        word_model,
        SITES[:1],
        word_corpus,
        tmp_path,
        **SMALL,
        listeners=Listeners(measuring=lambda *at: told.append(at)),
    )
    assert told == [(done, len(made)) for done in range(len(made) + 1)]


def test_a_run_killed_again_and_again_ends_bit_equal(train_in_a_child, tmp_path) -> None:
    """Killed inside a checkpoint and between two; every restart goes on from the last one that was committed."""
    whole, killed, how = tmp_path / "whole", tmp_path / "killed", {"sites": SITES[:1]} | SMALL
    assert train_in_a_child(whole, **how) == 0
    for crash_at in (6, 29, 40, 55):
        assert train_in_a_child(killed, crash_at=crash_at, **how) == 137
    steps = [json.loads(line)["step"] for line in (killed / "log.jsonl").read_text().splitlines()]
    assert 0 < steps[-1] < 80
    assert train_in_a_child(killed, **how) == 0
    for name in NAMES[:2]:
        there, here = (load_file(folder / name / "model.safetensors") for folder in (whole, killed))
        assert all(torch.equal(there[key], here[key]) for key in there)
        cards = [json.loads((folder / name / "config.json").read_text())["info"]["card"] for folder in (whole, killed)]
        assert cards[0] == cards[1]
    log = [json.loads(line)["step"] for line in (killed / "log.jsonl").read_text().splitlines()]
    assert log == sorted(set(log))
    assert log[-1] == 80


def test_a_finished_folder_whose_weights_changed_is_refused(word_model, word_corpus, tmp_path) -> None:
    paths = train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    weights = paths[SITES[0]] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors is missing or damaged .*: delete this folder"):
        train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)


def test_checkpoints_of_other_programs_stay(tmp_path) -> None:
    """`checkpoint-500` is how Hugging Face's Trainer names its own; a file or a link may have such a name too."""
    tensors = {"a": {"x": torch.zeros(2)}, checkpoint.CARRY: {}}
    elsewhere = tmp_path / "elsewhere"
    checkpoint.save(elsewhere, 3, {"step": 3}, tensors)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "checkpoint-note.txt").write_text("mine")
    (folder / "checkpoint-000000002").symlink_to(elsewhere / "checkpoint-000000003")
    for name in ("checkpoint-500/model.safetensors", "checkpoint-000000004/commit.json", "checkpoint-000000001/my.md"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("mine")
    others = {path for path in tmp_path.rglob("*") if path != folder / "checkpoint-000000001"}
    checkpoint.save(folder, 1, {"step": 1}, tensors)
    checkpoint.save(folder, 5, {"step": 5}, tensors)
    assert {p.name for p in (folder / "checkpoint-000000001").iterdir()} == {"my.md"}
    assert checkpoint.load(folder)[0] == {"step": 5}
    checkpoint.clear(folder, ["a"])
    assert set(tmp_path.rglob("*")) == others | {folder / "checkpoint-000000001"}


def test_a_changed_number_in_a_commit_is_found(tmp_path) -> None:
    checkpoint.save(tmp_path, 7, {"step": 7, "seconds": 0.5}, {"a": {"x": torch.zeros(2)}})
    path = tmp_path / "checkpoint-000000007" / "commit.json"
    text = path.read_text()
    path.write_text(text.replace('"step": 7', '"step": 8'))
    with pytest.raises(UserError, match=r"is damaged \(commit\.json\)"):
        checkpoint.load(tmp_path)
    path.write_text('{"numbers": 3}')
    with pytest.raises(UserError, match=r"is damaged \(commit\.json\)"):
        checkpoint.load(tmp_path)


def test_a_damaged_checkpoint_is_refused(word_model, word_corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "clear", lambda *_: None)
    train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    (weights,) = tmp_path.glob("checkpoint-*/blocks.0.resid_post.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    (tmp_path / SITES[0] / "config.json").unlink()
    with pytest.raises(UserError, match="damaged"):
        train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)


def test_a_checkpoint_of_other_code_is_not_gone_on_from(word_model, word_corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "clear", lambda *_: None)
    train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    (tmp_path / SITES[0] / "config.json").unlink()
    monkeypatch.setattr(training, "code_hash", lambda *entries: "edited")
    with pytest.raises(UserError, match="other code or libraries"):
        train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)


def as_version_0_1(folder: Path, name: str) -> None:
    """Give a training folder the names that controls had in version 0.1."""
    for path in [*folder.glob(f"checkpoint-*/{name}.control.safetensors"), folder / f"{name}.control"]:
        path.rename(path.with_name(path.name.replace(".control", ".twin")))
    for path in [*folder.glob("checkpoint-*/commit.json"), folder / "request.json"]:
        path.write_text(path.read_text().replace('"controls"', '"twins"').replace(".control", ".twin"))


def test_a_finished_run_of_version_0_1_is_returned_as_it_is(word_model, word_corpus, tmp_path) -> None:
    train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    as_version_0_1(tmp_path, SITES[0])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    assert found == {SITES[0]: tmp_path / SITES[0], f"{SITES[0]}.control": tmp_path / f"{SITES[0]}.twin"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_stopped_run_of_version_0_1_is_refused(word_model, word_corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "clear", lambda *_: None)
    train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    as_version_0_1(tmp_path, SITES[0])
    (tmp_path / SITES[0] / "config.json").unlink()
    for path in tmp_path.glob("checkpoint-*/commit.json"):
        commit = json.loads(path.read_text())
        del commit["checksum"], commit["numbers"]["code"]
        path.write_text(json.dumps(commit))
    with pytest.raises(UserError, match="other code or libraries"):
        train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)


def test_a_request_or_commit_that_is_no_json_is_named(tmp_path) -> None:
    (tmp_path / "request.json").write_text('{"k": ')
    with pytest.raises(UserError, match=r"request\.json is damaged"):
        checkpoint.claim(tmp_path, {"k": 3})
    (tmp_path / "checkpoint-000000001").mkdir()
    (tmp_path / "checkpoint-000000001" / "commit.json").write_text("")
    with pytest.raises(UserError, match=r"commit\.json is damaged"):
        checkpoint.load(tmp_path)


def test_a_log_line_left_unfinished_by_a_dying_run_leaves_with_the_later_ones(tmp_path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    checkpoint.cut_log(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokens": 50}, "50 tokens are less than one batch: give at least 100"),
        ({"saes": ["topk(k=33, width=32)"]}, "k=33 .* from 1 to 32"),
        ({"saes": ["topk(k=0, width=32)"]}, "k=0 .* from 1 to 32"),
        ({"saes": ["topk(width=0)"]}, "width=0"),
        ({"saes": ["topk(width=4e3)"]}, "width=4000.0 of dictionary .* is not a whole number"),
        ({"saes": ["topkk"]}, "unknown dictionary 'topkk': did you mean 'topk'"),
        ({"saes": ["topk(kk=3)"]}, "unknown parameter of topk 'kk': did you mean 'k'"),
        ({"saes": ["topk(seed=3)"]}, "seed is no parameter of one dictionary .*: use --seed"),
        ({"saes": ["topk@latents"]}, "cannot read dictionary"),
        ({"saes": ["topk", "topk( )"]}, "dictionary 'topk' is named twice"),
        ({"saes": []}, "give at least one of saes"),
        ({"seeds": (1, 1)}, "seeds: 1 is named twice"),
        ({"controls": ["encode"]}, "unknown control 'encode': did you mean 'encoder'"),
    ],
)
def test_a_plan_that_cannot_be_trained_is_refused_before_the_folder_is_claimed(
    word_model, word_corpus, tmp_path, wrong: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(word_model, SITES, word_corpus, tmp_path / "new", **SMALL | wrong)
    assert not (tmp_path / "new").exists()


def test_estimate_says_tokens_bytes_and_minutes_without_training(word_model, word_corpus, tmp_path) -> None:
    told = estimate(word_model, SITES, word_corpus, **SMALL)
    assert told["tokens"] == 8000
    assert told["dictionaries"] == 4
    assert 0 < told["minutes"] < 5
    assert told["checkpoint_gb"] > 0
    assert told["available_tokens"]["chat"] > 1000


def test_minutes_count_the_passes_for_the_cards(word_model, word_corpus, monkeypatch) -> None:
    """Two sites, each untouched, zeroed and with two dictionaries; by this clock only passes take time, 1 s each.

    The first one, which warms up, takes 100.
    """
    loss, ticks = word_model.loss, [0.0]

    def slow(texts, **options):
        assert len(texts) == 4
        ticks.append(ticks[-1] + (1 if len(ticks) > 1 else 100))
        return loss(texts, **options)

    monkeypatch.setattr(word_model, "loss", slow)
    monkeypatch.setattr("theodolite.dictionaries.training.estimate.time.perf_counter", lambda: ticks[-1])
    told = estimate(word_model, SITES, word_corpus, **SMALL)
    n_texts = len(Texts(word_model, word_corpus).main_texts(0))
    assert told["minutes_measuring"] == pytest.approx((2 * 2 + 4) * n_texts / 4 / 60)
    assert told["minutes"] == told["minutes_measuring"]


def test_a_folder_that_holds_something_else_is_refused(tmp_path) -> None:
    (tmp_path / ".request.json.0a1b2c3d.tmp").touch()  # of a run that was killed as it began
    checkpoint.claim(tmp_path, {"k": 3})
    (tmp_path / "request.json").rename(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match=r"holds no training run \(found: thesis\.tex\): give --out a new folder"):
        checkpoint.claim(tmp_path, {"k": 3})


def test_estimate_starts_from_as_many_rows_as_training(word_model, word_corpus) -> None:
    """More clusters than a batch has rows, but not more than there are rows to start from."""
    told = estimate(word_model, SITES[:1], word_corpus, **SMALL | {"saes": ["kmeans(width=150)"], "controls": ()})
    assert told["dictionaries"] == 1


def chat_only(corpus: Corpus) -> Corpus:
    recipe = corpus.recipe.model_copy(update={"parts": [p for p in corpus.recipe.parts if p.format == "chat"]})
    return Corpus(recipe, tuple(d for d in corpus.documents if d.format == "chat"), {})


def test_a_corpus_of_prompts_alone_is_judged_on_prompts(word_model, word_corpus, tmp_path) -> None:
    paths = train(word_model, SITES[:1], chat_only(word_corpus), tmp_path, **SMALL)
    card = native.load(paths[SITES[0]]).info["card"]
    assert card["judged_on"] == "prompt content"
    assert 0.5 < card["cross_entropy"]["recovered"] < 1
    assert card["fell_over_last_doubling"] is not None
    page = (paths[SITES[0]] / "card.md").read_text()
    assert "Cross-entropy recovered on prompt content" in page
    assert "FVU on prompt content fell by" in page


def test_another_dtype_is_another_request_and_stands_in_the_record(word_model, word_corpus, tmp_path) -> None:
    paths = train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    assert native.load(paths[SITES[0]]).info["training"]["dtype"] == "torch.float32"
    word_model.dtype = torch.bfloat16
    with pytest.raises(UserError, match="another dtype"):
        train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL)
    request = json.loads((tmp_path / "request.json").read_text())
    del request["dtype"]  # one of before it was recorded
    (tmp_path / "request.json").write_text(json.dumps(request))
    assert train(word_model, SITES[:1], word_corpus, tmp_path, **SMALL) == paths


def test_a_corpus_that_cannot_fill_its_shares_is_refused_before_the_folder_is_claimed(
    word_model, word_corpus, tmp_path
) -> None:
    text, chat = word_corpus.recipe.parts
    nothing = [p.model_copy(update={"share": 0.0}) for p in (text, chat)]
    for parts, documents, message in (
        (nothing, word_corpus.documents, "gives no part a share above 0"),
        ([text, chat], chat_only(word_corpus).documents, "part 'text' of corpus 'words' has no document to train on"),
    ):
        corpus = Corpus(word_corpus.recipe.model_copy(update={"parts": parts}), documents, {})
        with pytest.raises(UserError, match=message):
            train(word_model, SITES[:1], corpus, tmp_path / "new", **SMALL)
    assert not (tmp_path / "new").exists()
