"""The command line parses to the library's arguments."""

import pytest

from theodolite.cli import app


@pytest.mark.parametrize("flag", ["--admit", "--selective"])
def test_selective_prediction_has_two_names_on_the_command_line(flag: str) -> None:
    command, bound, _ = app.parse_args(["compare", "truth", flag], exit_on_error=False, print_error=False)
    assert command.__name__ == "compare"
    assert bound.arguments["admit"] is True
