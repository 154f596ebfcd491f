"""Case 09 and its kind: a row that cannot be read or asked leaves, counted, and the run goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from case_kit import model_folder, table, theodolite

import theodolite as package
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.models.model import Model
from theodolite.models.prompting import NO, YES, answer_log_odds, prompts, unaskable
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

ONE_TOKEN = "z"  # raw and without a BOS, its only token is the attention sink, which is no content


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a model without a chat template, on a file and a shift with a row that has no content token."""
    home = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(home / "cache"))
        patch.chdir(home)
        for name, seed in (("mine.csv", 0), ("other.csv", 1)):
            frame = table(120, seed)
            frame.loc[57, "text"] = ONE_TOKEN
            frame.to_csv(name, index=False)
        model = model_folder(home / "m", "gpt2", template=None)
        methods = ["--method", "difference_in_means", "embedding", "word_ngrams", "--sae", "none", "--seeds", "2"]
        ended = theodolite(
            "compare", "mine.csv", "--shift", "other.csv", "--model", model, *methods, "--out", home / "run"
        )
    assert ended.code == 0, ended.stderr
    return home / "run"


def test_a_row_without_content_token_is_counted_and_the_run_goes_on(run: Path) -> None:
    overviews = Run.open(run).read_json("audit")["overviews"]
    lost = [{count["cause"]: count["n"] for count in overview["lost"]} for overview in overviews]
    assert lost[0] == {"no content token": 1}
    assert lost[1]["no content token"] == 1
    assert [o["n"] + sum(out.values()) for o, out in zip(overviews, lost, strict=True)] == [120, 120]
    assert "no content token" in (run / "report.html").read_text(encoding="utf-8")


def test_its_score_is_nan_in_the_output_and_the_other_rows_keep_theirs(run: Path) -> None:
    pd.DataFrame({"text": ["happy old mill", ONE_TOKEN, "sad"]}).to_csv("new.csv", index=False)
    read = ["read", "--in", "new.csv", "--run", run, "--out", "s.csv", "--method"]
    with pytest.warns(UserWarning, match="1 of 3 rows have no content token: their score is NaN"):
        assert theodolite(*read, "difference_in_means").code == 0
    got = pd.read_csv("s.csv")
    assert got[["score", "probability"]].isna().to_numpy().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    pd.DataFrame({"text": ["happy old mill", "sad"]}).to_csv("new.csv", index=False)
    assert theodolite(*read, "difference_in_means").code == 0
    assert np.allclose(pd.read_csv("s.csv")["score"], got["score"].dropna(), atol=1e-4)


def test_a_reader_of_the_text_alone_needs_no_token(run: Path) -> None:
    pd.DataFrame({"text": ["happy old mill", ONE_TOKEN]}).to_csv("new.csv", index=False)
    with pytest.warns(UserWarning, match="1 of 2 rows have a text without any n-gram that word_ngrams knows"):
        ended = theodolite("read", "--in", "new.csv", "--run", run, "--out", "s.csv", "--method", "word_ngrams")
    assert ended.code == 0
    assert not pd.read_csv("s.csv")["score"].isna().any()


@pytest.mark.parametrize("how", ["--in", "text"])
def test_with_nothing_to_read_the_error_says_so(run: Path, how: str) -> None:
    Path("new.csv").write_text(f"text\n{ONE_TOKEN}\n")
    ended = theodolite("read", *(["--in", "new.csv"] if how == "--in" else [ONE_TOKEN]), "--run", run)
    assert ended.code == 2
    assert "a token at which the run reads" in ended.stderr or "no token at which the run reads" in ended.stderr


def asked(run: Any) -> list[str]:
    return [note["text"] for note in Run.open(run).manifest["notes"] if note["kind"] == "absent"]


def answering(context: int = 512, unknown: bool = False, **known: Any) -> Model:
    """A tiny model whose tokenizer has Yes and No as one token each, or neither, or only an unknown token for both."""
    model, tokenizer = tiny_model(), byte_tokenizer()
    words = known.get("words", ["Yes", "No"])
    tokenizer.add_tokens(words)
    if unknown:
        tokenizer.unk_token = words[0]
    model.resize_token_embeddings(264, mean_resizing=False)
    model.config.max_position_embeddings = context
    return Model(model.eval(), tokenizer, name="tiny")  # a resized head is in training mode


def test_a_tokenizer_that_cannot_answer_leaves_prompting_out(run: Path) -> None:
    """And a model that can be asked is, with the question that the user gives: the same words in Python and CLI."""
    frame, methods = table(60), ["difference_in_means", "prompting(column=zero_shot)"]
    how: dict[str, Any] = {"methods": methods, "sae": "none", "seeds": 1, "question": "Is it happy?"}
    cannot = package.compare(frame, model=answering(words=["Yes"]), out="cannot", **how)
    assert asked("cannot") == [
        f"prompting(column=zero_shot): none of {list(NO)} is one token of this model, unlike the other answer's"
    ]
    assert not any(method.startswith("prompting") for method in cannot.rows["method"])
    can = package.compare(frame, model=answering(), out="can", **how)
    assert asked("can") == []
    assert any(method.startswith("prompting") for method in can.rows["method"])


def test_without_a_question_prompting_is_left_out_and_said(run: Path) -> None:
    plan = package.compare(table(60), model=answering(), sae="none", dry_run=True)
    assert not [m for m in plan.recipe.methods if m.startswith("prompting")]
    assert "prompting(column=zero_shot): there is no question to ask the model (--question gives one)" in plan.lines()
    given = package.compare(table(60), model=answering(), sae="none", question="Is it happy?", dry_run=True)
    assert "prompting(column=zero_shot)" in given.recipe.methods
    with pytest.raises(UserError, match="asks the model a question about each text: give it with --question"):
        package.compare(table(60), model=answering(), methods=["prompting"], sae="none", dry_run=True)


def test_answers_that_share_a_token_tell_nothing_apart() -> None:
    assert unaskable(answering(), "Is it?") == ""
    assert "is one token" in unaskable(answering(unknown=True), "Is it?")  # Yes is the unknown token
    assert "is one token" in unaskable(Model(tiny_model(), byte_tokenizer(), name="tiny"), "Is it?")


def test_a_text_is_cut_at_what_the_question_leaves_of_the_context() -> None:
    model, texts = answering(context=160), ["short", "stone bridge house " * 30]
    read = prompts(model, texts, "Is it?", max_tokens=256)
    assert read.truncated.tolist() == [False, True]
    assert read.lengths.max() <= 160
    assert np.isfinite(answer_log_odds(model, texts, "Is it?", yes=YES, no=NO)).all()
    assert "leave no token of the model's context of 160" in unaskable(model, "Is it?", [("an example " * 20, 1)])
    with pytest.raises(UserError, match="leaves nothing of the model's context"):
        prompts(model, texts, "Is it? " * 40)
