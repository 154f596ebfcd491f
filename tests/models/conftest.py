"""What tests of models share."""

from collections.abc import Callable
from typing import Any

import pytest

Spy = Callable[[Any, Callable[[tuple], Any]], None]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Call a function with the arguments of each pass of one module, without a hook: foreign hooks are refused."""

    def watch(module: Any, note: Callable[[tuple], Any]) -> None:
        kind = type(module)
        forward = kind.forward

        def watched(self: Any, *args: Any, **options: Any) -> Any:
            if self is module:
                note(args)
            return forward(self, *args, **options)

        monkeypatch.setattr(kind, "forward", watched)

    return watch
