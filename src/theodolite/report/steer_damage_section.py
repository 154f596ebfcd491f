"""The section on what a push costs: where it acts, how it changes unrelated text, and how the text it writes reads."""

from collections.abc import Callable

import pandas as pd

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Line, Section, Table, Value, number
from theodolite.report.numbers import count, share, signed, span
from theodolite.report.steer_words import at_first, phrase

ACTING = {
    "kl_acting": "KL where it acts",
    "firing_share": "Latents fire",
    "kl_on_policy": "KL on its own text",
    "direct_share": "Direct to unembedding",
}
UNRELATED = {"ce": "Loss", "top1": "Top-1 hits", "cloze": "Loss of cloze words"}
WRITTEN = {"fluency": "Loss of its text", "distinct2": "Distinct pairs", "loops": "Loops"}
UNSTEERED = "unsteered"
MINUS = "\N{MINUS SIGN}"
Write = Callable[[float], str]


def damage_section(run: Run) -> Section:
    """Return the section: two tables, at the primary disturbance."""
    return Section("Where it acts, and what it damages", [acting(run), damage(run)])


def acting(run: Run) -> Table:
    """Return where each method acts, and how much of its effect is the unembedding of what it adds."""
    found = _at_primary(run, "steer")
    head = (Value("Method"), *(number(words, f"+ / {MINUS}") for words in ACTING.values()))
    lines = [
        Line((Value(phrase(str(method))), *(_both_signs(mine, metric) for metric in ACTING)))
        for method, mine in found.groupby("method", sort=False)
    ]
    caption = (
        "KL where it acts: mean over the tokens whose state the edit changes, in nats. Latents fire: share of tokens "
        "at which a latent that is set fires by itself. KL on its own text: of what the steered model writes, in nats "
        "a token. Direct to unembedding: share of the effect on targets that passes no later block."
    )
    return Table(caption, head, tuple(lines))


def damage(run: Run) -> Table:
    """Return how unrelated text and written text change, by method and sign; the unchanged model's text first."""
    found = _at_primary(run, "steer-damage")
    rows = run.rows
    plain = rows[(rows["task"] == "steer-damage") & (rows["method"] == UNSTEERED)]
    metrics = UNRELATED | WRITTEN
    head = (
        Value("Method"),
        Value("Sign"),
        *(number(words) for words in metrics.values()),
        number("n", "texts written"),
    )
    lines = []
    if len(plain):
        cells = [number("") if metric in UNRELATED else _cell(plain, metric, share) for metric in metrics]
        lines.append(Line((Value("no push"), Value(""), *cells, _n(plain))))
    for (method, split), mine in found.groupby(["method", "split"], sort=False):
        cells = [_cell(mine, metric, signed if metric in UNRELATED else share) for metric in metrics]
        lines.append(Line((Value(phrase(str(method))), Value(str(split)), *cells, _n(mine))))
    caption = (
        "Left, on unrelated text: change of the loss in nats a token, of the share of top-1 hits, and of the loss of "
        "a missing word in nats. Right, of the text written behind the openings: its loss under the unchanged model in "
        "nats a token, the share of its pairs of tokens that are new, and the share of texts that end in a loop; "
        "[95 % interval]."
    )
    return Table(caption, head, tuple(lines))


def _at_primary(run: Run, task: str) -> pd.DataFrame:
    facts, rows = facts_of(run, "steering", SteeringFacts), run.rows
    of_sign = rows["split"].isin(["+", "-"])
    found = rows[(rows["task"] == task) & (rows["nats"] == facts["primary"]) & of_sign & at_first(rows, facts)]
    names = {*ACTING, *UNRELATED, *WRITTEN}
    return found[found["metric"].isin(names)]


def _both_signs(rows: pd.DataFrame, metric: str) -> Value:
    values = rows[rows["metric"] == metric].set_index("split")["value"]
    return number(
        " / ".join(share(values[split]) if split in values else "none" for split in "+-") if len(values) else ""
    )


def _cell(rows: pd.DataFrame, metric: str, write: Write) -> Value:
    mine = rows[rows["metric"] == metric]
    if mine.empty:
        return number("")
    one = mine.iloc[0]
    return number(write(one["value"]), span(one["lo"], one["hi"]) if pd.notna(one["lo"]) else "")


def _n(rows: pd.DataFrame) -> Value:
    mine = rows[rows["metric"] == "fluency"]
    return number(count(int(mine.iloc[0]["n"])) if len(mine) else "")
