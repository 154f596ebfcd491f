"""The card of a dictionary: how well it does where, as data and as a page generated from that data."""

from collections.abc import Iterable
from typing import Any

import torch

from theodolite.core import run
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.metrics import CrossEntropy, ce_recovered, quality
from theodolite.dictionaries.stream import LAST, PROMPT, TEXT, Rows

DOMAINS = {run.DOMAINS["documents"]: TEXT, run.DOMAINS["content"]: PROMPT, run.DOMAINS["last"]: LAST}
# where the cross-entropy and the plateau are judged, and the format of texts there
FORMATS = {run.DOMAINS["documents"]: "raw", run.DOMAINS["content"]: "chat"}
STILL_FALLING = 0.05


def measure(dictionary: Dictionary, rows: Rows, site: str, ce: CrossEntropy) -> dict[str, Any]:
    """FVU with interval and L0 for each domain that has rows, and the cross-entropy recovered."""
    measured = {}
    for name, domain in DOMAINS.items():
        chosen = (rows.domain == domain).nonzero().squeeze(1)
        if len(chosen) > 1:
            part = rows.take(chosen)
            measured[name] = quality(dictionary, part.at[site], part.document)
    return {"domains": measured, "cross_entropy": ce_recovered(ce, dictionary)}


def judged_on(formats: Iterable[str]) -> str:
    """The domain that cross-entropy and plateau speak of: running text, or prompts where a corpus has nothing else.

    >>> judged_on(["chat", "raw"]), judged_on(["chat"])
    ('held-out documents', 'prompt content')
    """
    there = set(formats)
    return next(domain for domain, format in FORMATS.items() if format in there)


def still_falling(curve: list[dict[str, float]], domain: str) -> float | None:
    """By what share FVU fell over the last doubling of tokens at a constant learning rate; None on a short curve.

    >>> still_falling([{"tokens": 1, "d": .5}, {"tokens": 2, "d": .4}, {"tokens": 4, "d": .38}], "d")
    0.05
    """
    points = [(p["tokens"], p[domain]) for p in curve if domain in p]
    half = [fvu for tokens, fvu in points if tokens <= points[-1][0] / 2] if points else []
    return round(1 - points[-1][1] / half[-1], 6) if half else None


def markdown(info: dict[str, Any]) -> str:
    """The card as a page. Every figure comes from `info`, the dictionary's own record."""
    card = info["card"]
    kind = "frozen-encoder twin" if info["frozen_encoder"] else "TopK dictionary"
    paragraphs = [
        f"# {kind} at {info['site']} of {info['model']}",
        _origin(info),
        _quality_table(card["domains"]),
        _latents_and_loss(card),
        _verdict(card),
        _curve_table(card["curve"]),
        _rows_used(info),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _origin(info: dict[str, Any]) -> str:
    t = info["training"]
    shares = ", ".join(f"{part} {share:.0%}" for part, share in t["row_shares"].items())
    passes = ", ".join(f"{part} read {n:.2f} times" for part, n in t["passes"].items())
    return (
        f"{info['width']} latents, k = {info['k']}, seed {info['seed']}, trained on {t['tokens']:,} tokens of corpus "
        f"`{t['corpus']}` ({shares} of rows; {passes})."
    )


def _quality_table(domains: dict[str, Any]) -> str:
    lines = ["| rows | FVU [95 % over documents] | L0 | rows | documents |", "|---|---|---|---|---|"]
    for name, q in domains.items():
        fvu = "{value:.3f} [{lo:.3f}, {hi:.3f}]".format(**q["fvu"]) if q["fvu"] else "undefined: all rows are equal"
        lines.append(f"| {name} | {fvu} | {q['l0']:.1f} | {q['n']:,} | {q['n_groups']:,} |")
    return "\n".join(lines)


def _latents_and_loss(card: dict[str, Any]) -> str:
    dead, ce = card["dead"], card["cross_entropy"]
    return (
        f"Dead latents: {dead['share']:.1%} did not fire in the last {dead['over_rows']:,} training rows. "
        f"Cross-entropy recovered on {_judged(card)}: {ce['recovered']:.3f} (nats per token: untouched "
        f"{ce['untouched']:.3f}, reconstructed {ce['reconstructed']:.3f}, content rows set to zero {ce['zeroed']:.3f})."
    )


def _judged(card: dict[str, Any]) -> str:
    """Cards of version 0.1 do not say; all of them were of running text."""
    return str(card.get("judged_on", next(iter(FORMATS))))


def _verdict(card: dict[str, Any]) -> str:
    fell = card["fell_over_last_doubling"]
    if fell is None:
        return "The run was too short to say whether more tokens would help."
    state = "Undertrained" if card["undertrained"] else "Trained to a plateau"
    return (
        f"{state}: over the last doubling of tokens at a constant learning rate, FVU on {_judged(card)} fell by "
        f"{fell:.1%} (limit {STILL_FALLING:.0%})."
    )


def _curve_table(curve: list[dict[str, float]]) -> str:
    lines = ["| training tokens | " + " | ".join(DOMAINS) + " |", "|---|" + "---|" * len(DOMAINS)]
    for point in curve:
        values = " | ".join(f"{point[domain]:.3f}" if domain in point else "" for domain in DOMAINS)
        lines.append(f"| {point['tokens']:,} | {values} |")
    return "\n".join(lines)


def _rows_used(info: dict[str, Any]) -> str:
    return (
        "Trained and measured on content and template tokens, and the last token of a prompt. Left out: special "
        "tokens, the constant template prefix, a raw text's first token, and rows with a norm above 10 times the "
        f"median ({info['training']['outliers']:,} in training). FVU is error energy over the variance about the mean "
        f"of the same rows. Inputs were scaled by {info['scale']:.3g}; the factor is folded into the weights."
    )


def dead_latents(unused_for: torch.Tensor, trained_rows: int) -> dict[str, Any]:
    """Share of latents that did not fire in the last million training rows, or in all if there were fewer."""
    over = min(trained_rows, 1_000_000)
    return {"share": float((unused_for >= over).double().mean()), "over_rows": over}
