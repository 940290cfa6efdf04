"""Rules in words: conditions on raw fields, what a model answers where they hold, and how well they follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.model import Metric
from affidavit_governance.explain.overall.features import Column, Floats
from affidavit_governance.explain.quality.intervals import ratio_of_means

LEAST_ROWS = 5
"""Rows of the smallest group that a rule may speak of; a rule about fewer would speak of persons."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A question to one column: is it above the threshold, or not?"""

    column: int
    threshold: float
    above: bool

    def holds(self, values: Floats) -> NDArray[np.bool_]:
        """For rows × columns, whether each row meets it."""
        met: NDArray[np.bool_] = (values[:, self.column] > self.threshold) == self.above
        return met


@dataclass(frozen=True, slots=True)
class Rule:
    """Conditions that must hold together, and what the model answers there.

    Attributes
    ----------
    answer
        The mean of the model's answers.
    share
        Of the training rows that the model gives the explained class; the answer itself has no meaning as a vote for a third class.
    rows
        Training rows that it speaks of.
    """

    conditions: tuple[Condition, ...]
    answer: float
    share: float
    rows: int

    def holds(self, values: Floats) -> NDArray[np.bool_]:
        """For rows × columns, whether each row meets all conditions."""
        met = np.ones(len(values), dtype=bool)
        for condition in self.conditions:
            met &= condition.holds(values)
        return met


def first_rule(rules: Sequence[Rule], values: Floats) -> NDArray[np.int64]:
    """For each row the first rule whose conditions it meets; the last rule has none, or the rules share out all rows."""
    place = np.full(len(values), len(rules) - 1, dtype=np.int64)
    for number in reversed(range(len(rules))):
        place[rules[number].holds(values)] = number
    return place


def in_words(rules: Sequence[Rule], columns: Sequence[Column], output: str, total: int, *, ordered: bool) -> tuple[str, ...]:
    """One sentence a rule. In an ordered list each rule is for the rows that no earlier one took."""
    told = []
    for number, rule in enumerate(rules):
        words = " and ".join(columns[c.column].words(c.threshold, above=c.above) for c in simplified(rule.conditions, columns))
        begin = ("else " if number else "") if ordered else ""
        condition = f"{begin}if {words}" if words else ("otherwise" if ordered and number else "always")
        told.append(f"{condition}: {output} is {rule.answer:.3g} ({100 * rule.rows / total:.0f} % of the rows)")
    return tuple(told)


def simplified(conditions: Sequence[Condition], columns: Sequence[Column]) -> list[Condition]:
    """The same conditions without those that another one implies: of two upper bounds the lower, and no 'is not' beside an 'is'."""
    kept: dict[tuple[int, bool], Condition] = {}
    for condition in conditions:
        key = (condition.column, condition.above)
        tighter = kept.get(key)
        pick = max if condition.above else min
        kept[key] = condition if tighter is None else Condition(condition.column, pick(tighter.threshold, condition.threshold), condition.above)
    categories = [c for c in kept.values() if columns[c.column].kind == "category"]
    named = {columns[c.column].field for c in categories if c.above}
    implied = [c for c in categories if not c.above and columns[c.column].field in named]
    return [condition for condition in kept.values() if condition not in implied]


def fidelity(rules: Sequence[Rule], values: Floats, answers: Floats, decided: NDArray[np.bool_] | None) -> dict[str, Metric]:
    """How well rules follow a model on rows that they were not made from, with 95 % intervals.

    R² is left out where the model answers the same everywhere, and the intervals where there are too few rows.

    Parameters
    ----------
    answers
        The model's own answers.
    decided
        Whether the model gives each row the explained class; None where it gives numbers.
    """
    place = first_rule(rules, values)
    found: dict[str, Metric] = {}
    spread = np.square(answers - answers.mean())
    if float(spread.sum()) > 1e-20 * max(1.0, float(abs(answers).max())) ** 2:
        missed = np.square(answers - np.array([rule.answer for rule in rules])[place])
        ratio = ratio_of_means(missed, spread)
        low, high = (None if end is None else 1 - end for end in (ratio.high, ratio.low))
        found["r2"] = Metric(1 - ratio.value, low, None if high is None else min(1.0, high))
    if decided is not None:
        votes = np.array([rule.share > 0.5 for rule in rules])[place]
        found["accuracy"] = wilson(int((votes == decided).sum()), len(decided))
    return found


def wilson(right: int, rows: int) -> Metric:
    """A share with its 95 % interval (Wilson 1927)."""
    z = 1.959964
    share = right / rows
    centre, spread = share + z * z / (2 * rows), z * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return Metric(share, float(max(0.0, (centre - spread) / scale)), float(min(1.0, (centre + spread) / scale)))
