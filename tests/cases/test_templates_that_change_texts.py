"""Chat templates that answer to what a text holds, or show it otherwise than it is: counted, or refused."""

import json
from pathlib import Path

import pytest
from case_kit import QUICK, Ended, model_folder, table, theodolite

START, END = "{% for m in messages %}<|im_start|>user\n", "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
TEXT = "{{ m['content'] }}"


def ended(tmp_path: Path, template: str, *more: str) -> Ended:
    table(120).to_csv("mine.csv", index=False)
    model = model_folder(tmp_path / "m", template=START + template + END)
    return theodolite("compare", "mine.csv", "--model", model, *QUICK, "--out", "run", *more)


@pytest.mark.parametrize("spread", ["{{ m['content'] }}", "{{ m['content'] | trim }}"])
def test_a_template_that_leaves_texts_as_they_are_is_not_mentioned(tmp_path: Path, spread: str) -> None:
    found = ended(tmp_path, spread)
    assert found.code == 0, found.stderr
    notes = json.loads(Path("run/manifest.json").read_text(encoding="utf-8"))["notes"]
    assert "template" not in {note["kind"] for note in notes}


def test_texts_that_a_template_adds_to_are_counted(tmp_path: Path) -> None:
    template = TEXT + "{% if 'happy' in m['content'] %} joy{% endif %}"
    dry = ended(tmp_path, template, "--dry-run")
    assert "60 texts that the chat template changes" in dry.stdout
    found = ended(tmp_path, template)
    assert found.code == 0, found.stderr
    notes = json.loads(Path("run/manifest.json").read_text(encoding="utf-8"))["notes"]
    (note,) = [note for note in notes if note["kind"] == "template"]
    assert note["count"] == 60
    assert "the first is row mine:" in note["text"]
    assert "of train" in note["text"]
    assert not any(word in note["text"] for word in ("happy", "joy"))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (TEXT + "{% if ' ' in m['content'] %} joy{% endif %}", "changes 120 of 120 texts"),
        (TEXT + " " + TEXT, "shows the user's text more than once"),
        ("{{ m['content'] | upper }}", "changes letters of the user's text"),
        ("hello", "leaves out the user's text"),
    ],
)
def test_a_template_that_changes_most_texts_is_refused_and_raw_is_a_way_out(
    tmp_path: Path, template: str, words: str
) -> None:
    found = ended(tmp_path, template)
    assert found.code == 2
    assert words in " ".join(found.stderr.split())
    assert "raw" in found.stderr
    assert ended(tmp_path, template, "--format", "raw", "--dry-run").code == 0


def test_a_raw_run_of_a_model_whose_template_leaves_out_the_text_is_read_again(tmp_path: Path) -> None:
    found = ended(tmp_path, "hello", "--format", "raw")
    assert found.code == 0, found.stderr
    read = theodolite("read", "a stone bridge by the river", "--run", "run")
    assert read.code == 0, read.stderr


def test_a_run_of_raw_texts_is_read_though_no_chat_can_be_rendered(tmp_path: Path) -> None:
    compared = ended(tmp_path, "{{ raise_exception('no chat') }}", "--format", "raw")
    assert compared.code == 0, compared.stderr
    read = theodolite("read", "happy", "--run", "run")
    assert read.code == 0, read.stderr
