"""Pictures of regions: an image with its attributions over it, and a waveform with its segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures.canvas import GAP, INK, MUTED, Page, tidy
from affidavit_governance.explain.pictures.captions import number, row_values, shortened
from affidavit_governance.explain.pictures.drawing import DIVERGING, Asked, Plan, headed, sign_colour
from affidavit_governance.explain.players.cutting import cut, long_axes
from affidavit_governance.explain.players.options import REGIONS, PlayerOptions

_NAMED = 5
"""Regions whose attribution is written on them."""


_NUMBER: dict[str, Any] = {
    "ha": "center",
    "va": "center",
    "fontsize": 7.5,
    "color": INK,
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "boxstyle": "round,pad=0.2"},
}


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one row of one tensor field.

    Attributes
    ----------
    map
        The region of each place: height × width, or length.
    values, errors
        One a region; errors is None where there are no intervals.
    shown
        The row itself, for drawing: height × width, height × width × 3, or length; None where the explained rows were not given.
    """

    field: str
    map: NDArray[np.int64]
    values: NDArray[np.float64]
    errors: NDArray[np.float64] | None
    shown: NDArray[np.float64] | None

    @property
    def unsure(self) -> NDArray[np.bool_]:
        """Regions whose 95 % interval holds zero."""
        return np.zeros(len(self.values), dtype=bool) if self.errors is None else (abs(self.values) <= self.errors) & (self.errors > 0)


def image_plan(explanation: Explanation, asked: Asked) -> Plan:
    """The picture beside its regions; where a region's 95 % interval holds zero it is hatched, where it is withheld it is crossed out."""
    regions = _regions(explanation, asked, dimensions=2)
    panels = 1 if regions.shown is None else 2
    panels += regions.errors is not None
    shape = regions.map.shape
    high = min(max(3.3 * shape[0] / shape[1], 1.6), 6.0)

    def paint(page: Page) -> None:
        axes = list(np.ravel(page.figure.subplots(1, panels)))
        limit = float(np.nanmax(abs(regions.values), initial=0.0)) or 1.0
        at = 0
        if regions.shown is not None:
            _picture(axes[at], regions.shown)
            axes[at].set_title(page.text(f"{shortened(regions.field)}, as it is"), fontsize=9, color=INK, loc="left")
            at += 1
        _overlay(page, axes[at], regions, limit)
        axes[at].set_title(page.text("attribution"), fontsize=9, color=INK, loc="left")
        bar = page.figure.colorbar(ScalarMappable(Normalize(-limit, limit), DIVERGING), ax=axes[at], fraction=0.045, pad=0.02)
        bar.ax.tick_params(length=0, labelsize=8, labelcolor=INK)
        bar.outline.set_visible(False)
        if regions.errors is not None:
            shown = axes[at + 1].imshow(regions.errors[regions.map], cmap="Greys", vmin=0, vmax=float(np.nanmax(regions.errors, initial=0.0)) or 1.0)
            axes[at + 1].set_title(page.text("half of the 95 % interval"), fontsize=9, color=INK, loc="left")
            other = page.figure.colorbar(shown, ax=axes[at + 1], fraction=0.045, pad=0.02)
            other.ax.tick_params(length=0, labelsize=8, labelcolor=INK)
            other.outline.set_visible(False)
            page.note("hatched: the 95 % interval holds zero")
        for each in axes:
            each.set_xticks([])
            each.set_yticks([])
            for spine in each.spines.values():
                spine.set_color(GAP)
        if regions.shown is None:
            page.note("the picture itself is not in the record: pass data= to see it")
        headed(page, explanation, f"Row {asked.row}: {explanation.output} {number(float(explanation.predicted[asked.row]))}", asked.row)

    return Plan(3.9 * panels + 0.3, high + 1.05, paint)


def sound_plan(explanation: Explanation, asked: Asked) -> Plan:
    """The waveform over a bar for each segment, with its 95 % interval."""
    regions = _regions(explanation, asked, dimensions=1)
    rate = explanation.details.get("rate") or 1.0

    def paint(page: Page) -> None:
        panels = 1 if regions.shown is None else 2
        axes = list(np.ravel(page.figure.subplots(panels, 1, sharex=True, height_ratios=[1, 1.3][-panels:])))
        if regions.shown is not None:
            axes[0].plot(np.arange(len(regions.shown)) / rate, regions.shown, color=INK, linewidth=0.5)
            tidy(axes[0], grid=None)
            axes[0].set_yticks([])
            axes[0].set_ylabel(page.text(shortened(regions.field)), fontsize=9, color=INK)
        _segments(axes[-1], regions, rate)
        axes[-1].set_ylabel("φ", fontsize=9, color=INK)
        axes[-1].set_xlabel("seconds" if explanation.details.get("rate") else "place", fontsize=9, color=INK)
        if regions.shown is None:
            page.note("the sound itself is not in the record: pass data= to see it")
        headed(page, explanation, f"Row {asked.row}: {explanation.output} {number(float(explanation.predicted[asked.row]))}", asked.row)

    return Plan(8.6, 4.3 if regions.shown is not None else 3.2, paint)


def _segments(axes: Any, regions: Regions, rate: float) -> None:
    for segment, value in enumerate(regions.values):
        places = np.flatnonzero(regions.map == segment)
        if not len(places):
            continue
        left, width = places[0] / rate, len(places) / rate
        if not np.isfinite(value):
            axes.axvspan(left, left + width, facecolor="none", edgecolor=GAP, hatch="xx", linewidth=0)
            continue
        axes.bar(left, value, width=width, align="edge", color=sign_colour(value), edgecolor="white", linewidth=0.8)
        if regions.errors is not None and regions.errors[segment] > 0:
            axes.errorbar(left + width / 2, value, yerr=regions.errors[segment], fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xlim(0, len(regions.map) / rate)
    tidy(axes, grid="y")


def _picture(axes: Any, shown: NDArray[np.float64]) -> None:
    low, high = float(np.nanmin(shown, initial=0.0)), float(np.nanmax(shown, initial=0.0))
    scaled = (shown - low) / ((high - low) or 1.0)
    axes.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _overlay(page: Page, axes: Any, regions: Regions, limit: float) -> None:
    """Regions coloured by their attributions, over the picture in pale grey; the strongest have their numbers, readable without colour."""
    values = regions.values[regions.map]
    known = np.isfinite(values)
    colours = DIVERGING(0.5 + 0.5 * np.where(known, values, 0.0) / limit)
    if regions.shown is not None:
        grey = regions.shown if regions.shown.ndim == 2 else regions.shown.mean(axis=-1)
        low, high = float(np.nanmin(grey)), float(np.nanmax(grey))
        paper = 0.72 + 0.28 * (np.nan_to_num(grey) - low) / ((high - low) or 1.0)
        colours[..., :3] *= paper[..., None] if high > low else 1.0
    axes.imshow(colours, interpolation="nearest")
    height, width = regions.map.shape
    for axis, (one, other) in enumerate(((regions.map[1:], regions.map[:-1]), (regions.map[:, 1:], regions.map[:, :-1]))):
        y, x = np.nonzero(one != other)
        if axis == 0:
            axes.hlines(y + 0.5, x - 0.5, x + 0.5, color="white", linewidth=0.8)
        else:
            axes.vlines(x + 0.5, y - 0.5, y + 0.5, color="white", linewidth=0.8)
    for marked, hatch in ((regions.unsure, "////"), (~np.isfinite(regions.values), "xxxx")):
        if marked.any():
            _hatched(axes, marked[regions.map], hatch)
    written: list[tuple[int, int]] = []
    for region in _strongest(regions.values):
        y, x = np.nonzero(regions.map == region)
        middle = int(np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2))
        if any(abs(y[middle] - there[0]) < 0.09 * height and abs(x[middle] - there[1]) < 0.24 * width for there in written):
            continue  # it would cover the number of a stronger one
        written.append((int(y[middle]), int(x[middle])))
        axes.text(x[middle], y[middle], page.text(number(float(regions.values[region]), sign=True)), **_NUMBER)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _hatched(axes: Any, inside: NDArray[np.bool_], hatch: str) -> None:
    """Hatch the places that are inside, as runs along each line of the picture."""
    from matplotlib.collections import PolyCollection

    boxes = []
    for y, line in enumerate(inside):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        for left, right in zip(edges[::2], edges[1::2], strict=True):
            boxes.append([(left - 0.5, y - 0.5), (right - 0.5, y - 0.5), (right - 0.5, y + 0.5), (left - 0.5, y + 0.5)])
    axes.add_collection(PolyCollection(boxes, facecolors="none", edgecolors=(0.12, 0.16, 0.22, 0.45), hatch=hatch, linewidths=0))


def _strongest(values: NDArray[np.float64]) -> list[int]:
    known = np.where(np.isfinite(values), abs(values), 0.0)
    return [int(i) for i in np.argsort(-known, kind="stable")[:_NAMED] if known[i] > 0]


def _regions(explanation: Explanation, asked: Asked, dimensions: int) -> Regions:
    """The regions of the first field that has some of so many dimensions. Raises UsageError where there is none, or its map needs the data."""
    kinds = explanation.details.get("players")
    shapes = explanation.details.get("shapes")
    what = "an image" if dimensions == 2 else "a sound or a series"
    if isinstance(kinds, Mapping) and isinstance(shapes, Mapping):
        for field, kind in kinds.items():
            if kind in REGIONS and field in shapes and _dimensions(shapes[field], kind) == dimensions:
                return _of_field(explanation, asked, field, str(kind), tuple(int(length) for length in shapes[field]))
    raise UsageError(f"This explanation has no regions of {what} to draw.", hint="Draw a waterfall.")


def _dimensions(shape: Sequence[int], kind: str) -> int:
    return 1 if kind == "segments" else len(long_axes(tuple(shape)))


def _of_field(explanation: Explanation, asked: Asked, field: str, kind: str, shape: tuple[int, ...]) -> Regions:
    values = None
    if asked.data is not None:
        if len(asked.data) != len(explanation):
            raise UsageError(f"The data has {len(asked.data)} rows and the explanation {len(explanation)}.", hint="Pass the explained rows.")
        values = asked.data.to_numpy(field)
        if values.shape[1:] != shape:
            raise UsageError(f"'{field}' has another shape in this data than in the explanation.", hint="Pass the explained rows.")
    varies = kind == "superpixels" or explanation.details.get("cuts") == "quiet"
    if varies and values is None:
        raise UsageError(f"The {kind} of '{field}' follow from the row itself, which is not in the record.", hint="Pass data=, the explained rows.")
    own = np.zeros((1, *shape)) if values is None else values[asked.row : asked.row + 1]
    options = PlayerOptions(
        {field: kind}, int(explanation.details["grid"]), "mean", explanation.details.get("cuts", "equal"), explanation.details.get("rate")
    )
    found = cut(own, field, kind, options)
    names = [name for name in found.names if name in explanation.players]
    if len(names) != len(found.names):
        raise UsageError(f"The regions of '{field}' are not the players of this explanation.", hint="Pass the explained rows.")
    players = [explanation.players.index(name) for name in names]
    errors = None if explanation.errors is None else explanation.errors[asked.row, players]
    flat = found.maps[0]
    axes = [int(np.argmax(shape))] if kind == "segments" else long_axes(shape)
    region = np.moveaxis(flat, axes, range(len(axes))).reshape(*(shape[axis] for axis in axes), -1)[..., 0]
    return Regions(field, region, row_values(explanation, asked.row)[players], errors, None if values is None else _as_seen(values[asked.row], axes))


def _as_seen(value: NDArray[np.float64], axes: list[int]) -> NDArray[np.float64]:
    """Long axes first; three channels stay colours, others become their mean."""
    moved = np.moveaxis(value, axes, range(len(axes))).reshape(*(value.shape[axis] for axis in axes), -1)
    return moved if len(axes) == 2 and moved.shape[-1] == 3 else np.asarray(moved.mean(axis=-1))
