"""The card of a dictionary: how well it does where, as data and as a page generated from that data."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theodolite.core import run
from theodolite.core.language_model import Format
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.metrics import CrossEntropy, ce_recovered, quality
from theodolite.dictionaries.training.learner import frozen_part
from theodolite.dictionaries.training.stream import LAST, PROMPT, TEXT, Rows

DOMAINS = {run.DOMAINS["documents"]: TEXT, run.DOMAINS["content"]: PROMPT, run.DOMAINS["last"]: LAST}
# where the cross-entropy and the plateau are measured, and the format of texts there
FORMATS: dict[str, Format] = {run.DOMAINS["documents"]: "raw", run.DOMAINS["content"]: "chat"}
STILL_FALLING = 0.05
OFF_TARGET = 0.1  # held-out rows differ a little from those the L0 was steered on


def measure(
    dictionary: Dictionary,
    rows: Rows,
    inputs: Callable[[dict[str, Tensor]], tuple[Tensor, ...]],
    ce: CrossEntropy | None,
) -> dict[str, Any]:
    """FVU with interval and L0 for each domain that has rows, and the cross-entropy recovered where it is measured.

    inputs: what the dictionary is given of rows by site: its rows, or its rows and those it should predict.
    """
    measured = {}
    for name, domain in DOMAINS.items():
        chosen = (rows.domain == domain).nonzero().squeeze(1)
        if len(chosen) > 1:
            part = rows.take(chosen)
            x_nd, *target = inputs(part.at)
            measured[name] = quality(dictionary, x_nd, part.document, *target)
    return {"domains": measured, "cross_entropy": None if ce is None else ce_recovered(ce, dictionary)}


def main_domain(formats: Iterable[str]) -> str:
    """Domain on which cross-entropy and plateau are measured: running text, or prompts where a corpus has nothing else.

    >>> main_domain(["chat", "raw"]), main_domain(["chat"])
    ('held-out documents', 'prompt content')
    """
    there = set(formats)
    return next(domain for domain, format in FORMATS.items() if format in there)


def still_falling(curve: list[dict[str, float]], domain: str, decay_begins: float) -> float | None:
    """Share by which FVU fell over the last doubling of tokens before the learning rate decayed; None on a short curve.

    FVU at half the tokens is read off the line between its neighbours, axes in logs: points lie where blocks ended.
    Only the last points that share an L0 count: FVU rises while an L0 is steered down.

    >>> curve = [{"tokens": 2, "d": 0.4}, {"tokens": 8, "d": 0.1}, {"tokens": 9, "d": 0.01}]
    >>> still_falling(curve, "d", decay_begins=8.5), still_falling(curve, "d", decay_begins=3)
    (0.5, None)
    >>> still_falling([{"l0": 90, **curve[0]}, {"l0": 32, **curve[1]}], "d", decay_begins=8.5)
    """
    before = [p for p in curve if p.get(domain, 0) > 0 and p["tokens"] <= decay_begins]
    points = [(p["tokens"], p[domain]) for p in _of_one_l0(before)]
    if not points or points[0][0] > points[-1][0] / 2:
        return None
    tokens, fvu = np.log(np.array(points).T)
    return round(float(1 - np.exp(fvu[-1] - np.interp(tokens[-1] - np.log(2), tokens, fvu))), 6)


def _of_one_l0(curve: list[dict[str, float]]) -> list[dict[str, float]]:
    """The last points whose L0 is that of the very last, within a tenth; a run begun before L0 was kept has none."""
    level = curve[-1].get("l0") if curve else None
    near = [not level or abs(p.get("l0", level) / level - 1) <= OFF_TARGET for p in curve]
    return curve[len(near) - near[::-1].index(False) :] if False in near else curve


def undertrained(card: dict[str, Any], target_l0: float | None) -> bool | None:
    """Return whether FVU still falls, or L0 has not reached its target; None on a short curve."""
    if _off_target(card, target_l0):
        return True
    fell = card["fell_over_last_doubling"]
    return None if fell is None else bool(fell > STILL_FALLING)


def _off_target(card: dict[str, Any], target_l0: float | None) -> bool:
    main = card["domains"].get(_domain(card))
    return bool(target_l0 and main and abs(main["l0"] / target_l0 - 1) > OFF_TARGET)


def summary(infos: Mapping[str, dict[str, Any]]) -> list[str]:
    """Dictionaries beside each other, by their names: what their cards say of their main rows."""
    width = max(len(name) for name in infos)
    (first, *_) = infos.values()
    main = first["card"]["domains"].get(_domain(first["card"]))
    n = f" ({main['n']:,} rows of {main['n_groups']:,} texts)" if main else ""
    head = f"{'':{width}s}  {'FVU [95 %]':>20s} {'L0':>6s} {'dead':>6s}  {'CE recovered [95 %]':>20s}"
    return [
        f"On {_domain(first['card'])}{n}. FVU: share of the variance missed; L0: latents active per row; CE recovered: "
        "of the model's cross-entropy, 1 as if untouched, 0 as with the site set to zero.",
        head,
        *(f"{name:{width}s}  {_beside(info)}".rstrip() for name, info in infos.items()),
    ]


def _beside(info: dict[str, Any]) -> str:
    card = info["card"]
    main, ce = card["domains"].get(_domain(card)), card["cross_entropy"]
    fvu = "{value:.3f} [{lo:.3f}, {hi:.3f}]".format(**main["fvu"]) if main and main["fvu"] else ""
    l0 = f"{main['l0']:.1f}" if main else ""
    recovered = f"{ce['recovered']:.3f}{_span(ce, 'recovered')}" if ce else ""
    late = {True: "  undertrained", None: "  too short a run to say whether more tokens help"}.get(
        card["undertrained"], ""
    )
    return f"{fvu:>20s} {l0:>6s} {card['dead']['share']:>6.1%}  {recovered:>20s}{late}"


def markdown(info: dict[str, Any]) -> str:
    """The card as a page. Every figure comes from `info`, the dictionary's own record."""
    card = info["card"]
    paragraphs = [
        f"# {_kind(info)} at {info['site']} of {info['model']}",
        _origin(info),
        *filter(None, [_options(info)]),
        _quality_table(card["domains"]),
        _latents_and_loss(card),
        _verdict(card, info.get("params", {}).get("target_l0")),
        _curve_table(card["curve"]),
        _rows_used(info, prompts=run.DOMAINS["content"] in card["domains"]),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _kind(info: dict[str, Any]) -> str:
    """Kind of a dictionary in words; those of version 0.1 name no variant, all of them are TopK.

    >>> _kind({"variant": "jumprelu", "frozen": "decoder", "frozen_encoder": False})
    'frozen-decoder control of a jumprelu dictionary'
    """
    variant = {"topk": "TopK"}.get(info.get("variant", "topk"), info.get("variant"))
    frozen = frozen_part(info)
    if not frozen:
        return f"{variant} dictionary"
    return f"frozen-{frozen} control".replace("frozen-soft_", "soft-frozen-") + f" of a {variant} dictionary"


def _options(info: dict[str, Any]) -> str:
    """Every option it was trained with, for whoever wants the same again."""
    options = ", ".join(f"{name}={value}" for name, value in info.get("params", {}).items())
    return f"Options of `{info['variant']}`: {options}." if options else ""


def _origin(info: dict[str, Any]) -> str:
    t = info["training"]
    shares = ", ".join(f"{part} {share:.0%}" for part, share in t["row_shares"].items())
    passes = ", ".join(f"{part} read {n:.2f} times" for part, n in t["passes"].items())
    k = "" if info["k"] is None else f" k = {info['k']},"
    return (
        f"{info['width']} latents,{k} seed {info['seed']}, trained on {t['tokens']:,} tokens of corpus "
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
    idle = f"Dead latents: {dead['share']:.1%} did not fire in the last {dead['over_rows']:,} training rows. "
    if ce is None:
        return idle + "Cross-entropy was not measured: there is no text to run the model on, or there are two sites."
    return idle + (
        f"Cross-entropy recovered on {_domain(card)}: {ce['recovered']:.3f}{_span(ce, 'recovered')} (nats per token: "
        f"untouched {ce['untouched']:.3f}, reconstructed {ce['reconstructed']:.3f}, content rows set to zero "
        f"{ce['zeroed']:.3f}{_lost(ce)})."
    )


def _span(ce: dict[str, Any], name: str) -> str:
    """Cards of version 0.1 have no intervals here."""
    return f" [{ce[name + '_lo']:.3f}, {ce[name + '_hi']:.3f}]" if "n" in ce else ""


def _lost(ce: dict[str, Any]) -> str:
    if "n" not in ce:
        return ""
    return f"; lost {ce['lost']:.3f}{_span(ce, 'lost')}; {ce['n']:,} tokens of {ce['n_groups']} texts"


def _domain(card: dict[str, Any]) -> str:
    """Domain of the card's main numbers; cards of version 0.1 name none, all of them were of running text."""
    return str(card.get("judged_on", next(iter(FORMATS))))


def _verdict(card: dict[str, Any], target_l0: float | None) -> str:
    if _off_target(card, target_l0):
        l0 = card["domains"][_domain(card)]["l0"]
        return (
            f"Undertrained: L0 on {_domain(card)} is {l0:.1f}, where {target_l0:g} was asked for. It is steered there "
            "while training, and this run had too few steps."
        )
    fell = card["fell_over_last_doubling"]
    if fell is None:
        return "The run was too short to say whether more tokens would help."
    state = "Undertrained" if card["undertrained"] else "Trained to a plateau"
    return (
        f"{state}: over the last doubling of tokens at a constant learning rate, FVU on {_domain(card)} fell by "
        f"{fell:.1%} (limit {STILL_FALLING:.0%})."
    )


def _curve_table(curve: list[dict[str, float]]) -> str:
    there = [domain for domain in DOMAINS if any(domain in point for point in curve)]
    lines = ["| training tokens | " + " | ".join(there) + " |", "|---|" + "---|" * len(there)]
    for point in curve:
        values = " | ".join(f"{point[domain]:.3f}" if domain in point else "" for domain in there)
        lines.append(f"| {point['tokens']:,} | {values} |")
    return "\n".join(lines)


def _rows_used(info: dict[str, Any], prompts: bool) -> str:
    used = "Trained on content and template tokens, measured on content and the last token of a prompt. "
    return (
        f"{used if prompts else ''}Left out: special tokens, the constant template prefix, a raw text's first token, "
        "and rows with a norm above 10 times the median "
        f"({info['training']['outliers']:,} in training).{_constant(info)} FVU is error energy over the variance about "
        f"the mean of the same rows. Inputs were scaled by {info['scale']:.3g}; the factor is folded into the weights."
    )


def _constant(info: dict[str, Any]) -> str:
    count = info["training"].get("constant_dimensions", 0)
    return f" Coordinates that never change: {count}." if count else ""


def dead_latents(unused_for: torch.Tensor, trained_rows: int) -> dict[str, Any]:
    """Share of latents that did not fire in the last million training rows, or in all if there were fewer."""
    over = min(trained_rows, 1_000_000)
    return {"share": float((unused_for >= over).double().mean()), "over_rows": over}
