"""A Run folder with planted numbers (planted_run.py) for every test of the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from planted_run import AUDIT, CARD, FACTS, RECIPE, VERDICT, rows, scores

from theodolite.core.run import Run


@pytest.fixture(scope="session")
def build() -> Callable[..., Run]:
    """A function that writes a planted, finished run into a folder, with any part replaced or left out."""

    def make(
        folder: Path,
        *,
        extra: list[dict[str, Any]] | None = None,
        only: list[dict[str, Any]] | None = None,
        recipe: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
        score: pd.DataFrame | None = None,
        **documents: Any,
    ) -> Run:
        run = Run.create(folder, RECIPE | (recipe or {}), "d1" * 32)
        run.add_rows([*(rows() if only is None else only), *(extra or [])])
        run.add_scores(scores() if score is None else score)
        for name, value in (FACTS | (facts or {})).items():
            run.record(name, value)
        for name, value in ({"verdict": VERDICT, "card": CARD, "audit": AUDIT} | documents).items():
            if value is not None:
                run.write_json(name, value)
        run.time("reading the model", 95.0, 2100.0)
        run.time("fitting", 610.0, 900.0)
        run.note("truncated", 17, "texts cut at 256 tokens")
        run.finish()
        return run

    return make


@pytest.fixture(scope="session")
def run(build: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole planted run; tests only read it."""
    return build(tmp_path_factory.mktemp("run"))
