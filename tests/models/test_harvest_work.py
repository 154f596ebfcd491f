"""A harvest in workers: rows equal those read here bit for bit, also where a worker is killed on the way."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from case_kit import model_folder
from deadly_kit import Deadly
from nbclient import NotebookClient

from theodolite.core.errors import UserError
from theodolite.core.parallel import Build, Map, Processes, serial
from theodolite.models import harvest_engine, preflight
from theodolite.models.harvest import Harvest, harvest
from theodolite.models.harvest_engine import chosen_engine
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.harvest_work import HarvestWork, OtherModel, UnitReader
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

TEXTS = [" ".join(["tide", "lantern", "brass", "turns"][i % 4] for i in range(k, 2 * k + 1)) for k in range(24)]
PLAN = HarvestPlan(["blocks.1.resid_post"], ["blocks.0.mlp_out", "blocks.1.resid_post"], unit=4, max_tokens=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "m")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model.from_pretrained(folder)


@pytest.fixture(scope="module")
def expected(model: Model, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    torch.set_num_threads(1)
    return digests(harvest(model, TEXTS, tmp_path_factory.mktemp("rows") / "serial", PLAN, map=serial))


def digests(found: Harvest) -> list[str]:
    """sha256 of each unit's bytes on disk."""
    return [found.store.commit(unit).sha256 for unit in range(found.n_units)]


class Recorded:
    """A map that does the work here as a worker would, and records it."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def __call__(self, build: Build, items: Sequence[Any]) -> Iterator[Any]:
        self.items = list(items)
        return serial(build, items)


@pytest.mark.skipif(os.name != "posix", reason="kills a worker with SIGKILL, which Windows lacks")
def test_rows_are_the_same_bits_though_a_worker_is_killed(model: Model, expected: list[str], tmp_path: Path) -> None:
    ticks: list[int] = []
    builds: list[Deadly] = []
    (tmp_path / "log").mkdir()

    def do(build: Build, items: Sequence[Any]) -> Iterator[Any]:
        builds.append(Deadly(build, tmp_path / "log", number=2, times=1))
        return Processes(2)(builds[0], items)

    found = harvest(model, TEXTS, tmp_path / "r", PLAN, map=do, progress=lambda done, total: ticks.append(done))
    assert digests(found) == expected
    assert ticks == sorted(set(ticks)), "each unit counts once"
    assert len(ticks) == 1 + found.n_units
    tries = builds[0].tries()
    assert tries[2] == 2
    assert len(builds[0].finished()) >= 2
    assert sum(tries.values()) <= found.n_units + 4, "what the parent knew of was not even begun again"


def test_a_unit_that_is_finished_is_not_read_again(model: Model, tmp_path: Path, spy: Callable[..., None]) -> None:
    """Its worker may have died between the commit and the message that it is done."""
    found = harvest(model, TEXTS, tmp_path / "r", PLAN, map=serial)
    ran: list[int] = []
    spy(model.network.module.model.embed_tokens, lambda args: ran.append(1))
    work = HarvestWork(model, model.tokens(TEXTS, max_tokens=60), PLAN.rows(model))
    read = UnitReader(model, 1)
    assert [read(item) for item in work.items([2, 3], found.store)] == [3, 2]
    assert ran == []


def test_workers_load_the_model_once_and_get_the_longest_texts_first(
    model: Model, expected: list[str], tmp_path: Path
) -> None:
    recorded = Recorded()
    found = harvest(model, TEXTS, tmp_path / "r", PLAN, map=recorded)
    assert digests(found) == expected
    assert [item.number for item in recorded.items] == [5, 4, 3, 2, 1, 0]
    assert str(recorded.items[0]).startswith("unit 5 (4 texts of ")


def test_a_model_in_memory_is_read_here_and_says_so(tmp_path: Path, expected: list[str]) -> None:
    mine = Model.from_pretrained(tiny_model(), tokenizer=byte_tokenizer())
    with pytest.warns(UserWarning, match="made in memory"):
        found = harvest(mine, TEXTS, tmp_path / "r", PLAN, map=Processes(2))
    assert digests(found) == expected


def test_edited_weights_are_read_here(folder: Path, tmp_path: Path) -> None:
    mine = Model.from_pretrained(folder)
    mine.network.module.model.layers[0].mlp.up_proj.weight.data.mul_(0.5)
    with pytest.warns(UserWarning, match="no longer those of"):
        harvest(mine, TEXTS, tmp_path / "r", PLAN, map=Processes(2))


def test_a_worker_that_loads_another_model_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights under another attention than the folder tells: refused where asked, read here where not."""
    mine = Model.from_pretrained(folder)
    mine.network.module.set_attn_implementation("eager")
    with pytest.raises(OtherModel, match="config"):
        harvest(mine, TEXTS, tmp_path / "r", PLAN, map=Recorded())
    assert not (tmp_path / "r" / "commits").exists()
    chosen = harvest_engine.Engine(Recorded(), 1, str(folder))
    monkeypatch.setattr("theodolite.models.harvest.chosen_engine", lambda work, asked: chosen)
    again = harvest(mine, TEXTS, tmp_path / "r", PLAN)
    assert again.store.missing(again.n_units) == []


def work_of(model: Model) -> HarvestWork:
    return HarvestWork(model, model.tokens(TEXTS, max_tokens=60), PLAN.rows(model))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.usefixtures("two_cores")
def test_long_work_goes_to_workers_and_short_work_does_not(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (chosen_engine(work_of(model), None).map, chosen_engine(work_of(model), None).threads) == (serial, 2)
    monkeypatch.setattr(harvest_engine, "BREAK_EVEN", 0.0)
    chosen = chosen_engine(work_of(model), None)
    assert isinstance(chosen.map, Processes)
    assert (chosen.map.workers, chosen.threads) == (2, 1)


@pytest.mark.usefixtures("two_cores")
def test_memory_that_is_taken_changes_the_workers_and_no_row(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads change the last bit of a row, so they depend on the machine's memory, not on what is free in it now."""
    monkeypatch.setattr(harvest_engine, "BREAK_EVEN", 0.0)
    monkeypatch.setattr(preflight, "available", lambda device="cpu": 2**30)
    assert (chosen_engine(work_of(model), None).map, chosen_engine(work_of(model), None).threads) == (serial, 1)
    with pytest.warns(UserWarning, match="too few for two"):
        assert chosen_engine(work_of(model), Processes()).map is serial
    monkeypatch.setattr(harvest_engine, "_total_memory", lambda: 2**30)
    assert chosen_engine(work_of(model), None).threads == 2


def test_a_later_call_multiplies_with_the_threads_of_the_first(model: Model, tmp_path: Path) -> None:
    used: list[int] = []

    def here(build: Build, items: Sequence[Any]) -> Iterator[Any]:
        for number in serial(build, items[:1]):
            used.append(torch.get_num_threads())
            yield number

    do: Map = here
    with pytest.raises(UserError, match="5 units are not in"):
        harvest(model, TEXTS, tmp_path / "r", PLAN, map=do)
    torch.set_num_threads(2)
    try:
        found = harvest(model, TEXTS, tmp_path / "r", PLAN, map=serial)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert '"threads":1' in (found.store.folder / "manifest.json").read_text()


NOTEBOOK = """
from theodolite.core.parallel import Processes
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
plan = HarvestPlan(pooled_sites="blocks.1.resid_post", unit=4)
found = harvest(Model.from_pretrained("FOLDER"), [f"text {i}" for i in range(12)], "rows", plan, map=Processes(2))
print(found.store.missing(found.n_units), found.pooled("blocks.1.resid_post", "mean").shape)
"""


def test_a_notebook_may_use_processes(folder: Path, tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK.replace("FOLDER", str(folder)))])
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(out.get("text", "") for out in book.cells[0].outputs if out.get("name") == "stdout")
    assert printed.strip() == "[] (12, 32)"
