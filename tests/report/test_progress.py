"""Progress counts what is left, throttles a log, and never calls a failed stage complete."""

import io
import re

import pytest
from rich.console import Console

from theodolite.report.progress import Lines, StageProgress, progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def log() -> Console:
    return Console(file=io.StringIO(), width=80)


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_time_left_is_the_mean_of_the_units_so_far(clock: Clock) -> None:
    stage = StageProgress("fitting", clock)
    assert stage.left is None
    clock.now += 10
    stage.tick(0, 40)
    assert stage.left is None
    clock.now += 30
    stage.tick(10, 40)
    assert stage.left == 90  # 10 units took the 30 s since counting began, 30 units are left
    assert stage.words() == "10/40, 40.0 s, about 1 min 30 s left"


def test_units_done_in_an_earlier_run_took_no_time(clock: Clock) -> None:
    stage = StageProgress("fitting", clock)
    stage.tick(30, 40)
    assert stage.left is None
    clock.now += 20
    stage.tick(35, 40)
    assert stage.left == 20


def test_the_time_left_runs_down_between_reports_and_is_unknown_once_the_next_is_late(clock: Clock) -> None:
    stage = StageProgress("fitting", clock)
    stage.tick(0, 10)
    for done in (1, 2):
        clock.now += 10
        stage.tick(done, 10)
    assert stage.left == 80
    clock.now += 5
    assert stage.left == 75, "neither the number of five seconds ago nor one that grows while nothing happens"
    clock.now += 30
    assert stage.left is None
    assert stage.words() == "2/10, 55.0 s, no unit finished for 35.0 s"
    stage.tick(3, 10)
    assert stage.left == pytest.approx(55 / 3 * 7)


def test_a_step_that_never_finished_a_unit_says_so(clock: Clock) -> None:
    stage = StageProgress("fitting", clock)
    stage.tick(0, 10)
    clock.now += 40
    assert stage.words() == "0/10, 40.0 s, no unit finished for 40.0 s"


def test_steps_of_a_stage_are_named_and_counted_on_their_own(clock: Clock) -> None:
    console = log()
    with progress(console, clock) as show:
        show("model and data", 0, 0)
        show("model and data: loading the model", 0, 0)
        clock.now += 16
        show("model and data: texts compared", 200, 800)
        clock.now += 16
        show("model and data: texts compared", 400, 800)
        show("model and data", 1, 1)
    assert written(console) == [
        "model and data ... texts compared 200/800, 16.0 s",
        "model and data ... texts compared 400/800, 32.0 s, about 32.0 s left",
        "model and data: 32.0 s",
    ]


def test_a_log_hears_of_a_stage_that_reports_nothing(clock: Clock) -> None:
    console = log()
    lines = Lines(console, clock)
    lines("fitting", 3, 9)
    clock.now += 20
    lines.beat()
    clock.now += 5
    lines.beat()
    assert written(console) == ["fitting ... 3/9, 20.0 s, no unit finished for 20.0 s"]


def test_a_new_count_forgets_the_speed_of_the_old_one(clock: Clock) -> None:
    stage = StageProgress("reading", clock)
    clock.now += 100
    stage.tick(5, 5)
    stage.tick(0, 50)
    clock.now += 10
    stage.tick(25, 50)
    assert stage.left == 10
    assert stage.seconds == 110


def test_a_log_gets_a_line_per_stage_and_one_in_fifteen_seconds(clock: Clock) -> None:
    console = log()
    with progress(console, clock) as show:
        show("reading", 0, 0)
        for done in range(1, 21):
            clock.now += 1
            show("reading", done, 20)
        show("reading", 1, 1)
        show("fitting [logistic]", 0, 0)
        clock.now += 2.5
        show("fitting [logistic]", 1, 1)
    assert written(console) == [
        "reading ... 15/20, 15.0 s, about 5.0 s left",
        "reading: 20.0 s",
        "fitting [logistic]: 2.5 s",
    ]


def test_a_failed_stage_is_not_called_complete(clock: Clock) -> None:
    def stopped(console: Console) -> None:
        with progress(console, clock) as show:
            show("reading", 0, 0)
            show("fitting", 1, 9)
            raise KeyboardInterrupt

    for console in (log(), Console(file=io.StringIO(), width=80, force_terminal=True)):
        with pytest.raises(KeyboardInterrupt):
            stopped(console)
        text = "\n".join(written(console))
        assert "reading" in text
        assert "fitting: " not in text
        assert "1/9" in text or not console.is_terminal


def test_a_terminal_keeps_one_line_per_stage_with_its_time(clock: Clock) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with progress(console, clock) as show:
        show("reading", 0, 0)
        clock.now += 63
        show("reading", 1, 1)
        show("fitting", 0, 0)
        clock.now += 4
    lines = [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\u2501", "", line).split() for line in written(console)]
    assert ["reading", "1", "min", "3", "s"] in [line[-5:] for line in lines]
    assert ["fitting", "4.0", "s"] in lines
