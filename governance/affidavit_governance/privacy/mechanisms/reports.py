"""Private figures for reports: counts, histograms, sums, means and quantiles of one data set, on its budget.

Bounds, categories and edges are public: they must not be read from the rows. All mechanisms are of pure ε-differential privacy and sample
exactly in whole numbers, so that their ε simply add up. Intervals are about the noise: what the exact figure of these rows is, not that of a
population that they were drawn from.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import Refused, UsageError
from affidavit.interfaces.columns import text_values
from affidavit_governance.privacy.accounting import Event, neighbours
from affidavit_governance.privacy.contributions import bound_contributions
from affidavit_governance.privacy.mechanisms.discrete import Integers, bernoulli_exp, discrete_laplace, laplace_deviation, laplace_half_width
from affidavit_governance.privacy.randomness import Randomness

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.policy import PrivacyPolicy
    from affidavit_governance.privacy.budget import Budget

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
GRID = 2**30
"""Steps from zero to the larger bound to which the values of a sum are rounded."""

CANDIDATES = 4096
"""Equal steps between the bounds from which a quantile is chosen."""

DENOMINATOR = 10**6
"""An ε is used in millionths, rounded down."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A private figure.

    Attributes
    ----------
    value
        With noise.
    standard_error
        Standard deviation of the noise; None for a quantile.
    low, high
        95 % interval of the exact figure; None for a quantile.
    rank_error
        Of a quantile: with a probability of 95 %, the quantile of these rows at the value is off by at most so many records.
    event
        What it cost.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    event: Event
    rank_error: float | None = None


class PrivateStatistics:
    """Private figures of `data`, in a ``with`` block: its ε is set aside at the start, and what was used is charged at the end.

    Parameters
    ----------
    budget
        Of the workspace; every root of `data` is charged.
    epsilon
        What all figures together may cost.
    policy
        The workspace's: δ and the data set's budget, and what the figures protect. Where that is a user, at most `unit_records` rows of each
        user count.
    source
        Where randomness comes from. None, for everything but replay in tests, is the operating system.
    """

    def __init__(
        self,
        budget: Budget,
        data: Dataset,
        *,
        epsilon: float,
        policy: PrivacyPolicy,
        source: Randomness | None = None,
    ) -> None:
        own = source or Randomness()
        self._budget, self._policy = budget, policy
        self._data = data if policy.user is None else bound_contributions(data, policy.user, policy.unit_records, own)
        self._left = self._all = _millionths(epsilon)
        self._relation, self._group_size = neighbours(policy)
        self._integers = Integers(own)
        self._call = ""
        self.events: list[Event] = []

    def __enter__(self) -> Self:
        """Set the whole ε aside.

        Raises
        ------
        Refused
            The data set's budget has less left.
        """
        if self._call:
            raise UsageError("These statistics were opened before.", hint="Make new ones.")
        call = f"statistics-{secrets.token_hex(8)}"
        self._budget.reserve(call, sorted(self._data.roots), [self._event(self._all)], delta=self._policy.delta, limit=self._policy.dataset_budget)
        self._call = call
        return self

    def __exit__(self, *_: object) -> None:
        self._left = Fraction(0)
        if self.events:
            self._budget.commit(self._call, self.events)
        else:
            self._budget.release(self._call)

    @property
    def left(self) -> float:
        """ε that further figures may cost."""
        return float(self._left)

    # -- figures --------------------------------------------------------------------------------------------------------------------

    def count(self, *, epsilon: float, where: NDArray[np.bool_] | None = None) -> Figure:
        """Number of rows, or of the rows marked in `where`, with discrete Laplace noise."""
        chosen = np.ones(len(self._data), dtype=bool) if where is None else np.asarray(where, dtype=bool)
        if chosen.shape != (len(self._data),):
            raise UsageError(f"'where' has the shape {chosen.shape}, and there are {len(self._data)} rows.")
        (figure,) = self._counts([int(chosen.sum())], epsilon)
        return figure

    def histogram(
        self, column: str, *, epsilon: float, categories: Sequence[str] | None = None, edges: Sequence[float] | None = None
    ) -> list[Figure]:
        """Rows of each public category, or between each two ascending edges (the last one included); all others count nowhere.

        One record counts in one place at most: the whole histogram costs `epsilon` once.
        """
        if (categories is None) == (edges is None):
            raise UsageError("A histogram needs either categories or edges, which are public.")
        if categories is not None:
            if len(set(categories)) != len(categories) or not categories:
                raise UsageError("The categories of a histogram must differ.")
            found = text_values(self._data, column)
            return self._counts([sum(value == category for value in found) for category in categories], epsilon)
        ends = np.asarray(edges, dtype=np.float64)
        if len(ends) < 2 or not np.isfinite(ends).all() or (np.diff(ends) <= 0).any():
            raise UsageError("The edges of a histogram must be at least two finite numbers in ascending order.")
        return self._counts([int(count) for count in np.histogram(self._present(column), ends)[0]], epsilon)

    def sum(self, column: str, *, bounds: tuple[float, float], epsilon: float) -> Figure:
        """Sum of the values, each first cut to the public `bounds`; missing ones count as zero."""
        low, high = _checked(bounds)
        value, error, width, event = self._sum(np.clip(self._present(column), low, high), max(abs(low), abs(high)), epsilon, CONFIDENCE)
        return Figure(value, error, value - width, value + width, event)

    def mean(self, column: str, *, bounds: tuple[float, float], epsilon: float) -> Figure:
        """Mean of the values that are not missing, each first cut to the public `bounds`: half of ε for their sum, half for their number."""
        low, high = _checked(bounds)
        middle, reach = (low + high) / 2, (high - low) / 2
        values = self._present(column)
        each = 1 - (1 - CONFIDENCE) / 2  # that both intervals hold
        total, total_error, total_width, _ = self._sum(np.clip(values, low, high) - middle, reach, epsilon / 2, each)
        (number,), number_error, number_width, _ = self._noisy([len(values)], 1, epsilon / 2, each)
        counts = [max(1.0, float(number + side * number_width)) for side in (-1, 1)]
        ends = [(total + side * total_width) / count for side in (-1, 1) for count in counts]
        size = max(1.0, float(number))
        offset = float(np.clip(total / size, -reach, reach))
        error = math.hypot(total_error, offset * number_error) / size
        event = self._event(2 * _millionths(epsilon / 2))
        return Figure(middle + offset, error, max(low, middle + min(ends)), min(high, middle + max(ends)), event)

    def quantile(self, column: str, share: float, *, bounds: tuple[float, float], epsilon: float) -> Figure:
        """A value that about `share` of the values that are not missing lie below, among 4,097 between the public `bounds`.

        By the exponential mechanism (McSherry and Talwar 2007; Smith 2011, algorithm 2), with the score -|(1-p) below - p above|, which one
        record moves by at most max(p, 1-p). Drawn exactly, by rejection.
        """
        low, high = _checked(bounds)
        if not 0 <= share <= 1:
            raise UsageError(f"A share of {share} is not between 0 and 1.")
        part = Fraction(share).limit_denominator(DENOMINATOR)
        values = np.sort(np.clip(self._present(column), low, high))
        candidates = low + (high - low) * np.arange(CANDIDATES + 1) / CANDIDATES
        below, upto = np.searchsorted(values, candidates, side="left"), np.searchsorted(values, candidates, side="right")
        # In units of 1 / denominator, whole numbers.
        p, whole = part.numerator, part.denominator
        scores = -np.abs((whole - p) * below.astype(object) - p * (len(values) - upto).astype(object))
        own, event = self._spend(epsilon)
        rate = own / (2 * max(p, whole - p))
        best = max(scores)
        while True:
            drawn = self._integers.below(CANDIDATES + 1)
            if bernoulli_exp(self._integers, rate * int(best - scores[drawn])):
                break
        # Theorem 3.11 of Dwork and Roth (2014), of the score in records.
        rank = float(2 * max(part, 1 - part) / own) * math.log((CANDIDATES + 1) / (1 - CONFIDENCE))
        return Figure(float(candidates[drawn]), None, None, None, event, rank_error=rank)

    # -- how ------------------------------------------------------------------------------------------------------------------------

    def _present(self, column: str) -> Floats:
        values = self._data.to_numpy(column).astype(np.float64)
        return np.asarray(values[~np.isnan(values)])

    def _sum(self, values: Floats, largest: float, epsilon: float, confidence: float) -> tuple[float, float, float, Event]:
        """Noisy sum of values of size up to `largest`, the noise's standard deviation, half of its interval, and the event."""
        step = largest / GRID
        whole = np.clip(np.rint(values / step), -GRID, GRID).astype(np.int64)
        (found,), error, width, event = self._noisy([int(whole.sum())], GRID, epsilon, confidence)
        return found * step, error * step, width * step, event

    def _noisy(self, exact: Sequence[int], sensitivity: int, epsilon: float, confidence: float) -> tuple[list[int], float, int, Event]:
        """Whole numbers that one record changes by at most `sensitivity` in all, each with discrete Laplace noise of scale sensitivity/ε.

        Besides them the noise's standard deviation, half of its interval, and the event.
        """
        own, event = self._spend(epsilon)
        scale = sensitivity / own
        found = [number + discrete_laplace(self._integers, scale) for number in exact]
        return found, laplace_deviation(scale), laplace_half_width(scale, confidence), event

    def _counts(self, exact: Sequence[int], epsilon: float) -> list[Figure]:
        found, error, width, event = self._noisy(exact, 1, epsilon, CONFIDENCE)
        return [Figure(float(value), error, float(value - width), float(value + width), event) for value in found]

    def _spend(self, epsilon: float) -> tuple[Fraction, Event]:
        """The ε of one record added or removed, and the event, which counts from here on."""
        wanted = _millionths(epsilon)
        if not self._call:
            raise UsageError("Private statistics need a 'with' block, which sets their budget aside.")
        if wanted > self._left:
            raise Refused(
                f"This figure costs epsilon = {float(wanted):g}, and these statistics have {float(self._left):g} left.",
                by="privacy",
                line="privacy.dataset_budget",
                measured=float(wanted),
                bound=float(self._left),
                satisfy="Ask for less, or open statistics with a larger epsilon.",
            )
        self._left -= wanted
        event = self._event(wanted)
        self.events.append(event)
        return wanted / (self._group_size * (2 if self._relation == "replace-one" else 1)), event

    def _event(self, epsilon: Fraction) -> Event:
        members = self._group_size * (2 if self._relation == "replace-one" else 1)
        return Event("pure", float(members / epsilon), 1.0, 1, self._relation, self._group_size)


def _millionths(epsilon: float) -> Fraction:
    if not 0 < epsilon < math.inf or epsilon * DENOMINATOR < 1:
        raise UsageError(f"epsilon = {epsilon} buys no figure.", hint="It must be at least a millionth.")
    # Up to rounding in the input's last digit, so that 0.1 is a tenth.
    return Fraction(math.floor(epsilon * DENOMINATOR + 1e-6), DENOMINATOR)


def _checked(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = map(float, bounds)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError("The bounds of a private figure must be two finite numbers in ascending order.")
    return low, high
