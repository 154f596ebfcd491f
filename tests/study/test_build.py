"""Views are made once, made again where their code changed, and say of how many texts they hold only the start."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from case_kit import damage
from safetensors.torch import save_file

import theodolite
from theodolite.core import atomic
from theodolite.core.errors import UserError
from theodolite.core.recipe import Recipe, Shift, Source
from theodolite.data import concept
from theodolite.dictionaries.activations import ReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.models import prompting, sentence
from theodolite.models.model import Model
from theodolite.study import build
from theodolite.study.hardware import DEFAULT, Machine
from theodolite.study.subjects import SiteDictionary, Subjects, open_subjects, unchecked_notes
from theodolite.study.views import FROM_DICTIONARY, Views
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

SITE = "blocks.1.resid_post"
WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near", "old", "mill", "birds"]
BOTH_WAYS = torch.cat([torch.eye(32), -torch.eye(32)])  # x = relu(x) - relu(-x): half of the 64 latents are active


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny", hash="0" * 64)


def table(n: int, seed: int = 0) -> pd.DataFrame:
    rng, label = np.random.default_rng(seed), np.arange(n) % 2
    return pd.DataFrame({"text": [" ".join([*rng.choice(WORDS, 6), "zz"][: 6 + y]) for y in label], "label": label})


Make = Callable[..., Views]


def both_ways(bias: float = 0.0) -> Dictionary:
    return Dictionary(BOTH_WAYS, torch.zeros(64), BOTH_WAYS, torch.full((32,), bias), ReluRule(), subtract_b_dec=False)


@pytest.fixture
def made(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Views of 60 rows, cut at 30 bytes, for methods that read a dictionary, a sentence and the model's answer."""
    table(60).to_csv(tmp_path / "mine.csv", index=False)
    source = Source(source="mine", file=str(tmp_path / "mine.csv"), field="text", label="label")
    recipe = Recipe(
        name="toy",
        title="toy",
        positive="1",
        negative="0",
        question="Is it?",
        site=SITE,
        sites=[SITE],
        train=[source],
        max_tokens=30,
        methods=["logistic@latents", "logistic@sentence", "logistic@embedding", "prompting"],
    )
    monkeypatch.setattr(sentence, "embed", lambda texts, note: np.ones((len(texts), 3)))
    monkeypatch.setattr(sentence, "truncated", lambda texts: 5)
    monkeypatch.setattr(prompting, "answer_log_odds", lambda model, texts, question, **how: np.ones(len(texts)))

    def build_them(
        network: Model = model,
        control: Dictionary | None = None,
        note: Callable[[str, int, str], None] = lambda *_: None,
        machine: Machine = DEFAULT,
        **changes: object,
    ) -> Views:
        wanted = recipe.model_copy(update=changes)
        site_dictionary = SiteDictionary("both", "", SITE, both_ways(), control)
        found = concept.load(wanted)
        return build.build_views(
            wanted, found, Subjects(network, (site_dictionary,)), tmp_path / "cache", lambda *_: None, note, machine
        )

    return build_them


def test_what_other_code_makes_is_made_again_and_the_states_are_not(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made()
    before = written(first)
    assert written(made()) == before
    code_hash = build.code_hash

    def edited(*entries: object) -> str:
        """Stands for these makers' code after an edit."""
        other = {build._codes, build._answer} & {entry for entry in entries if callable(entry)}
        return code_hash(*entries) if not other else f"{code_hash(*entries)[:-1]}x"[::-1]

    monkeypatch.setattr(build, "code_hash", edited)
    again = made()
    assert again.inputs == first.inputs
    fresh = {path.name.split(".")[0] for path in written(again).keys() - before.keys()}
    assert fresh == {"answer", "latents", "reconstruction", "error"}
    assert before.items() <= written(again).items()
    views = ("state", *first.makers)
    assert {view for view in views if again.key(view, SITE) != first.key(view, SITE)} == {"answer"} | FROM_DICTIONARY


def written(views: Views) -> dict[Path, int]:
    """Files of the views and of the harvest, with when each was written."""
    return {path: path.stat().st_mtime_ns for path in views.folder.rglob("*.safetensors")}


def test_every_option_that_decides_the_rows_is_in_their_key(made: Make) -> None:
    """Of two requests that differ in one of them, neither may be given what was kept for the other."""
    half = Model(tiny_model().to(torch.bfloat16), byte_tokenizer(), name="tiny", hash="0" * 64)
    common = {
        "pooling": made(pooling="last"),
        "positions": made(positions="content[-3:]"),
        "format": made(format="raw"),
        "max_tokens": made(max_tokens=20),
        "sites": made(sites=[SITE, "blocks.0.resid_post"]),
        "dtype": made(half),
    }
    first = made()
    assert len({views.inputs["train"] for views in (first, *common.values())}) == 1 + len(common)
    asked = [made(question="Another?"), made(few_shot=[("a text", 1)])]
    assert [views.inputs for views in asked] == [first.inputs] * 2
    assert len({views.key("answer", "") for views in (first, *asked)}) == 3
    controls = [made(control=both_ways(bias)) for bias in (0.0, 0.5)]
    assert len({views.key("control", SITE) for views in controls}) == 2
    assert len({views.key("latents", SITE) for views in (first, *controls)}) == 1
    one, other = (views.get("train", "control", SITE).toarray() for views in controls)
    assert np.array_equal(one, other)  # a bias of the decoder changes no latent, and yet each control has its own file
    assert len({views.path("train", "control", SITE, views.dictionary("control", SITE)) for views in controls}) == 2


def test_dtype_and_device_are_in_the_key_beside_the_identity(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of one file have one hash in every dtype and on every device, and other states."""
    monkeypatch.setattr(Model, "identity", "the same")
    monkeypatch.setattr(Model, "device", torch.device("cpu"))
    recipe = Recipe.model_construct(site=SITE, sites=[SITE])

    def facts(of: Model) -> str:
        return json.dumps(build._facts(recipe.model_copy(), Subjects(of)), sort_keys=True, default=str)

    half = Model(tiny_model().to(torch.bfloat16), byte_tokenizer(), name="tiny", hash="0" * 64)
    found = {facts(model), facts(half)}
    monkeypatch.setattr(Model, "device", torch.device("cuda"))
    found.add(facts(model))
    assert len(found) == 3


def test_labels_are_not_in_the_key_of_the_rows_and_are_in_that_of_the_fits(made: Make, tmp_path: Path) -> None:
    first = made()
    frame = table(60)
    frame.assign(label=1 - frame["label"]).to_csv(tmp_path / "mine.csv", index=False)
    turned = made()
    assert turned.inputs == first.inputs
    assert turned.key("state", SITE) != first.key("state", SITE)


def test_a_new_data_set_reads_only_its_own_rows(made: Make, tmp_path: Path) -> None:
    first = made()
    before = written(first)
    table(40, seed=1).to_csv(tmp_path / "new.csv", index=False)
    source = Source(source="new", file=str(tmp_path / "new.csv"), field="text", label="label")
    both = made(shifts={"new": Shift(rows=[source])})
    assert both.inputs["train"] == first.inputs["train"]
    fresh = written(both).keys() - before.keys()
    assert fresh
    assert all(path.is_relative_to(both.home("new")) for path in fresh)
    assert before.items() <= written(both).items()
    assert both.key("state", SITE) != first.key("state", SITE)


@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
def test_damaged_entries_are_made_again_and_counted(made: Make, how: str) -> None:
    first = made()
    whole = {view: first.get("train", view, SITE) for view in ("state", "sentence", "answer", "embedding")}
    facts = {part.name: part.read_bytes() for part in first.home("train").glob("*.done")}
    frame = first.frame("train")
    for path in first.home("train").glob("[se]*.safetensors"):
        damage(path, how)
    damage(first.frame_path("train"), how)
    for path in first.home("train").glob("answer*.done"):
        damage(path, how)
    notes: list[tuple[str, int, str]] = []
    again = made(note=lambda *note: notes.append(note))
    for view, value in whole.items():
        assert np.array_equal(again.get("train", view, SITE), value)
    assert {part.name: part.read_bytes() for part in first.home("train").glob("*.done")} == facts
    pd.testing.assert_frame_equal(again.frame("train"), frame)
    # `state`, `sentence`, `embedding`, `error` and the record of `answer`; of a lost record nothing is left to tell
    marks = {"views": 4 if how == "deleted" else 5, "labelled rows": 0 if how == "deleted" else 1}
    said = [text.removeprefix("damaged entries of the cache were made again: ") for _, _, text in notes]
    assert {name: said.count(name) for name in marks} == marks
    quiet: list[tuple[str, int, str]] = []
    made(note=lambda *note: quiet.append(note))
    assert quiet == []


@pytest.mark.parametrize("place", ["harvest/manifest.json", "harvest/commits/*.json", "harvest/shards/*.safetensors"])
@pytest.mark.parametrize("how", ["flipped", "cut", "deleted"])
def test_damaged_harvests_are_read_anew(made: Make, place: str, how: str) -> None:
    first = made()
    whole = first.get("train", "latents", SITE).toarray()
    (path, *_) = sorted(first.home("train").glob(place))
    damage(path, how)
    for part in first.home("train").glob("blocks*.done"):  # so that the harvest is needed
        part.unlink()
    notes: list[tuple[str, int, str]] = []
    again = made(note=lambda *note: notes.append(note))
    assert np.array_equal(again.get("train", "latents", SITE).toarray(), whole)
    # a commit that is gone is a unit that is not finished yet, as after a stop
    assert len(notes) == (0 if (place, how) == ("harvest/commits/*.json", "deleted") else 1)


def test_temporaries_of_killed_writes_leave_the_cache(made: Make, tmp_path: Path) -> None:
    views = made()
    here = views.home("train") / f".a.safetensors.{atomic._host()}-{os.getpid()}-0123abcd.tmp"  # this process lives
    left = [here.with_name(here.name.replace(f"-{os.getpid()}-", f"-{gone_pid()}-"))]
    left.append(tmp_path / "cache" / "fits" / "0123" / left[0].name)
    for path in (here, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    made()
    assert [path.exists() for path in (*left, here)] == [False, False, True]


def gone_pid() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_template_that_changes_while_rows_are_read_is_refused(
    made: Make, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Midnight in a template that prints the date: rows of two days would be kept under one key."""
    rendered = iter(["Today: 1. ", "Today: 1. ", "Today: 2. ", "Today: 2. "])
    monkeypatch.setattr(type(model), "template_around", lambda self, *_: (next(rendered), ""))
    with pytest.raises(UserError, match="another date: run the same command again"):
        made()


def test_texts_cut_on_the_way_to_a_view_are_counted(made: Make) -> None:
    long = int((table(60)["text"].str.len() > 30).sum())
    assert 0 < long < 60
    assert build.cut_notes(made()) == [
        ("truncated", 5, "texts of train cut at 256 word pieces by the sentence encoder"),
        ("truncated", long, "texts of train cut where the model was asked about them"),
    ]


def test_what_was_read_is_counted_by_view(made: Make) -> None:
    read = build.tokens_read(made(), ["train"])
    assert read["latents"] == read["embedding"] == read["state"] < read["answer"]


def test_a_site_inside_a_block_has_states_as_every_block_has(made: Make, model: Model) -> None:
    """Neurons are read as the state is; that of a site that is no block was once missing, and its methods absent."""
    inside = "blocks.1.mlp_act"
    views = made(site=inside, sites=[inside, SITE], format="raw")
    states, texts = views.get("train", "state", inside), list(views.get("train", "text"))
    wanted = model.read(texts, inside, pooling="mean", format="raw", max_tokens=30)[model.site(inside)].rows
    np.testing.assert_allclose(states, wanted, rtol=1e-4, atol=1e-5)
    assert views.get("train", "state", SITE).shape[1] != states.shape[1]


def saelens(folder: Path) -> Path:
    folder.mkdir()
    tensors = {"W_enc": BOTH_WAYS.T, "W_dec": BOTH_WAYS, "b_enc": torch.zeros(64), "b_dec": torch.zeros(32)}
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "sae_weights.safetensors")
    config = {"architecture": "standard", "metadata": {"hook_name": "blocks.1.hook_resid_post"}}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def gemma_scope(folder: Path) -> Path:
    """Its site is unknown, since the path names no repository; its L0 is."""
    inside = folder / "average_l0_32"
    inside.mkdir(parents=True)
    arrays = {"W_enc": BOTH_WAYS.T, "W_dec": BOTH_WAYS, "b_enc": np.zeros(64), "b_dec": np.zeros(32)}
    np.savez(inside / "params.npz", threshold=np.zeros(64), **{name: np.asarray(a) for name, a in arrays.items()})
    return inside


@pytest.mark.parametrize("order", [[saelens, gemma_scope], [gemma_scope, saelens]], ids=["saelens", "gemma-scope"])
def test_dictionaries_from_elsewhere_come_to_a_page_that_says_so(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: list[Callable[[Path], Path]]
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    table(120).to_csv(tmp_path / "mine.csv", index=False)
    main, beside = (str(write(tmp_path / f"d{at}")) for at, write in enumerate(order))
    result = theodolite.compare(
        tmp_path / "mine.csv",
        model=model,
        sites=[SITE],
        sae=[main, beside],
        quick=True,
        out=tmp_path / "run",
        methods=["logistic", "logistic@latents", "k_sparse@latents", "logistic@control"],
    )
    run = result.run
    main, beside = Path(main).name, Path(beside).name  # what may be passed on names no folder
    assert set(run.rows["method"]) >= {"logistic@latents", f"logistic@latents [{beside}]"}
    assert "logistic@control" not in set(run.rows["method"])
    assert run.facts["fvu"] == {main: {"train": pytest.approx(0, abs=1e-6)}}
    assert run.read_json("card") is None
    page = (run.folder / "report.html").read_text()
    assert f"{main} without a card" in page
    assert "It came without a card" in page
    assert f"Latents come from {main} (FVU .000 on the training rows), whose training is not recorded here" in page
    assert "One dictionary, not in the intervals" in page
    assert "SAE rows are absent" not in page
    assert "no SAE rows" not in page
    assert "We compared 3 methods" in page
    here = [run.local_path(name, "") for name in run.recipe["dictionaries"]]
    opened = open_subjects(Recipe.model_validate(run.recipe | {"dictionaries": here}), model)
    assert [note[:2] for note in unchecked_notes(opened)] == [("unchecked", 2)]


def test_the_size_of_a_batch_reaches_the_harvest_and_no_key(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    harvest = build.harvest

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(options["batch_tokens"])
        return harvest(*args, **options)

    monkeypatch.setattr(build, "harvest", watched)
    one = made(machine=Machine(batch_tokens=64))
    assert set(seen) == {64}
    assert made().inputs == one.inputs
