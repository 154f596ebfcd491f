"""A matplotlib figure that says in words what it shows, and writes the same SVG bytes every time."""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from theodolite.core.visible import visible

WIDTH = 10.2  # inches: a page's text width, which every figure fills
INK, GREY, HAIR, BAND = "#1a1a1a", "#5f6368", "#e4e6e8", "#f3f4f5"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "theodolite",
    "text.parse_math": False,  # a name with a $ in it is a name
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house's style, without touching the user's matplotlib settings."""
    with matplotlib.rc_context(_STYLE):
        yield


class Chart(Figure):
    """A figure with its alternative text; notebooks show it as SVG.

    width and height are inches; `axes_at` places axes in inches from the top left corner, as one thinks of a page.
    """

    def __init__(self, width: float, height: float, alt: str) -> None:
        super().__init__(figsize=(width, height), facecolor="white")
        self.alt = alt

    def axes_at(self, left: float, top: float, width: float, height: float) -> Axes:
        page_width, page_height = self.get_size_inches()
        bottom = page_height - top - height
        box = (left / page_width, bottom / page_height, width / page_width, height / page_height)
        return self.add_axes(box)

    def svg(self) -> str:
        """A file of its own, with the alternative text as its title."""
        for words in self.findobj(Text):
            words.set_text(visible(words.get_text()))
        with style(), warnings.catch_warnings():
            # Only widths are guessed then: the SVG keeps the characters, and a browser has other fonts.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            buffer = io.BytesIO()
            self.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue().decode(), flags=re.DOTALL)
        title = html.escape(visible(self.alt))
        opened = f'role="img" aria-label="{title}"><title>{title}</title>'  # no pattern: a name may hold a backslash
        return re.sub(r"<svg ([^>]*)>", lambda tag: f"<svg {tag[1]} {opened}", text, count=1)

    def inline(self, name: str) -> str:
        """The SVG element for an HTML page; `name` keeps its ids apart from those of other figures."""
        text = self.svg()
        text = text[text.index("<svg") :].replace("xlink:href", "href")
        text = re.sub(r' (xmlns(:\w+)?|version)="[^"]*"', "", text)
        text = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', "", text, count=2)
        share = self.get_figwidth() / WIDTH
        text = text.replace("<svg", f'<svg style="width: {100 * share:.0f}%; min-width: {40 * share:.0f}rem"', 1)
        for pattern in (r'(\bid=")', r'(href="#)', r"(url\(#)"):
            text = re.sub(pattern, rf"\g<1>{name}-", text)
        return text.strip()

    def _repr_svg_(self) -> str:
        return self.svg()


def title(axes: Axes, name: str, *lines: str) -> None:
    """A panel's heading, left-aligned above it: the name, then grey lines."""
    place: Any = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
    for at, line in enumerate(reversed(lines)):
        axes.annotate(line, xytext=(0, 7 + 11 * at), color=GREY, **place)
    axes.annotate(name, xytext=(0, 7 + 11 * len(lines)), weight="bold", size=8.5, **place)
