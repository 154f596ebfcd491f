"""Ray does the work: the same rows though a worker is killed, the same errors; without Ray, the name of the extra."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import deadly_kit
import pytest
import torch
from case_kit import model_folder
from deadly_kit import Deadly

from theodolite.core.errors import UserError
from theodolite.core.parallel import Build, Processes, serial
from theodolite.models.harvest import harvest
from theodolite.models.harvest_plan import HarvestPlan
from theodolite.models.model import Model
from theodolite.study.hardware import ENGINES, Machine
from theodolite.study.parallel import engine_map, in_parallel

TEXTS = [" ".join(["tide", "lantern", "brass"][i % 3] for i in range(k, 2 * k + 1)) for k in range(20)]
PLAN = HarvestPlan(["blocks.1.resid_post"], ["blocks.1.resid_post"], unit=4, max_tokens=60)


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    found = pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'theodolite[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found.cloudpickle.register_pickle_by_value(deadly_kit)
    yield found
    found.shutdown()


def test_engines_have_names_and_others_are_refused() -> None:
    assert ENGINES == ("auto", "serial", "processes", "ray")
    assert (engine_map("auto"), engine_map("serial")) == (None, serial)
    assert isinstance(engine_map("processes"), Processes)
    with pytest.raises(UserError, match="did you mean 'processes'"):
        Machine(engine="process")  # type: ignore[arg-type]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'theodolite\[ray\]'"):
        engine_map("ray")


def test_calls_are_done_in_the_order_they_finish() -> None:
    from joblib import delayed

    ticks: list[tuple[int, int]] = []
    found = in_parallel([delayed(divmod)(7, 2), delayed(divmod)(9, 2)], 3, lambda *now: ticks.append(now), map=serial)
    assert found == [(3, 1), (4, 1)]
    assert ticks == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.usefixtures("ray")
def test_fits_on_ray_give_results_and_their_own_errors() -> None:
    from joblib import delayed

    on_ray = engine_map("ray")
    calls = [delayed(divmod)(n, 2) for n in range(3)]
    assert sorted(in_parallel(calls, 3, lambda done, total: None, on_ray)) == [(0, 0), (0, 1), (1, 0)]
    with pytest.raises(ZeroDivisionError):
        in_parallel([delayed(divmod)(1, 0)], 1, lambda done, total: None, on_ray)


@pytest.mark.usefixtures("ray")
def test_a_worker_that_needs_more_memory_than_there_is_does_not_wait_for_it() -> None:
    class Large:
        memory = 2**60

        def __call__(self) -> Any:
            return abs

    on_ray = engine_map("ray")
    assert on_ray is not None
    with pytest.raises(UserError, match="all of Ray has"):
        list(on_ray(Large(), [1]))


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("times", [1, 99])
def test_rows_are_the_same_bits_though_a_worker_is_killed(tmp_path: Path, times: int) -> None:
    torch.set_num_threads(1)
    model = Model.from_pretrained(model_folder(tmp_path / "m"))
    builds: list[Deadly] = []
    (tmp_path / "log").mkdir()

    def do(build: Build, items: Sequence[Any]) -> Iterator[Any]:
        builds.append(Deadly(build, tmp_path / "log", number=2, times=times))
        on_ray = engine_map("ray")
        assert on_ray is not None
        return on_ray(builds[0], items)

    if times == 99:
        with pytest.raises(UserError, match=r"unit 2 \(4 texts of .* each of 3 worker processes ended"):
            harvest(model, TEXTS, tmp_path / "r", PLAN, map=do)
        return
    found = harvest(model, TEXTS, tmp_path / "r", PLAN, map=do)
    alone = harvest(model, TEXTS, tmp_path / "alone", PLAN, map=serial)
    assert [found.store.commit(n).sha256 for n in range(5)] == [alone.store.commit(n).sha256 for n in range(5)]
    assert builds[0].tries() == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}, "only the unit that was under way is begun again"
    assert len(builds[0].finished()) >= 1
