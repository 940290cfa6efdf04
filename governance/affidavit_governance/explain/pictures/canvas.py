"""Figures and files: matplotlib's objects without pyplot, colours, fonts, and text that is drawn as what it says."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.ft2font import FT2Font

from affidavit.errors import UsageError
from affidavit.store import writing

UP, DOWN, INK, MUTED, GRID, PAPER, GAP = "#e8833a", "#1f4e9e", "#1f2937", "#6b7280", "#e5e7eb", "#ffffff", "#9ca3af"
"""Light orange and dark blue differ for colour-blind readers, and in grey print by their lightness."""

ENDINGS = (".png", ".svg", ".html")

_CJK = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
)
"""Fonts with Chinese characters, of which the first that is installed is used where the plain font has no glyph."""

_PLAIN = "DejaVu Sans"
"""matplotlib's own font, which it carries along."""

_NO_GLYPH = "\u25a1"
_LOCK = threading.Lock()


def ending(path: str | Path) -> str:
    """The ending of a picture's file. Raises UsageError where it is none that is written."""
    suffix = Path(path).suffix.lower()
    if suffix not in ENDINGS:
        raise UsageError(f"A plot is written as {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, not as '{suffix}'.")
    return suffix


class Page:
    """A figure that is drawn, and what its text may hold.

    Attributes
    ----------
    vector
        Whether text stays text, so that the reader's own fonts draw it.
    missing
        Characters that no installed font has; a PNG shows a box for each, and says so.
    """

    def __init__(self, width: float, height: float, suffix: str) -> None:
        self.vector = suffix != ".png"
        self.missing: set[str] = set()
        self.figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor=PAPER)
        self.canvas = FigureCanvasSVG(self.figure) if self.vector else FigureCanvasAgg(self.figure)
        self._notes: list[str] = []

    def text(self, text: str) -> str:
        """The text as matplotlib should draw it: no formulas, and room for glyphs that it cannot measure."""
        absent = [character for character in text if not _drawable(character)]
        if absent and not self.vector:
            self.missing.update(absent)
            text = "".join(character if _drawable(character) else _NO_GLYPH for character in text)
        # matplotlib leaves 0.6 em for a glyph that it lacks, and a Chinese character takes 1: spaces (0.32 em) before it make up for that.
        room = "\u00a0" * round(1.25 * len(absent)) if self.vector else ""
        return room + text.replace("$", r"\$")

    def title(self, title: str, lines: Sequence[str]) -> None:
        """A headline, and smaller lines under it."""
        drawn = "\n".join(self.text(line) for line in lines)
        self.figure.suptitle(self.text(title), x=0.012, ha="left", fontsize=11, color=INK, fontweight="bold")
        if drawn:
            self._notes = [drawn, *self._notes]

    def note(self, *lines: str) -> None:
        """Lines at the bottom."""
        self._notes += [self.text(line) for line in lines]

    def measure(self, text: str, size: float, *, bold: bool = False) -> float:
        """The width of a text in points; a character without a glyph counts as a whole em."""
        drawable = "".join(character for character in text if _drawable(character))
        font = FontProperties(family=families(), size=size, weight="bold" if bold else "normal")
        renderer = _measuring()
        width, _, _ = renderer.get_text_width_height_descent(drawable.replace("$", r"\$"), font, False)
        points: float = width * 72 / renderer.dpi + size * (len(text) - len(drawable))
        return points

    def finish(self) -> None:
        """Add the notes, which are known only when everything is drawn."""
        lines = list(self._notes)
        if self.missing:
            count = len(self.missing)
            lines.append(f"{count} character{'s' if count > 1 else ''} shown as a box: no font here has them. An .svg or .html shows them.")
        if lines:
            self.figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=7.5, color=MUTED)


def draw(path: str | Path, width: float, height: float, paint: Callable[[Page], None], heading: str) -> None:
    """Draw one figure into a file, by its ending.

    matplotlib's settings are global: they are lent for the time of drawing, one figure at a time, and given back.

    Parameters
    ----------
    paint
        Draws on the page.
    heading
        The title of an HTML page.
    """
    target = Path(path)
    suffix = ending(target)
    with _settings():
        page = Page(width, height, suffix)
        paint(page)
        page.finish()
        sink = io.BytesIO()
        metadata = {"Date": None} if page.vector else {"Software": "affidavit"}
        page.canvas.print_figure(sink, format="svg" if page.vector else "png", metadata=metadata)
    content = sink.getvalue()
    if suffix == ".html":
        content = _html(content.decode(), heading).encode()
    with writing(target), target.open("wb") as file:
        file.write(content)


def tidy(axes: Axes, *, grid: str | None = "x") -> None:
    """Light axes: no frame, no ticks, a grid where numbers are read."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(axis="both", length=0, labelsize=9, labelcolor=INK)
    if grid is not None:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


@contextmanager
def _settings() -> Iterator[None]:
    # A glyph that is missing is said on the picture, or left to the reader's browser; matplotlib's warning would repeat it for each draw.
    with _LOCK, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "affidavit", "font.family": families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


@lru_cache(maxsize=1)
def families() -> list[str]:
    """The plain font, and an installed one with Chinese characters if there is one."""
    installed = {font.name for font in fontManager.ttflist}
    return [_PLAIN, *[name for name in _CJK if name in installed][:1]]


@lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    return any(ord(character) in charmap for charmap in _charmaps())


@lru_cache(maxsize=1)
def _charmaps() -> list[dict[int, Any]]:
    return [dict(FT2Font(fontManager.findfont(FontProperties(family=name))).get_charmap()) for name in families()]


@lru_cache(maxsize=1)
def _measuring() -> Any:
    return FigureCanvasAgg(Figure(dpi=150)).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib has no types for it


def _html(svg: str, heading: str) -> str:
    """A page with the drawing in it: no script, nothing from elsewhere."""
    drawing = svg[svg.index("<svg") :]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(heading)}</title>"
        "<style>:root{color-scheme:light dark}body{margin:1.5rem;font-family:system-ui,sans-serif}"
        "figure{margin:0;background:#fff;border-radius:8px;padding:12px;display:inline-block;max-width:100%;box-sizing:border-box}"
        "svg{max-width:100%;height:auto}</style></head>"
        f'<body><figure role="img" aria-label="{escape(heading)}">{drawing}</figure></body></html>\n'
    )
