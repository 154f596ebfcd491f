"""The end of a command: its exit code, one clear line per error, and silence where the output was closed."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.visible import visible

CLOSED_PIPE = 141  # 128 + SIGPIPE, as of every tool whose reader (`| head`) has closed


def ended(command: Callable[[list[str]], object], words: list[str]) -> None:
    """Run a command line; errors become one line and an exit code, with `--debug` among the words a traceback."""
    arguments = [word for word in words if word != "--debug"]
    debug = len(arguments) < len(words)
    if not debug:
        warnings.formatwarning = _one_line
    try:
        try:
            command(arguments)
        finally:
            sys.stdout.flush()  # now, where a closed pipe can still be answered
    except KeyboardInterrupt:
        _stop("stopped; nothing finished is lost: the same command continues", 130, debug)
    except UserError as error:
        _stop(str(error), 2, debug)
    except BrokenPipeError:
        _hush()
        sys.exit(CLOSED_PIPE)
    except OSError as error:
        _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 2, debug)
    except Exception as error:
        _stop(f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", 1, debug)


_WITH_PLACE = warnings.formatwarning


def _one_line(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
    """Our own warnings without the place in our code; others as Python shows them."""
    if category is UserWarning:
        return f"theodolite: {visible(str(message))}\n"
    return _WITH_PLACE(message, category, *where, **line)


def _stop(message: str, code: int, debug: bool) -> None:
    if debug:
        raise
    try:
        print(f"theodolite: {visible(message)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _hush()
    sys.exit(code)


def _hush() -> None:
    """Let what is still in the buffers of closed pipes go nowhere, or the interpreter complains about it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
