"""What the kinds of pictures have in common: a planned size, headings, steps of a row as text, colours of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from numpy.typing import NDArray

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures import captions
from affidavit_governance.explain.pictures.canvas import DOWN, GAP, INK, UP, Page

DIVERGING: Colormap = LinearSegmentedColormap.from_list("affidavit", [DOWN, "#8fb0e0", "#f7f7f7", "#f3b889", "#c2560a"])
"""Dark blue below zero, orange above."""

ORDERED: Colormap = LinearSegmentedColormap.from_list("affidavit-ordered", ["#14305c", "#3f6fb5", "#9dbb8b", "#f0c75e"])
"""Dark is low and light is high, so that grey print keeps the order."""

CATEGORIES = ("#1f4e9e", "#e8833a", "#2a9d7f", "#f0c75e", "#8a5fa8")
"""Told apart by colour-blind readers; more categories than these are one colour."""

OTHER = "#4b5563"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a picture is asked to show.

    Attributes
    ----------
    row
        The row, for kinds that show one.
    data
        The explained rows, for kinds that show inputs which the explanation does not hold.
    player, colour
        For a dependence: the player along the axis, and the one that colours the points.
    """

    row: int = 0
    data: Dataset | None = None
    player: str | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A picture before it is drawn: its size in inches, and what draws it."""

    width: float
    height: float
    paint: Callable[[Page], None]


def headed(page: Page, explanation: Explanation, what: str, row: int | None) -> None:
    """The headline and the notes that every picture of an explanation has."""
    lines = [f"{explanation.method}: {captions.how_sure(explanation)}"]
    lines += captions.notes(explanation, row) if row is not None else whole_notes(explanation)
    page.title(what, lines)


def whole_notes(explanation: Explanation) -> list[str]:
    """What a reader of a picture of all rows must know."""
    hidden = int((~np.isfinite(explanation.values)).sum())
    if hidden:
        return [f"{hidden} of {explanation.values.size} attributions withheld and not drawn (release: {captions.release(explanation)})"]
    return [f"release: {captions.release(explanation)}"] if captions.release(explanation) != "full" else []


def sign_colour(value: float) -> str:
    """Orange for what raises the answer, blue for what lowers it."""
    return UP if value >= 0 else DOWN


def nothing_to_draw(page: Page, explanation: Explanation, row: int, what: str) -> None:
    """The reasons in their order, where numbers are withheld; else that there is nothing."""
    axes = page.figure.add_subplot()
    axes.axis("off")
    axes.set_xlim(0, 1)
    lines = [
        f"{rank}.  {captions.shortened(player)}   {captions.SIGNS.get(sign, sign)}"
        for rank, player, sign in captions.reasons_in_order(explanation, row)
    ]
    withheld = not np.isfinite(explanation.values[row]).all() or not np.isfinite(explanation.base[row])
    shown = lines or ["All attributions of this row are withheld." if withheld else "No player moves this answer: every attribution is zero."]
    axes.set_ylim(len(shown), -0.5)
    for place, line in enumerate(shown):
        axes.text(0.02, place, page.text(line), fontsize=10, color=INK, va="center")
    headed(page, explanation, what, row)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values of one player over the rows, as positions and colours.

    Attributes
    ----------
    numbers
        Numbers as they are, or the place of a category; NaN for a gap.
    categories
        The categories in the order of their places; empty for numbers.
    """

    numbers: NDArray[np.float64]
    categories: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Sequence[Any]) -> Scale:
        """Numbers and booleans stay numbers; anything else is a category, the most frequent first."""
        gap = [value is None or (isinstance(value, float) and np.isnan(value)) for value in values]
        known = [value for value, missing in zip(values, gap, strict=True) if not missing]
        if all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in known):
            return cls(np.array([np.nan if missing else float(value) for value, missing in zip(values, gap, strict=True)], dtype=np.float64))
        texts = [captions.shown_value(value) for value in values]
        counts: dict[str, int] = {}
        for text, missing in zip(texts, gap, strict=True):
            if not missing:
                counts[text] = counts.get(text, 0) + 1
        ordered = tuple(sorted(counts, key=lambda text: (-counts[text], text)))
        place = {text: float(number) for number, text in enumerate(ordered)}
        return cls(np.array([np.nan if missing else place[text] for text, missing in zip(texts, gap, strict=True)]), ordered)

    @property
    def known(self) -> bool:
        """Whether there is any value."""
        return bool(np.isfinite(self.numbers).any())

    def colours(self) -> list[Any]:
        """One colour a row: dark to light by rank for numbers, one a category, grey for gaps."""
        present = np.isfinite(self.numbers)
        if self.categories:
            return [category_colour(int(number)) if there else GAP for number, there in zip(np.nan_to_num(self.numbers), present, strict=True)]
        distinct, inverse = np.unique(self.numbers[present], return_inverse=True)
        share = np.zeros(len(self.numbers))
        share[present] = inverse / max(len(distinct) - 1, 1)
        return [ORDERED(float(part)) if there else GAP for part, there in zip(share, present, strict=True)]


def category_colour(place: int) -> str:
    """The colour of the category at that place; the last colour stands for all the others."""
    return CATEGORIES[place] if place < len(CATEGORIES) else OTHER


def values_over_rows(explanation: Explanation, player: int) -> Scale:
    """The values of one player in all rows."""
    return Scale.of([captions.value_of(explanation, row, player) for row in range(len(explanation))])


def legend_of(scale: Scale) -> list[tuple[str, str]]:
    """Categories with their colours, the rest as one."""
    shown = [(captions.shortened(name, 14), category_colour(place)) for place, name in enumerate(scale.categories[: len(CATEGORIES)])]
    more = len(scale.categories) - len(CATEGORIES)
    return [*shown, *([(f"{more} more", OTHER)] if more > 0 else [])]
