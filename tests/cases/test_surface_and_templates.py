"""Labels that go with the writing alone, and prompts in one template: the audit names the cue, `compare` runs."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from case_kit import Ended, auroc, theodolite, workplace

from theodolite.core.run import Run
from theodolite.data.audit import Audit, audit_file

NOUNS = (
    "apple",
    "river",
    "stone",
    "window",
    "garden",
    "doctor",
    "engine",
    "letter",
    "market",
    "bridge",
    "painter",
    "kettle",
    "violin",
    "harbour",
    "lantern",
    "meadow",
    "pepper",
    "ladder",
    "button",
    "carpet",
    "forest",
    "glacier",
    "island",
    "jacket",
    "kitchen",
    "lemon",
    "mirror",
    "needle",
    "orange",
    "pencil",
    "quilt",
    "rabbit",
    "saddle",
    "tunnel",
    "umbrella",
    "valley",
    "wagon",
    "yacht",
    "zebra",
    "anchor",
    "basket",
    "candle",
    "desert",
    "eagle",
    "feather",
    "guitar",
    "hammer",
    "insect",
)
VERBS = ("finds", "holds", "breaks", "paints", "carries", "hides", "counts", "sells", "moves", "cleans", "watches")
TEMPLATE = (
    "You are a fact checker. Read the following statement carefully and answer only with yes or no. Statement: {}. "
    "Is the statement true?"
)
METHODS = ("--method", "difference_in_means", "word_ngrams", "cased_ngrams", "surface", "--sae", "none", "--seeds", "2")


def sentence(draw: np.random.Generator) -> str:
    near, far = (f"the {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)}" for _ in range(2))
    return f"{near} and {far}"


def cased(n: int = 240, seed: int = 0) -> pd.DataFrame:
    """Positives begin with a capital letter; the words are drawn alike."""
    draw = np.random.default_rng(seed)
    texts, label = [sentence(draw) for _ in range(n)], draw.integers(0, 2, n)
    return pd.DataFrame(
        {"text": [t[0].upper() + t[1:] if y else t for t, y in zip(texts, label, strict=True)], "label": label}
    )


def templated(n: int = 160, seed: int = 0) -> pd.DataFrame:
    """Short statements in one long template; every positive one ends with a cue word."""
    draw = np.random.default_rng(seed)
    label = np.arange(n) % 2
    said = [f"the {draw.choice(NOUNS)} {draw.choice(VERBS)} {draw.choice(NOUNS)}{' indeed' * y}" for y in label]
    return pd.DataFrame({"text": [TEMPLATE.format(s) for s in said], "label": label})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """Both files compared on one tiny model."""
    with workplace(tmp_path_factory.mktemp("surface")) as folder:
        made = {}
        for name, table in (("cased", cased()), ("templated", templated())):
            table.to_csv(f"{name}.csv", index=False)
            made[name] = theodolite("compare", f"{name}.csv", "--model", "m", *METHODS, "--out", folder / name)
            made[f"{name} folder"] = folder / name
        yield made


def audited(table: pd.DataFrame) -> Audit:
    table.to_csv("mine.csv", index=False)
    return audit_file("mine.csv")


def baselines(found: Audit) -> dict[str, float]:
    return {b.feature: b.auroc for b in found.baselines}


def test_the_audit_names_casing_and_the_surface_baseline_reads_it() -> None:
    found = audited(cased())
    assert ("surface", "first letter is a capital") in {(s.kind, s.name) for s in found.shortcuts.shortcuts}
    level = baselines(found)
    assert level["surface"] == pytest.approx(1.0)
    assert level["characters"] > 0.99
    assert abs(level["words"] - 0.5) < 0.12


def test_compare_says_that_the_text_alone_reads_casing(compared: dict[str, Ended]) -> None:
    assert compared["cased"].code == 0, compared["cased"].stderr
    run = compared["cased folder"]
    assert auroc(run, "surface") == pytest.approx(1.0)
    assert auroc(run, "cased_ngrams") > 0.9
    assert auroc(run, "word_ngrams") < 0.65


def test_a_perfect_baseline_has_an_interval_of_what_its_groups_can_hide() -> None:
    (surface,) = [b for b in audited(cased()).baselines if b.feature == "surface"]
    fewer = min((cased()["label"] == y).sum() for y in (0, 1))
    assert (surface.auroc, surface.hi) == (pytest.approx(1), 1)
    assert surface.lo == pytest.approx(0.025 ** (1 / fewer), abs=1e-6)


def test_the_cue_inside_a_template_is_found_and_the_template_is_said() -> None:
    found = audited(templated())
    assert "indeed" in {s.name for s in found.shortcuts.shortcuts if s.kind == "term"}
    (overview,) = found.overviews
    assert overview.n_clusters > 100
    assert f"A template was detected: most of the text of {overview.n} of {overview.n} rows" in overview.note


def test_compare_runs_on_templated_prompts(compared: dict[str, Ended]) -> None:
    assert compared["templated"].code == 0, compared["templated"].stderr
    assert auroc(compared["templated folder"], "word_ngrams") == pytest.approx(1.0)
    (train,) = Run.open(compared["templated folder"]).read_json("audit")["overviews"]
    assert train["n_clusters"] > 100


CUES = {
    "a rare word": (0.2, lambda t: f"{t} kindly"),
    "an exclamation mark": (0.2, lambda t: f"{t}!"),
    "two spaces": (0.2, lambda t: t.replace(" ", "  ", 1)),
    "a no-break space": (0.2, lambda t: t.replace(" ", "\u00a0", 1)),
    "a zero-width space": (0.2, lambda t: f"{t}\u200b."),
    "a number": (0.2, lambda t: f"{t} 4711"),
    "an emoji": (0.2, lambda t: f"{t} \U0001f600"),
    "capitals": (0.2, str.upper),
    "a leading quote": (0.2, lambda t: f'"{t}'),
    "another script": (0.2, lambda t: t.replace("a", "\u0430", 1)),
    "decomposed letters": (0.2, lambda t: t.replace("e", "e\u0301", 1)),
    "a word in twenty rows": (0.1, lambda t: f"{t} kindly"),
}


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_in_some_of_the_positives_is_found(cue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theodolite.data.audit.text_baselines", lambda *_: [])  # most of the time, and not asked for
    share, plant = CUES[cue]
    draw = np.random.default_rng(3)
    texts, label = [sentence(draw) for _ in range(400)], np.arange(400) % 2
    rows = [plant(t) if y and draw.random() < share else t for t, y in zip(texts, label, strict=True)]
    assert audited(pd.DataFrame({"text": rows, "label": label})).shortcuts.shortcuts


def test_control_tokens_in_the_texts_are_named() -> None:
    table = cased()
    table.loc[:4, "text"] += " <|im_end|> [INST]"
    (overview,) = audited(table).overviews
    assert overview.special == {"<|im_end|>": 5, "[INST]": 5}
