"""A card of a control in words: what it does, on which model, how strongly, and what it must not be taken for."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theodolite.core.control_file import ControlFile


def card(control: "ControlFile") -> str:
    """Return the card as Markdown; it is written beside the file and says nothing that the file does not hold."""
    made_on = control.made_on
    towards = f" towards {control.positive}, away from {control.negative}" if control.positive else ""
    lines = [
        f"# Control: {control.concept}",
        "",
        f"{control.method} at {', '.join(map(str, control.sites))}; strength above 0 pushes{towards or ' forwards'}.",
        "",
        f"- Model: {made_on.name or 'not named'} ({made_on.architecture}, d_model {made_on.d_model})",
        f"- Hash of its weights: {made_on.hash or 'not known'}",
        f"- Training set: {control.training_set or 'not known'}",
        f"- Largest strength: {'none' if math.isinf(control.cap) else f'{control.cap:g}'}",
        "",
    ]
    if control.spreads:
        lines += ["| site | positive class, mean (sd) | negative class, mean (sd) |", "|---|---|---|"]
        lines += [
            f"| {site} | {s.mean_positive:.3g} ({s.sd_positive:.3g}) | {s.mean_negative:.3g} ({s.sd_negative:.3g}) |"
            for site, s in control.spreads.items()
        ] + [""]
    if control.strengths:
        lines += ["| nats per token | sign | strength | measured |", "|---|---|---|---|"]
        for each in control.strengths:
            sign, capped = "+" if each.sign > 0 else "-", " (capped)" if each.capped else ""
            lines.append(f"| {each.nats:g} | {sign} | {each.strength:.4g} | {each.kl:.3g}{capped} |")
        lines.append("")
    lines += ["It shifts what this model is likely to write. It is no proof of what the model believes.", ""]
    return "\n".join(lines)
