"""What pictures, pages and tables say of an explanation in words: the same in all of them, and no more than the record holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.explanation import Explanation

ROUNDING = 1e-12
"""Shares of the largest number of a row below which an attribution is rounding: a float64 holds 1e-16, and thousands are added up."""

LONGEST = 28
"""Characters of a value, and of a player's name, that are shown."""

SIGNS = {"+": "raises the answer", "-": "lowers the answer", "?": "direction not certain"}
"""What the sign of a reason says, where its number is withheld."""

_NAMES_SHOWN = 4
"""Players named in a note."""


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of a row's explanation.

    Attributes
    ----------
    name
        The player, with its value where there is one.
    value
        Its attribution, or the sum of several; NaN where it is withheld and follows from nothing.
    error
        Half-width of the 95 % interval; None where there is none.
    kind
        ``"player"``, ``"others"`` (a sum of small ones) or ``"withheld"`` (the sum of what is not released).
    """

    name: str
    value: float
    error: float | None = None
    kind: str = "player"


def check_row(explanation: Explanation, row: int) -> None:
    """Raise UsageError where there is no such row."""
    if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(explanation):
        raise UsageError(f"There is no row {row} in this explanation of {len(explanation)} rows.")


def steps(explanation: Explanation, row: int, most: int) -> list[Step]:
    """The largest attributions of a row first, then the sum of the smaller ones and of those without effect, then what is withheld.

    What is withheld has a value only where it follows from what is released: base, prediction and all the rest of an additive explanation.
    """
    values = row_values(explanation, row)
    known = np.isfinite(values)
    order = [int(i) for i in np.argsort(-np.where(known, abs(values), -1.0), kind="stable") if known[i]]
    moving = [i for i in order if values[i] != 0 or error_of(explanation, row, i)]
    # One player without effect is named; several, such as the places that a short text does not have, are one bar.
    named = order if len(order) - len(moving) <= 1 else moving
    cut = most if len(named) > most + 1 else len(named)
    found = [Step(label(explanation.players[i], value_of(explanation, row, i)), float(values[i]), error_of(explanation, row, i)) for i in named[:cut]]
    rest = order[cut:]
    if rest:
        found.append(Step(f"{len(rest)} others", float(values[rest].sum()), kind="others"))
    hidden = int((~known).sum())
    if hidden:
        found.append(Step(f"{hidden} withheld", _remainder(explanation, row), kind="withheld"))
    return found


def _remainder(explanation: Explanation, row: int) -> float:
    if not explanation.details.get("additive", True) or _release_mode(explanation) == "quantised":
        return float("nan")
    return float(explanation.predicted[row] - explanation.base[row] - np.nansum(explanation.values[row]))


def row_values(explanation: Explanation, row: int) -> NDArray[np.float64]:
    """The row's attributions; what is no more than rounding of the answer is zero, since its digits say nothing."""
    values = explanation.values[row]
    return np.where(abs(values) <= _resolution(explanation, row), 0.0, values)


def _resolution(explanation: Explanation, row: int) -> float:
    scale = np.array([explanation.base[row], explanation.predicted[row], *explanation.values[row]])
    return ROUNDING * float(np.max(abs(scale), initial=0.0, where=np.isfinite(scale)))


def value_of(explanation: Explanation, row: int, player: int) -> Any:
    """The player's value in the row, or None; a record that was read from JSON has none."""
    return explanation.inputs[row][player] if row < len(explanation.inputs) and player < len(explanation.inputs[row]) else None


def error_of(explanation: Explanation, row: int, player: int) -> float | None:
    """Half-width of the 95 % interval, or None where there is none."""
    if explanation.errors is None or not np.isfinite(explanation.errors[row, player]):
        return None
    error = float(explanation.errors[row, player])
    return error if error > _resolution(explanation, row) else 0.0


def label(player: str, value: Any) -> str:
    """``player = value``, each cut to a readable length."""
    if value is None:
        return shortened(player)
    return f"{shortened(player)} = {shortened(shown_value(value))}"


def shown_value(value: Any) -> str:
    """A value in a few characters, on one line."""
    if isinstance(value, float):
        return "gap" if np.isnan(value) else f"{value:.4g}"
    return " ".join(str(value).split()) or "(empty)"


def shortened(text: str, length: int = LONGEST) -> str:
    """The text, or its two ends with an ellipsis between: long names differ at their end as often as at their beginning.

    Characters that command a terminal or turn the direction of writing become spaces.
    """
    text = "".join(character if character.isprintable() else " " for character in text)
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1]}…{text[-tail:]}"


def number(value: float | None, *, sign: bool = False) -> str:
    """Three digits; ``withheld`` for NaN, with a real minus sign."""
    if value is None or not np.isfinite(value):
        return "withheld"
    value = value if value else 0.0  # no "-0"
    return (f"{value:+.3g}" if sign else f"{value:.3g}").replace("-", "\u2212")


def size(residual: float) -> str:
    """A residual's order of magnitude."""
    return f"{residual:.0e}" if residual else "0"


def with_error(value: float, error: float | None) -> str:
    """A signed attribution, with half its interval where there is one."""
    return number(value, sign=True) + (f" ± {error:.2g}" if error else "")


def how_sure(explanation: Explanation) -> str:
    """Whether the attributions are exact, estimated with intervals, or estimated without, and whether they add up."""
    if explanation.values.size and not np.isfinite(explanation.values).any():
        return "attributions withheld"
    sure = "exact" if explanation.exact else f"estimated, {'with 95 % intervals' if explanation.errors is not None else 'without intervals'}"
    if not explanation.details.get("additive", True):
        return f"{sure}; a local surrogate, need not add up"
    residual = explanation.residual[np.isfinite(explanation.residual)]
    if not len(residual):
        return f"{sure}; whether it adds up is withheld"
    return f"{sure}; adds up to within {size(float(residual.max()))}"


def release(explanation: Explanation) -> str:
    """How much of the explanation was released."""
    mode = _release_mode(explanation)
    stated = explanation.details.get("release")
    how_much = next((f" {stated[key]}" for key in ("k", "levels") if key in stated), "") if isinstance(stated, Mapping) else ""
    return mode + how_much


def _release_mode(explanation: Explanation) -> str:
    stated = explanation.details.get("release", "full")
    return str(stated.get("mode", "full")) if isinstance(stated, Mapping) else str(stated)


def reasons_in_order(explanation: Explanation, row: int) -> list[tuple[int, str, str]]:
    """Rank, player and sign of each reason, where the order alone was released; else an empty list."""
    stated = explanation.details.get("release")
    orders = stated.get("order") if isinstance(stated, Mapping) else None
    if not isinstance(orders, Sequence) or row >= len(orders):
        return []
    return [(int(one.get("rank", place + 1)), str(one["player"]), str(one["sign"])) for place, one in enumerate(orders[row])]


def notes(explanation: Explanation, row: int) -> list[str]:
    """What a reader of row `row` must know besides the numbers: what is withheld, what is tied, how stable the order is."""
    found = []
    hidden = int((~np.isfinite(explanation.values[row])).sum())
    if hidden:
        found.append(f"{hidden} of {len(explanation.players)} attributions withheld (release: {release(explanation)})")
    elif release(explanation) != "full":
        found.append(f"release: {release(explanation)}")
    for tie in ties(explanation, row):
        more = f" and {len(tie) - _NAMES_SHOWN} more" if len(tie) > _NAMES_SHOWN else ""
        found.append("tied: " + ", ".join(shortened(name) for name in tie[:_NAMES_SHOWN]) + more)
    chance = stability(explanation, row)
    if chance is not None:
        found.append(f"the order of the first {explanation.details['stability'].get('k', 'few')} survives resampling with probability {chance:.2g}")
    return found


def ties(explanation: Explanation, row: int) -> list[list[str]]:
    """Groups of players whose order the numbers do not tell."""
    found = _of_row(explanation, "ties", row)
    return [[str(name) for name in tie] for tie in found] if isinstance(found, Sequence) else []


def stability(explanation: Explanation, row: int) -> float | None:
    """The probability that the order of the largest attributions survives resampling, where it was measured."""
    found = _of_row(explanation, "probability", row)
    return float(found) if isinstance(found, (int, float)) else None


def _of_row(explanation: Explanation, key: str, row: int) -> Any:
    stated = explanation.details.get("stability")
    listed = stated.get(key) if isinstance(stated, Mapping) else None
    return listed[row] if isinstance(listed, Sequence) and row < len(listed) else None


def known_mean(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Column means of the finite values, NaN where there is none, and how many there are."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.where(counts > 0, counts, np.nan)
    return mean, counts
