"""What an explained row may cost: model rows, seconds, or as much as intervals of a wanted width take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 2**20
"""Model rows that an explained row may cost where only seconds or a width are asked for, so that a width that cannot be reached ends."""

_GROWTH = 2
"""Each attempt spends at least this many times as much as the one before, so that all the earlier ones together cost no more than the last."""


class _Estimate(Protocol):
    @property
    def errors(self) -> NDArray[np.float64] | None: ...


E = TypeVar("E", bound=_Estimate)


@dataclass(frozen=True, slots=True)
class Budget:
    """What one explained row may cost.

    Attributes
    ----------
    rows
        Model rows at most, all attempts together.
    seconds
        Wall-clock seconds at most, unless the smallest attempt takes longer; None does not look at the clock.
    width
        Full width of the 95 % intervals to reach for every attribution, in units of the explained output; None does not ask.
    """

    rows: int
    seconds: float | None = None
    width: float | None = None

    def spend(self, smallest: int, attempt: Callable[[int], E], *, most: int | None = None) -> tuple[E, int]:
        """Estimate within the budget, and say how many model rows the estimate had.

        With rows alone there is one attempt. With seconds or a width, attempts grow until the width is reached, or the next one would take
        too long or too many rows; the last that the rows allow takes all that are left.

        Parameters
        ----------
        smallest
            Model rows of the least attempt that gives an interval.
        attempt
            Estimates with that many model rows at most.
        most
            Model rows from which an attempt tells no more; None knows of no such number.
        """
        useful = self.rows if most is None else min(self.rows, max(1, most))
        if self.seconds is None and self.width is None:
            return attempt(useful), useful
        begin = time.monotonic()
        spent, rows = 0, min(self._next(max(1, smallest), 0), useful)
        while True:
            started = time.monotonic()
            found = attempt(rows)
            spent += rows
            now = time.monotonic()
            following = min(self._next(_GROWTH * rows, spent), useful)
            reached = self.width is not None and (found.errors is None or 2 * float(found.errors.max(initial=0.0)) <= self.width)
            late = self.seconds is not None and now - begin + following / rows * (now - started) > self.seconds
            if reached or late or found.errors is None or following <= rows:
                return found, rows
            rows = following

    def _next(self, wanted: int, spent: int) -> int:
        """The rows of the next attempt: those wanted, or all that are left where no larger attempt could come after it."""
        left = self.rows - spent
        return wanted if left >= (1 + _GROWTH) * wanted else left
