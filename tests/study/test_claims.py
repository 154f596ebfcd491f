"""Claims are answered from Run folders: each of the eight words is right, and what is no Run is skipped and counted."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import theodolite
from theodolite.cli import app
from theodolite.cli_compare import parameters
from theodolite.core import claim_file
from theodolite.core.claim_file import (
    FALSE,
    NOT_RUN,
    POOLING,
    POWER,
    QUANTISATION,
    REGIME,
    TRUE,
    UNDECIDED,
    WORDS,
    Claim,
    Statement,
)
from theodolite.core.errors import UserError
from theodolite.core.recipe import names as recipe_names
from theodolite.core.run import Run
from theodolite.study import claims as study_claims
from theodolite.study.analysis import Analyses
from theodolite.study.compare_request import CompareRequest
from theodolite.study.kinds import kind_of, resolved

NAME = "sae-probe-loses-under-jailbreaks"
DIGEST = claim_file.load(NAME).digest or ""
RECIPE: dict[str, Any] = {"name": "harmful-intent", "model": "tiny", "files": {}, "seeds": 5}
MODEL = {"name": "tiny", "parameters": 2_000_000, "n_blocks": 2, "d_model": 8, "quantisation": "", "dtype": "float32"}
LOSES, WINS, OPEN, WIDE = (-0.09, -0.05), (0.05, 0.09), (-0.035, 0.01), (-0.2, 0.1)
DATASETS = ("jailbreak-wrapped", "jailbreakbench")
Interval = tuple[float, float]


def row(dataset: str, interval: Interval, **more: Any) -> dict[str, Any]:
    lo, hi = interval
    place = {"task": "contrast", "metric": "auroc", "method": "k_sparse@latents", "versus": "logistic", "seed": "all"}
    numbers = {"value": (lo + hi) / 2, "lo": lo, "hi": hi, "n": 600, "n_groups": 300}
    return place | numbers | {"dataset": dataset, "pooling": "mean"} | more


def planted(folder: Path, *intervals: Interval, model: dict[str, Any] = MODEL, **more: Any) -> Path:
    """A finished Run of the claim's recipe, with a figure for each of its data sets, and those of another pooling."""
    run = Run.create(folder, RECIPE | more.pop("recipe", {}), more.pop("digest", DIGEST))
    run.record("model", model)
    run.add_rows(row(name, interval) for name, interval in zip(DATASETS, intervals, strict=True))
    if last := more.pop("last", ()):
        again = zip(DATASETS, last, strict=True)
        run.add_rows(row(name, interval, task="poolings", pooling="last") for name, interval in again)
    run.finish()
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def word(*runs: Path) -> str:
    (found,) = theodolite.claims(NAME, list(runs)).verdicts
    return found.word


Q4 = MODEL | {"quantisation": "Q4_1", "name": "tiny-q4"}
OTHER = {"model": Q4, "digest": "e" * 64, "recipe": {"model": "tiny-q4", "files": {"model tiny-q4": "f" * 64}}}
WORLDS: list[tuple[str, tuple[Interval, ...], dict[str, Any], tuple[Interval, ...]]] = [
    (TRUE, (LOSES, LOSES), {}, ()),
    (FALSE, (WINS, WINS), {}, ()),
    (UNDECIDED, (LOSES, OPEN), {}, ()),
    (POWER, (LOSES, WIDE), {}, ()),
    (REGIME, (LOSES, WINS), {}, ()),
    (POOLING, (LOSES, LOSES), {"last": (LOSES, WINS)}, ()),
    (QUANTISATION, (LOSES, LOSES), {}, (WINS, LOSES)),
    # what a doubt is not
    (TRUE, (LOSES, LOSES), {"last": (LOSES, OPEN)}, ()),
    (TRUE, (LOSES, LOSES), {}, (OPEN, LOSES)),
    (POOLING, (LOSES, LOSES), {"last": (WINS, LOSES)}, (WINS, LOSES)),
]


@pytest.mark.parametrize(("right", "intervals", "more", "other"), WORLDS)
def test_every_word_is_right_in_its_planted_world(
    tmp_path: Path, right: str, intervals: tuple[Interval, ...], more: dict[str, Any], other: tuple[Interval, ...]
) -> None:
    runs = [planted(tmp_path / "one", *intervals, **more)]
    if other:
        runs.append(planted(tmp_path / "two", *other, **OTHER))
    assert word(*runs) == right


def test_the_planted_worlds_are_of_every_word() -> None:
    assert {right for right, *_ in WORLDS} | {NOT_RUN} == set(WORDS)
    assert word() == NOT_RUN


@pytest.mark.parametrize(
    "other",
    [
        OTHER | {"model": MODEL},  # the same precision
        OTHER | {"model": Q4 | {"n_blocks": 3}},  # another model
        OTHER | {"recipe": {"model": "tiny-q4", "seeds": 6}},  # another recipe
    ],
)
def test_only_the_same_model_in_another_precision_speaks_of_quantisation(tmp_path: Path, other: dict[str, Any]) -> None:
    runs = planted(tmp_path / "one", LOSES, LOSES), planted(tmp_path / "two", WINS, WINS, **other)
    assert word(*runs) == TRUE


def test_a_run_of_another_recipe_answers_nothing(tmp_path: Path) -> None:
    assert word(planted(tmp_path / "one", LOSES, LOSES, digest="e" * 64)) == NOT_RUN


def test_runs_are_found_below_folders_and_in_runs(tmp_path: Path) -> None:
    planted(tmp_path / "elsewhere" / "deep" / "one", LOSES, LOSES)
    assert word() == NOT_RUN
    assert word(tmp_path / "elsewhere") == TRUE
    shutil.copytree(tmp_path / "elsewhere" / "deep", tmp_path / "runs")
    assert word() == TRUE


def test_of_two_runs_of_the_recipe_the_last_finished_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, (name, interval) in enumerate((("a", LOSES), ("c", WINS), ("b", LOSES))):
        monkeypatch.setattr("theodolite.core.run._now", lambda at=at: f"2026-01-0{at % 2 + 1}T00:00:0{at}+00:00")
        planted(tmp_path / "runs" / name, interval, interval)
    (found,) = theodolite.claims(NAME).verdicts
    assert found.word == FALSE
    assert found.run is not None
    assert found.run.folder.name == "c"


def spoilt(folder: Path, edit: Callable[[Path], object]) -> Path:
    edit(planted(folder, LOSES, LOSES))
    return folder


def foreign(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"name": "another program"}')


def of_another_protocol(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"protocol": 2}))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (foreign, "is damaged"),
        (of_another_protocol, "has protocol 2"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff{"), "is damaged"),
        (lambda folder: (folder / "rows.parquet").write_bytes(b"PAR1"), "is not the file this run wrote"),
        (lambda folder: (folder / "rows.parquet").unlink(), "is not the file this run wrote"),
    ],
)
def test_a_folder_that_is_no_whole_run_is_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Path], object], says: str
) -> None:
    spoilt(tmp_path / "runs" / "bad", edit)
    found = theodolite.claims(NAME)
    assert found.verdicts[0].word == NOT_RUN
    (skipped,) = found.skipped
    assert skipped["folder"] == str(Path("runs") / "bad")
    assert says in skipped["reason"]
    assert command("claims") == 0
    assert "1 Run folder skipped:" in capsys.readouterr().out


def test_an_unfinished_run_is_skipped(tmp_path: Path) -> None:
    Run.create(tmp_path / "runs" / "half", RECIPE, DIGEST)
    assert [s["reason"].startswith("it is not finished") for s in theodolite.claims(NAME).skipped] == [True]


def test_a_run_whose_rows_lack_a_column_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path / "runs" / "one", LOSES, LOSES)
    rows = Run.rows.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Run, "rows", property(lambda self: rows(self).drop(columns="versus")))
    found = theodolite.claims(NAME)
    assert (found.verdicts[0].word, [s["reason"] for s in found.skipped]) == (
        NOT_RUN,
        ["its rows have no column versus"],
    )


def test_a_folder_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match="no folder 'nowhere'"):
        theodolite.claims(runs="nowhere")


def command(*words: str) -> int:
    try:
        app([*words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_prints_verdict_figures_model_and_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(tmp_path / "runs" / "one", LOSES, WINS, model=Q4)
    assert command("claims", NAME) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (REGIME, "\N{MINUS SIGN}.070 [\N{MINUS SIGN}.090,", "n = 600", "tiny-q4 (2M, Q4_1)"):
        assert words in printed
    assert "theodolite compare harmful-intent" in printed
    assert "jailbreakbench: no" in printed
    assert command("claims") == 0
    printed = capsys.readouterr().out
    assert all(name[:30] in printed for name in claim_file.names())


def test_the_command_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted(tmp_path / "one", LOSES, WINS, last=(LOSES, LOSES))
    assert command("claims", "--json", "--runs", str(tmp_path / "one")) == 0
    found = json.loads(capsys.readouterr().out)
    by_name = {claim["name"]: claim for claim in found["claims"]}
    assert list(by_name) == [each.claim.name for each in theodolite.claims().verdicts]
    mine = by_name[NAME]
    assert (mine["word"], mine["digest"], mine["run"]["model"]["dtype"]) == (POOLING, DIGEST, "float32")
    assert mine["poolings"] == {"last": dict.fromkeys(DATASETS, "yes")}
    (test,) = mine["regimes"][1]["tests"]
    assert (test["value"], test["n"], test["answer"]) == (pytest.approx(0.07), 600, "no")
    assert by_name["clamping-works-both-ways"]["word"] == NOT_RUN
    assert str(tmp_path) not in json.dumps(found)


def test_no_model_is_read(tmp_path: Path) -> None:
    import subprocess
    import sys

    planted(tmp_path / "runs" / "one", LOSES, LOSES)
    code = (
        "import sys, theodolite; theodolite.claims().to_json(); print(*{'torch', 'transformers'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


def asked(claim: Claim) -> CompareRequest:
    """The request that a claim's command makes, as the command line parses it."""
    _, bound, _ = app.parse_args(shlex.split(claim.command)[1:], print_error=False, exit_on_error=False)
    return CompareRequest(**bound.arguments)


def recipe_of(claim: Claim) -> Any:
    """The recipe that the kind of a claim's command makes of it."""
    request = asked(claim)
    return resolved(Analyses()[kind_of(request.data)], request)


@pytest.mark.parametrize("name", [n for n in claim_file.names() if claim_file.load(n).recipe in recipe_names()])
def test_the_digest_of_a_claim_is_that_of_its_command(name: str) -> None:
    """A recipe that changes must not pass for the one that its claims were written about: look at their rules again."""
    claim = claim_file.load(name)
    assert recipe_of(claim).digest() == claim.digest, f"claims/{name}.yaml: its recipe has changed since"
    assert {each.name for each in parameters()} >= {"admit"}


@pytest.mark.parametrize("name", [n for n in claim_file.names() if claim_file.load(n).digest])
def test_a_claim_asks_only_for_what_its_command_runs(name: str) -> None:
    """Methods of the recipe, its data sets, and contrasts that are made; a sealed data set stays closed."""
    claim = claim_file.load(name)
    recipe = recipe_of(claim)
    asks = {"compare": of_readers, "steer": of_steering, "debate": of_debate}[recipe.kind]
    for statement in (s for regime in claim.rule.regimes.values() for s in regime):
        asks(recipe, statement)


def of_readers(recipe: Any, statement: Statement) -> None:
    from theodolite.comparison.tables import EXPLORATORY

    pairs = {(c.method, c.than) for c in [*recipe.contrasts, *EXPLORATORY]}
    pairs |= {("logistic@reconstruction", "logistic")}  # comparison/explained.py
    open_sets = {"in-distribution", *recipe.shifts} - {recipe.sealed}
    open_sets |= {f"leave-one-source-out:{source}" for source in recipe.leave_out}
    assert statement.dataset in open_sets
    assert statement.method in recipe.methods
    assert not statement.versus or (statement.method, statement.versus) in pairs
    assert statement.task in study_tasks(recipe.admit)


def of_steering(recipe: Any, statement: Statement) -> None:
    pairs = {(c.method, c.than) for c in [*recipe.contrasts, *recipe.secondary]}
    assert (statement.dataset, statement.nats) == (recipe.concept, recipe.primary)
    assert statement.method in recipe.methods
    assert statement.task == ("steer-contrast" if statement.versus else "steer")
    assert not statement.versus or (statement.method, statement.versus) in pairs


def of_debate(recipe: Any, statement: Statement) -> None:
    assert statement.task == "debate"
    assert statement.metric in {"rank_correlation", "rank_correlation:methods"}
    assert statement.dataset in {pair.concept for pair in recipe.pairs}


def study_tasks(admit: list[float]) -> set[str]:
    return {"matched", "contrast"} | ({"select"} if admit else set())


def test_every_claim_is_judged_once() -> None:
    found = study_claims.claims()
    assert [each.word for each in found.verdicts] == [NOT_RUN] * len(claim_file.names())
    assert [each.claim.area for each in found.verdicts] == sorted((c.claim.area for c in found.verdicts), reverse=True)


@pytest.mark.parametrize(("usable", "word"), [(True, TRUE), (False, UNDECIDED)])
def test_a_measure_whose_classifier_decides_nothing_answers_no_claim(tmp_path: Path, usable: bool, word: str) -> None:
    """The page of such a Run gives no verdict on that measure, and a claim gets none from it either."""
    claim = claim_file.load("clamping-works-both-ways")
    run = Run.create(tmp_path / "run", {"name": "steer/sentiment", "model": "tiny"}, claim.digest or "")
    run.record("model", MODEL)
    (towards,), (away,) = claim.rule.regimes.values()
    for statement, interval in ((towards, (0.5, 0.9)), (away, (-0.9, -0.5))):
        about = statement.model_dump(include={"task", "metric", "dataset", "method", "split", "nats"})
        run.add_rows([row("sentiment", interval, versus="") | about])
    classifier = {"name": "sentence", "usable": usable}
    run.write_json("steering", {"primary": 0.1, "methods": {}, "classifiers": [classifier]})
    run.finish()
    (found,) = theodolite.claims(claim.name, [run.folder]).verdicts
    assert found.word == word
