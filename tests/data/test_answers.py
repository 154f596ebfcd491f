import numpy as np
import pandas as pd
import pytest

from theodolite.core.errors import UserError
from theodolite.core.recipe import Choices
from theodolite.data.answers import ask, options_of

FRAME = pd.DataFrame(
    {
        "text": ["Where is fog?", "What barks?", "What is lost?"],
        "story": ["S1", "S2", "S3"],
        "options": ["A. a marsh\nB. a desert", "\nA. a dog\nB. a cat\nC. a fish", "A. this\nB. that"],
        "answer": ["A. a marsh", "C. a fish", "B. gone"],
    }
)
WITH_STORY = Choices(context="story", prompt="{context} {text}\nA:")


def test_the_label_is_whether_the_model_picks_the_right_option() -> None:
    asked: list[tuple[list[str], list[list[str]]]] = []

    def first(prompts: list[str], options: list[list[str]]) -> np.ndarray:
        asked.append((prompts, options))
        return np.zeros(len(prompts), dtype=int)

    frame = ask(FRAME, WITH_STORY, first, "toy")
    assert asked[0][0][0] == "S1 Where is fog?\nA:" == frame["text"][0]
    assert asked[0][1][1] == ["a dog", "a cat", "a fish"]
    assert frame["label"].tolist()[:2] == [1.0, 0.0]
    assert np.isnan(frame["label"][2])  # its right answer is not among the options: cleaning counts it


def test_options_may_hold_letters_and_full_stops() -> None:
    assert options_of("A. about 5. A lot\nB. U.S. law") == ["about 5. A lot", "U.S. law"]


def test_without_a_model_there_is_no_label() -> None:
    with pytest.raises(UserError, match="need a model"):
        ask(FRAME, Choices(), None, "toy")


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="no column 'right'"):
        ask(FRAME, Choices(answer="right"), lambda p, o: np.zeros(len(p)), "toy")


def test_braces_that_name_nothing_are_one_clear_error() -> None:
    for prompt in ("{question}", "{}", "{text", "{text.nothing}"):
        with pytest.raises(UserError, match=r"the prompt of 'toy' can hold \{text\} and \{context\}"):
            ask(FRAME, Choices(prompt=prompt), lambda p, o: np.zeros(len(p)), "toy")
    frame = ask(FRAME, Choices(prompt="{{{text}}}"), lambda p, o: np.zeros(len(p)), "toy")
    assert frame["text"][0] == "{Where is fog?}"


def test_a_right_answer_without_its_letter_keeps_its_initials() -> None:
    frame = pd.DataFrame(
        {
            "text": ["Who wrote it?"] * 4,
            "options": ["A. J. K. Rowling\nB. J. R. R. Tolkien"] * 4,
            "answer": ["J. K. Rowling", "A. J. K. Rowling", "J. R. R. Tolkien", None],
        }
    )
    label = ask(frame, Choices(), lambda p, o: np.zeros(len(p), int), "toy")["label"]
    assert label.tolist()[:3] == [1.0, 1.0, 0.0]
    assert np.isnan(label[3])
