"""Which reader of a Run scores a text where none is named."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from theodolite.study.saved_readers import _preferred

SAVED = {label: Path(label) for label in ("length", "logistic", "word_ngrams")}
CONTRAST = [{"method": "k_sparse@latents", "than": "word_ngrams"}]


@pytest.mark.parametrize(
    ("contrasts", "baselines", "wanted"),
    [
        ([], {"chosen": {"": "logistic"}}, "logistic"),  # not length, which comes first in the folder
        (CONTRAST, {"chosen": {"": "logistic"}}, "word_ngrams"),
        ([], {"chosen": {}}, "length"),
        ([], None, "length"),
    ],
)
def test_without_a_name_a_reader_of_the_model_scores(contrasts: Any, baselines: Any, wanted: str) -> None:
    run: Any = SimpleNamespace(recipe={"contrasts": contrasts}, read_json={"baselines": baselines}.get)
    assert _preferred(run, SAVED) == wanted
