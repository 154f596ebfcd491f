"""One call ahead: the same results in the same order, nothing made in vain, and errors where they belong."""

import threading

import pytest
import torch

from theodolite.dictionaries.training.prefetch import Ahead


class Counter:
    """Counts its calls and remembers which thread made them."""

    def __init__(self) -> None:
        self.calls, self.threads = 0, list[str]()

    def __call__(self) -> int:
        self.threads.append(threading.current_thread().name)
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("the third")
        return self.calls


def test_results_come_in_order_from_the_thread_if_begun_and_from_the_caller_if_not() -> None:
    make = Counter()
    ahead = Ahead(make)
    assert ahead.take() == 1
    ahead.begin()
    ahead.begin()
    assert ahead.take() == 2
    assert make.calls == 2
    assert make.threads == [threading.current_thread().name, "prefetch"]


@pytest.mark.parametrize("begun", [True, False])
def test_an_exception_is_raised_once_and_the_next_call_goes_on(begun: bool) -> None:
    ahead = Ahead(Counter())
    for _ in range(2):
        ahead.take()
    if begun:
        ahead.begin()
    with pytest.raises(RuntimeError, match="the third"):
        ahead.take()
    assert ahead.take() == 4


def test_close_waits_for_the_call_on_its_way() -> None:
    release, make = threading.Event(), Counter()
    ahead = Ahead(lambda: (release.wait(10), make())[1])
    ahead.begin()
    assert make.calls == 0
    release.set()
    ahead.close()
    assert make.calls == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
    ahead.close()


def test_the_thread_computes_with_the_callers_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        ahead = Ahead(torch.get_num_threads)
        ahead.begin()
        assert ahead.take() == 3
    finally:
        torch.set_num_threads(before)
