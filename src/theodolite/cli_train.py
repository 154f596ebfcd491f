"""The command line of `theodolite train`: every field of a `TrainRequest` as an option, under the same name."""

from typing import Any

from theodolite.cli_options import arguments, with_options
from theodolite.study.train_request import TrainRequest


def train(**given: Any) -> None:
    """Train dictionaries (by default a TopK and its frozen-encoder control) at each site in one pass; the same command
    resumes.
    """
    from theodolite.dictionaries.training.tracking import told
    from theodolite.report import terminal
    from theodolite.study import training

    asked = {name: value for name, value in given.items() if value is not None}
    if "controls" in asked:
        asked["controls"] = [control for control in asked["controls"] if control != "none"]
    request = TrainRequest(**asked)
    with terminal.progress() as progress:
        lines = training.train(request, progress=progress, watch=lambda line: progress.say(told(line)))
    terminal.say(lines)


command = with_options(train, arguments(TrainRequest, {}, extra={}, shown=str | int))
