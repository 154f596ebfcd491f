"""One prompt, two texts: the push is our intervention at the disturbance asked for, and the model stays as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from case_kit import model_folder, theodolite

import theodolite as public
from theodolite.control import steering, toward
from theodolite.control.neutral_texts import neutral_texts
from theodolite.core.artefact import save_reader
from theodolite.core.control_file import ControlFile, MadeOn
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.run import Run
from theodolite.models.model import Model
from theodolite.readers.difference_in_means import DifferenceInMeans
from theodolite.readers.word_ngrams import WordNgrams
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
V = np.random.default_rng(0).normal(size=32)
UNIT = V / np.linalg.norm(V)
PROMPT = "I went to the"
FEW = neutral_texts()[:4]  # the law is the same on four texts, and each test calibrates anew


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer())


@pytest.fixture(scope="module")
def push(model: Model) -> ControlFile:
    return ControlFile("joy", "lat", MadeOn.of(model), (Intervention.add(SITE, UNIT).to_json(),), cap=50.0)


@pytest.fixture(autouse=True)
def _few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "neutral_texts", lambda but="": FEW)
    monkeypatch.setattr(toward, "neutral_texts", lambda but="": FEW)


def hooks(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.module.modules())


def test_the_steered_text_is_that_of_the_intervention(model: Model, push: ControlFile) -> None:
    seen: list[tuple[str, str]] = []
    both = public.steer(PROMPT, push, model=model, strength=6, tokens=12, stream=lambda *piece: seen.append(piece))
    change = push.at(6.0)
    plain, steered = (model.generate(PROMPT, max_new_tokens=12, interventions=c, format="raw")[0] for c in ([], change))
    assert (both.default, both.steered) == (plain, steered)
    assert plain != steered
    assert [name for name, _ in seen] == sorted(name for name, _ in seen)  # first one text, then the other
    assert {name: "".join(p for n, p in seen if n == name) for name in ("default", "steered")} == {
        "default": plain,
        "steered": steered,
    }
    assert both.nats == pytest.approx(_kl(model, change), rel=1e-5)
    assert hooks(model) == 0


def _kl(model: Model, changes: list[Intervention]) -> float:
    """Mean KL over all targets of the neutral texts; each has as many tokens, or it counts by them."""
    tokens = model.tokens(FEW, format="raw", max_tokens=24)
    clean, steered = (model.run(tokens, interventions=c).logits for c in ([], changes))
    assert clean is not None
    assert steered is not None
    p, q = clean.log_softmax(-1), steered.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1)[tokens.mask].mean())


def test_each_token_has_the_divergence_at_its_prediction(model: Model, push: ControlFile) -> None:
    both = public.steer(PROMPT, push, model=model, strength=6, tokens=8)
    ids = model.generations(PROMPT, public.Decoding(8), interventions=push.at(6.0), format="raw")[0].ids
    prompt = model.tokens(PROMPT, format="raw").ids[0].tolist()
    whole = torch.tensor([[*prompt, *ids]])
    module = model.network.module
    with torch.no_grad():
        p = module(whole).logits[0].log_softmax(-1)

        def hook(module: Any, inputs: Any, output: Any) -> Any:
            return output + 6.0 * torch.tensor(UNIT, dtype=torch.float32)

        handle = model.network.blocks[1].register_forward_hook(hook)
        q = module(whole).logits[0].log_softmax(-1)
        handle.remove()
    wanted = (p.exp() * (p - q)).sum(-1)[len(prompt) - 1 : -1]
    np.testing.assert_allclose([kl for _, kl in both.tokens], wanted, atol=1e-5)
    assert both.kl == pytest.approx(float(wanted.mean()), abs=1e-5)


def test_strength_zero_is_the_model(model: Model, push: ControlFile) -> None:
    both = public.steer(PROMPT, push, model=model, strength=0, tokens=8)
    assert both.default == both.steered
    assert both.nats == both.kl == 0


@pytest.mark.parametrize("away", [False, True])
def test_auto_finds_the_disturbance_and_the_file_keeps_it(
    model: Model, push: ControlFile, tmp_path: Path, away: bool
) -> None:
    both = model.steer(PROMPT, push, nats=0.05, away=away, tokens=4)
    assert both.nats == pytest.approx(0.05, rel=0.02)
    assert (both.strength < 0) == away
    assert _kl(model, push.at(both.strength)) == pytest.approx(both.nats, rel=1e-4)
    kept = ControlFile.open(both.save(tmp_path / "joy.safetensors"))
    assert kept.strength(0.05, -1 if away else 1) == both.strength
    again = public.steer(PROMPT, tmp_path / "joy.safetensors", model=model, strength=both.strength, tokens=4)
    assert again.steered == both.steered
    assert both.save(tmp_path / "joy.gguf").read_bytes()[:4] == b"GGUF"
    assert "def steer" in both.save(tmp_path / "joy.py").read_text()


def test_a_concept_by_name_and_a_table_of_ones_own(model: Model, tmp_path: Path) -> None:
    both = model.steer(PROMPT, "joy", tokens=4)
    assert (both.concept, both.method, str(both.site)) == ("joy", "difference_in_means", "blocks.2.resid_post")
    assert both.file is not None
    spread = both.file.spreads["blocks.2.resid_post"]
    assert spread.mean_positive > spread.mean_negative  # a direction towards joy
    assert len(both.file.training_set) == 64
    texts = [f"a {word} {i} day" for i in range(40) for word in ("good", "bad")]
    pd.DataFrame({"words": texts, "kind": ["y", "n"] * 40}).to_csv(tmp_path / "mine.csv", index=False)
    table: dict[str, Any] = {"text": "words", "label": "kind", "positive": ["y"], "site": SITE}
    own = model.steer(PROMPT, tmp_path / "mine.csv", method="logistic", tokens=4, **table)
    assert (own.concept, own.method, str(own.site)) == ("mine", "logistic", SITE)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A Run with two readers: one of the state, one of the text."""
    folder = Run.create(tmp_path / "run", {"name": "mine", "model": "tiny", "contrasts": []}, "e" * 64).folder
    rows, labels = np.random.default_rng(2).normal(size=(40, 32)), np.arange(40) % 2
    about = {"site": SITE, "slope": 1.0, "intercept": 0.0}
    reader = DifferenceInMeans().fit(rows + labels[:, None] * V, labels)
    home = folder / "artefacts" / "readers"
    save_reader(reader, home / "means", about | {"method": "difference_in_means", "view": "state"})
    words = WordNgrams().fit(["good day", "bad night"] * 20, [0, 1] * 20)
    save_reader(words, home / "words", about | {"method": "word_ngrams", "view": "text"})
    return folder


def test_a_method_of_a_run_steers_along_what_it_reads(model: Model, run_folder: Path) -> None:
    both = model.steer(PROMPT, f"{run_folder}:difference_in_means", nats=0.05, tokens=4)
    assert (both.concept, both.method, str(both.site)) == ("mine", "difference_in_means", SITE)
    assert both.file is not None
    assert float(both.file.directions[SITE] @ UNIT) > 0.9
    for toward_, message in (
        (f"{run_folder}:word_ngrams", "'word_ngrams' has no direction in the state"),
        (f"{run_folder}:logistik", "unknown method of this run 'logistik'"),
        (str(run_folder), "is a folder: write .*:METHOD"),
    ):
        with pytest.raises(UserError, match=message):
            model.steer(PROMPT, toward_)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"toward": "joyy"}, "unknown concept 'joyy': did you mean 'joy'"),
        ({"strength": "nan"}, "--strength nan: write auto, or a finite number"),
        ({"strength": float("inf")}, "write auto, or a finite number"),
        ({"strength": "strong"}, "--strength 'strong': write auto, or a number"),
        ({"strength": 51}, "strength 51 is above the cap of 50"),
        ({"strength": 3, "away": True}, "has a sign of its own"),
        ({"nats": float("nan")}, "--nats nan"),
        ({"tokens": 0}, "--tokens 0: give at least 1"),
        ({"prompt": "word " * 300}, r"the prompt has more than 512 tokens: 40 new ones .* context of 512"),
        ({"prompt": "word " * 96}, r"the prompt has 480 tokens: 40 new ones behind it exceed"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"toward": "joy", "site": "blocks.7.resid_post"}, "the model has blocks 0 to 2"),
        ({"toward": "joy", "method": "lat_"}, "unknown method of control 'lat_'"),
        ({"method": "lat"}, "names its method itself"),
        ({"site": SITE}, "--site blocks.1.resid_post is for concepts and tables"),
        ({"positive": ["y"]}, "--positive belongs to a table of yours, and the control 'joy' is none"),
        ({"toward": "joy", "text": "words", "group": "g"}, "--text, --group belong to a table of yours, and joy is"),
        ({"toward": "nowhere.csv"}, "no file|nowhere.csv"),
        ({"toward": "nowhere.safetensors"}, "no control file"),
        ({"toward": "v.pt"}, "is pickled"),
        ({"save": Path("x.onnx")}, r"end the name in \.safetensors, \.gguf, \.py"),
        ({"strenght": 3}, "unknown argument of steer 'strenght': did you mean 'strength'"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_the_model(
    model: Model, push: ControlFile, given: dict[str, Any], message: str
) -> None:
    tokens = model.tokens("a text")
    before = model.run(tokens).logits
    asked: dict[str, Any] = {"prompt": PROMPT, "toward": push} | given
    with pytest.raises(UserError, match=message):
        public.steer(asked.pop("prompt"), asked.pop("toward"), model=model, **asked)
    assert hooks(model) == 0
    assert torch.equal(model.run(tokens).logits, before)  # type: ignore[arg-type]


def test_another_width_is_refused_and_a_stopped_stream_leaves_the_model(model: Model, push: ControlFile) -> None:
    wide = Intervention.add(SITE, np.ones(16) / 4)
    other = ControlFile("joy", "lat", MadeOn(name="m", architecture="llama", d_model=16), (wide.to_json(),))
    with pytest.raises(UserError, match=r"has vectors of 16 numbers .*, this model's states have 32"):
        model.steer(PROMPT, other)

    def stopped(name: str, piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.steer(PROMPT, push, strength=2, stream=stopped)
    assert hooks(model) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("refusal", "", ""),
        ("mine", "harmful", "benign"),
        ("x", "", "jailbreaks"),
        ("HARMLESS", "", ""),
        ("x", "is_guardrail = 1", ""),
        ("x", "safety", "other"),
    ],
)
def test_no_control_about_refusal_is_made(push: ControlFile, words: tuple[str, str, str]) -> None:
    concept, positive, negative = words
    with pytest.raises(UserError, match="may lower the model's refusal"):  # none to steer with, to save or to export
        ControlFile(concept, "lat", push.made_on, push.changes, positive=positive, negative=negative)


@pytest.mark.parametrize("field", ["source", "label", "positive", "where", "file"])
def test_a_neutral_name_does_not_hide_what_a_run_was_trained_on(model: Model, run_folder: Path, field: str) -> None:
    words = {"positive": ["harmless"], "where": {"kind": "harmless"}}.get(field, "harmless")
    recipe = Run.open(run_folder).recipe | {"train": [{"source": "mine", field: words}]}
    folder = Run.create(run_folder.parent / "other", dict(recipe), "e" * 64).folder
    with pytest.raises(UserError, match="may lower the model's refusal"):
        model.steer(PROMPT, f"{folder}:difference_in_means")


def test_a_neutral_name_does_not_hide_what_a_table_holds(model: Model, tmp_path: Path) -> None:
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(40)], "label": [i % 2 for i in range(40)]})
    rows.to_csv(tmp_path / "harmbench.csv", index=False)
    fields = {"name": "x", "title": "x", "positive": "a", "negative": "b", "texts": {"file": "harmbench.csv"}}
    (tmp_path / "x.yaml").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="may lower the model's refusal"):
        model.steer(PROMPT, str(tmp_path / "x.yaml"))


def test_the_command_prints_both_texts_and_every_token(push: ControlFile, tmp_path: Path) -> None:
    folder, vector = model_folder(tmp_path / "m"), push.save(tmp_path / "joy.safetensors")
    words = ("steer", PROMPT, "--toward", vector, "--model", folder, "--tokens", 6, "--strength", "-4")
    ended = theodolite(*words, "--save", tmp_path / "new.gguf")
    assert (ended.code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("default: '")
    assert lines[1].startswith("steered: '")
    assert lines[2] == "KL (nats)  token"
    assert len(lines) == 3 + 6 + 2
    assert lines[-2].startswith("joy: lat at blocks.1.resid_post, strength −4.000")
    assert (tmp_path / "new.gguf").is_file()
    wrong = theodolite("steer", PROMPT, "--toward", "joyy", "--model", folder)
    assert wrong.code == 2
    assert "did you mean 'joy'?" in wrong.stderr


def test_a_terminal_shows_two_columns_that_grow(
    model: Model, push: ControlFile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from theodolite.report import side_by_side, terminal

    monkeypatch.setattr(terminal, "_console", lambda: Console(force_terminal=True, width=60, color_system="standard"))
    with side_by_side.columns() as columns:
        for name, piece in (("default", "one "), ("default", "two"), ("steered", "three")):
            columns(name, piece)
    shown = capsys.readouterr().out
    assert shown.count("one two") >= 2  # drawn again with each piece
    assert any("one two" in line and "three" in line for line in shown.splitlines())
    side_by_side.show(model.steer(PROMPT, push, strength=4, tokens=3))
    assert "KL per token: " in (shown := capsys.readouterr().out)
    assert "default: " not in shown
