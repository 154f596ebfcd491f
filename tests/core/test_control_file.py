"""Control files: equal after reading, and whatever does not fit is refused."""

import json
import math
import struct
import tracemalloc
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from theodolite.core import control_file
from theodolite.core.basis import Direction
from theodolite.core.control_file import ControlFile, KeptStrength, MadeOn, Spread
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.latents import LatentBasis
from theodolite.core.neurons import Neurons
from theodolite.core.rules import Add, Clamp
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
V = np.random.default_rng(0).normal(size=32)
UNIT = (V / np.linalg.norm(V)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny")


@cache
def made_on(model: Model) -> MadeOn:
    """Describe a model once: the hash reads all its weights."""
    return MadeOn.of(model)


def control(model: Model, *changes: Intervention, **more: Any) -> ControlFile:
    forms = tuple(change.to_json() for change in changes or [Intervention.add(SITE, UNIT)])
    return ControlFile("joy", "difference_in_means", made_on(model), forms, **more)


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    spread = Spread(mean_positive=2.0, sd_positive=0.5, mean_negative=-1.0, sd_negative=0.25)
    strengths = [
        KeptStrength(nats=0.1, sign=1, strength=3.5, kl=0.0998),
        KeptStrength(nats=0.1, sign=-1, strength=-3, kl=0.1),
    ]
    full = control(
        model,
        cap=20.0,
        training_set="ab" * 32,
        spreads={SITE: spread},
        strengths=strengths,
        positive="joy",
        negative="no",
    )
    return full.save(tmp_path / "joy.safetensors")


def rewrite(path: Path, change: Any = None, tensors: Any = None, text: str | None = None) -> None:
    """Write the file anew with another header or other tensors."""
    held = load_file(path)
    if text is None:
        header = json.loads(header_of(path))
        if change:
            change(header)
        text = json.dumps(header)
    save_file(tensors(held) if tensors else held, path, metadata={"theodolite": text})


def header_of(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "np") as opened:
        return opened.metadata()["theodolite"]


def test_everything_is_read_as_it_was_written(model: Model, saved: Path) -> None:
    found = ControlFile.open(saved)
    assert (found.concept, found.method, found.positive, found.cap) == ("joy", "difference_in_means", "joy", 20.0)
    assert found.made_on == MadeOn.of(model)
    assert (found.strength(0.1), found.strength(0.1, -1), found.spreads[SITE].sd_negative) == (3.5, -3.0, 0.25)
    np.testing.assert_array_equal(found.directions[SITE], UNIT)
    again = found.save(saved.with_name("again.safetensors"))
    assert again.read_bytes() == saved.read_bytes()
    assert list(load_file(saved)) == [f"0/{SITE}/basis/write"]


@pytest.mark.parametrize(
    "change",
    [
        Intervention.add(SITE, UNIT, positions="last+generated"),
        Intervention("blocks.1.mlp_act", Add(np.array([0.5, -2.0], np.float32)), Neurons([3, 7], 48)),
        Intervention.clamp("blocks.0.resid_post", UNIT, 1.5),
    ],
)
def test_what_is_read_changes_the_model_as_what_was_saved(model: Model, tmp_path: Path, change: Intervention) -> None:
    kept = ControlFile.open(control(model, change).save(tmp_path / "c.safetensors"))
    tokens = model.tokens(["a text", "another one"])
    before, after = (model.run(tokens, interventions=c.at(2.5)).logits for c in (control(model, change), kept))
    assert before is not None
    assert after is not None
    assert torch.equal(before, after)
    assert not torch.equal(before, model.run(tokens).logits)  # type: ignore[arg-type]
    assert kept.at(0.0) == []


def test_latents_wait_for_their_dictionary(model: Model, tmp_path: Path) -> None:
    dictionary = _dictionary()
    change = Intervention(SITE, Clamp(np.array([2.0, 4.0], np.float32)), LatentBasis(dictionary, [1, 5]))
    kept = ControlFile.open(control(model, change).save(tmp_path / "c.safetensors"))
    with pytest.raises(UserError, match="it is not among the 0 that were given"):
        kept.at(1.0)
    (found,) = kept.at(0.5, [dictionary])
    assert isinstance(found.rule, Clamp)
    np.testing.assert_array_equal(found.rule.value, [1.0, 2.0])


def test_strengths_are_those_that_were_calibrated(model: Model, saved: Path) -> None:
    found = ControlFile.open(saved)
    with pytest.raises(
        UserError, match=r"no strength is kept for 0.3 nats and sign \+1: there are 0.1 \(-\), 0.1 \(\+\)"
    ):
        found.strength(0.3)
    capped = control(model, strengths=[KeptStrength(nats=0.3, sign=1, strength=9.0, kl=0.2, capped=True)])
    with pytest.raises(UserError, match=r"no strength was found for .*disturbs by 0\.2"):
        capped.strength(0.3)
    for wrong in (math.nan, math.inf, "x", True):
        with pytest.raises(UserError, match="is no finite number"):
            found.at(wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="strength 21 is above the cap of 20"):
        found.at(21.0)


def test_another_width_is_refused_and_other_weights_are_one_warning(model: Model, saved: Path) -> None:
    found = ControlFile.open(saved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.check(model)
    with pytest.warns(UserWarning, match=r"1 control \('joy'\) was made on weights") as warned:
        found.check(Model(tiny_model(seed=1), byte_tokenizer()))
    assert len(warned) == 1
    wider = control(model)
    object.__setattr__(wider, "made_on", MadeOn.of(model).model_copy(update={"d_model": 64}))
    with pytest.raises(UserError, match="has vectors of 64 numbers"):
        wider.check(model)
    deep = control(model, Intervention.add("blocks.9.resid_post", UNIT))
    with pytest.raises(UserError, match="the model has blocks 0 to 2"):
        deep.check(model)


def put(*keys: Any, value: Any) -> Any:
    def change(header: Any) -> None:
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", value="theodolite-control/9"), "format: Input should be"),
        (put("code", value="os.system"), "code: Extra inputs are not permitted"),
        (put("made_on", "path", value="x"), r"made_on\.path: Extra inputs are not permitted"),
        (put("cap", value=math.nan), "NaN is not a finite number"),
        (put("cap", value=-1), "greater than 0"),
        (put("made_on", "d_model", value=0), "d_model"),
        (put("made_on", "d_model", value=33), "has vectors of 32 numbers, the model it was made on has states of 33"),
        (put("strengths", 0, "strength", value=1e999), "Infinity is not a finite number"),
        (put("strengths", 0, "strength", value=99), "strength 99 of 0.1 nats is above 20"),
        (put("strengths", 0, "sign", value=0), r"strengths\.0\.sign"),
        (put("changes", value=[]), "at least 1 item"),
        (put("changes", 0, "rule", value={"rule": "os"}), "unknown rule 'os'"),
        (put("changes", 0, "basis", "basis", value="my.module:Class"), "unknown basis"),
        (put("changes", 0, "site", value="blocks.1.nowhere"), "unknown part of a block"),
        (put("changes", 0, value=3), r"changes\.0"),
        (put("changes", 0, "rule", value=3), "holds no valid intervention"),
        (put("changes", 0, "basis", value=[]), "its interventions name"),
        (put("changes", 0, "basis", "write", value={"tensor": "other"}), "names no tensor of the file"),
        (put("changes", 0, "basis", "write", value={"shape": [1], "float32": ""}), "an array stands in the JSON"),
        (put("changes", 0, "rule", "strength", value={"tensor": f"0/{SITE}/basis/write"}), "or one that is taken"),
        (put("concept", value="x" * 1001), "at most 1000 characters"),
        (put("training_set", value="../../x"), "training_set"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(saved: Path, change: Any, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(UserError, match=message):
        ControlFile.open(saved)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (lambda held: {name: np.full_like(a, np.nan) for name, a in held.items()}, "holds NaN or infinite numbers"),
        (lambda held: {name: a * 0 for name, a in held.items()}, "vectors other than zero"),
        (lambda held: {name: 3 * a for name, a in held.items()}, "a vector of norm 3: keep the unit vector"),
        (lambda held: {name: a.astype(np.float16) for name, a in held.items()}, "is F16, not F32"),
        (lambda held: {name: a[:, :16] for name, a in held.items()}, "vector of norm|vectors of 16 numbers"),
        (lambda held: held | {"more": UNIT}, "holds the tensors"),
        (lambda held: {str(n): UNIT for n in range(control_file.MOST + 1)}, "4,097 tensors: too many"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved: Path, tensors: Any, message: str) -> None:
    rewrite(saved, tensors=tensors)
    with pytest.raises(UserError, match=message):
        ControlFile.open(saved)


def test_bombs_are_refused_before_they_take_memory(saved: Path) -> None:
    deep = saved.with_name("deep.safetensors")
    deep.write_bytes(saved.read_bytes())
    rewrite(deep, text="[" * 100_000)
    with pytest.raises(UserError, match="nested too deep"):
        ControlFile.open(deep)
    nested = '{"a": ' * 600 + "1" + "}" * 600
    rewrite(deep, text=header_of(saved).replace('"rule":{', f'"rule":{{"more": {nested}, '))
    with pytest.raises(UserError, match=r"holds no valid intervention|nested too deep"):
        ControlFile.open(deep)
    rewrite(deep, text='{"a": 1, "a": 2}')
    with pytest.raises(UserError, match="a key stands twice"):
        ControlFile.open(deep)
    rewrite(deep, text=" " * (control_file.LONGEST + 1))
    with pytest.raises(UserError, match="characters of JSON"):
        ControlFile.open(deep)
    huge = saved.with_name("huge.safetensors")
    with huge.open("wb") as handle:
        handle.truncate(control_file.LARGEST + 1)  # sparse: takes no disk
    tracemalloc.start()
    with pytest.raises(UserError, match="no control has more than"):
        ControlFile.open(huge)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    huge.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(UserError, match="cannot be read"):
        ControlFile.open(huge)


def test_files_of_others_are_named(saved: Path, tmp_path: Path) -> None:
    save_file({"x": UNIT}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is no control file of theodolite"):
        ControlFile.open(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no control file"):
        ControlFile.open(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match=r"end it in \.safetensors"):
        ControlFile.open(saved).save(tmp_path / "x.pt")


def test_the_card_says_what_the_file_holds(saved: Path) -> None:
    text = saved.with_suffix(".md").read_text()
    assert text.startswith("# Control: joy\n")
    assert f"| {SITE} | 2 (0.5) | -1 (0.25) |" in text
    assert "| 0.1 | + | 3.5 | 0.0998 |" in text
    assert "ab" * 32 in text


def test_a_spread_is_that_of_each_class() -> None:
    rows = np.array([[1.0, 0.0], [3.0, 5.0], [-2.0, 1.0]])
    found = Spread.of(np.array([1.0, 0.0]), rows, np.array([1, 1, 0]))
    assert (found.mean_positive, found.sd_positive, found.mean_negative, found.sd_negative) == (2.0, 1.0, -2.0, 0.0)
    with pytest.raises(UserError, match="0 of the negative"):
        Spread.of(np.array([1.0, 0.0]), rows, np.array([1, 1, 1]))


def _dictionary() -> Any:
    from theodolite.dictionaries.activations import TopKRule
    from theodolite.dictionaries.dictionary import Dictionary

    draw = torch.Generator().manual_seed(0)
    W = torch.randn(8, 32, generator=draw)
    return Dictionary(W, torch.zeros(8), W / W.norm(dim=1, keepdim=True), torch.zeros(32), TopKRule(4))


def test_a_direction_is_kept_at_norm_one(model: Model) -> None:
    with pytest.raises(UserError, match="keep the unit vector"):
        control(model, Intervention.add(SITE, 2 * UNIT))
    assert isinstance(control(model).at(1.0)[0].basis, Direction)
