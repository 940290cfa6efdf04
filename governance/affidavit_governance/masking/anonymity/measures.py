"""How anonymous a table is: k-anonymity, l-diversity, (α, k)-anonymity and t-closeness, each with the classes that fall short.

Missing values count as a value of their own, in quasi-identifiers and in sensitive columns. With several sensitive columns a class is as good
as its worst one. Each measure counts rows: where one person has several, it says more than is so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affidavit.errors import UsageError
from affidavit_governance.masking.anonymity.classes import Classes, Values, equivalence_classes, values_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Sums of shares that are equal on paper differ in the last bits.
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False, slots=True)
class Measure:
    """One measure of one table.

    Attributes
    ----------
    name
        ``k``, ``l``, ``entropy_l``, ``c``, ``alpha`` or ``t``.
    value
        That of the worst class, which is the table's.
    of_class
        That of each class.
    classes
        The equivalence classes.
    largest_is_worst
        Whether a bound is a ceiling (α, c, t) rather than a floor (k, l).
    """

    name: str
    value: float
    of_class: NDArray[np.float64]
    classes: Classes
    largest_is_worst: bool

    def failing(self, bound: float) -> NDArray[np.int64]:
        """The classes that miss `bound`, worst first."""
        sign = -1.0 if self.largest_is_worst else 1.0
        missed = np.flatnonzero(sign * self.of_class < sign * bound - TOLERANCE)
        order: NDArray[np.int64] = missed[np.argsort(sign * self.of_class[missed], kind="stable")]
        return order

    def failing_rows(self, bound: float) -> NDArray[np.int64]:
        """Positions of the rows in classes that miss `bound`."""
        return self.classes.rows(self.failing(bound))


def k_anonymity(data: Any, quasi_identifiers: Sequence[str]) -> Measure:
    """k: the fewest rows that share all their quasi-identifiers (Sweeney, k-Anonymity, IJUFKS 10(5), 2002).

    Parameters
    ----------
    data
        A `Dataset`, an Arrow table, a pandas or Polars frame, or a dict of columns.
    quasi_identifiers
        The columns that together may identify a person.

    Raises
    ------
    UsageError
        No quasi-identifier, or an unknown column.
    InvalidInput
        No rows, or a column whose values cannot be compared.
    """
    return k_of(equivalence_classes(data, quasi_identifiers))


def l_diversity(data: Any, quasi_identifiers: Sequence[str], sensitive: str | Sequence[str]) -> Measure:
    """Distinct l: the fewest distinct sensitive values in a class (Machanavajjhala and others, l-Diversity, TKDD 1(1), 2007).

    Parameters and errors as in `k_anonymity`; `sensitive` names one column or several.
    """
    return l_of(equivalence_classes(data, quasi_identifiers), data, sensitive)


def entropy_l_diversity(data: Any, quasi_identifiers: Sequence[str], sensitive: str | Sequence[str]) -> Measure:
    """Entropy l: the smallest exp(entropy) of the sensitive values in a class (Machanavajjhala and others, definition 4.1), not rounded."""

    def entropy(classes: Classes, values: Values) -> NDArray[np.float64]:
        pairs = _Pairs(classes, values)
        return np.exp(-np.bincount(pairs.group, pairs.share * np.log(pairs.share), minlength=len(classes)))

    return _over(data, quasi_identifiers, sensitive, "entropy_l", entropy, worst=np.minimum)


def recursive_diversity(data: Any, quasi_identifiers: Sequence[str], sensitive: str | Sequence[str], l: int) -> Measure:  # noqa: E741
    """The c of recursive (c, l)-diversity: r₁ / (r_l + … + r_m), with a class's counts r from the commonest value to the rarest.

    A table is recursively (c, l)-diverse for every c above the value (Machanavajjhala and others, definition 4.2); with fewer than l values in
    a class it is infinite. pycanon sorts the counts the other way round, so its c is another number.
    """
    if l < 2:
        raise UsageError("Recursive diversity is for an l of 2 or more.")

    def recursive(classes: Classes, values: Values) -> NDArray[np.float64]:
        pairs = _Pairs(classes, values)
        order = np.lexsort((-pairs.count, pairs.group))  # pairs stay sorted by class, commonest value first
        counts = pairs.count[order].astype(np.float64)
        place = np.arange(len(counts)) - np.repeat(pairs.start, pairs.distinct)
        tail = np.bincount(pairs.group, np.where(place >= l - 1, counts, 0.0), minlength=len(classes))
        with np.errstate(divide="ignore"):
            ratio: NDArray[np.float64] = counts[pairs.start] / tail
        return ratio

    return _over(data, quasi_identifiers, sensitive, "c", recursive, worst=np.maximum)


def alpha_anonymity(data: Any, quasi_identifiers: Sequence[str], sensitive: str | Sequence[str]) -> Measure:
    """α of (α, k)-anonymity: the largest share that one sensitive value has in a class (Wong and others, (α, k)-Anonymity, KDD 2006)."""

    def largest_share(classes: Classes, values: Values) -> NDArray[np.float64]:
        pairs = _Pairs(classes, values)
        largest: NDArray[np.float64] = np.maximum.reduceat(pairs.share, pairs.start)
        return largest

    return _over(data, quasi_identifiers, sensitive, "alpha", largest_share, worst=np.maximum)


def t_closeness(data: Any, quasi_identifiers: Sequence[str], sensitive: str | Sequence[str]) -> Measure:
    """t: the largest earth mover's distance from a class's distribution of sensitive values to that of all rows, between 0 and 1.

    Numbers, dates and times are as far apart as their ranks (ordered distance), other values all equally far (Li, Li and Venkatasubramanian,
    t-Closeness, ICDE 2007, section 4). Parameters and errors as in `l_diversity`.
    """
    return t_of(equivalence_classes(data, quasi_identifiers), data, sensitive)


def k_of(classes: Classes) -> Measure:
    """k of known classes."""
    return Measure("k", int(classes.sizes.min()), classes.sizes.astype(np.float64), classes, largest_is_worst=False)


def l_of(classes: Classes, data: Any, sensitive: str | Sequence[str]) -> Measure:
    """Distinct l of known classes."""
    return _of(classes, data, sensitive, "l", distinct_values, worst=np.minimum)


def t_of(classes: Classes, data: Any, sensitive: str | Sequence[str]) -> Measure:
    """t of known classes."""

    def to_all(classes: Classes, values: Values) -> NDArray[np.float64]:
        return distance(classes, values, shares(values))

    return _of(classes, data, sensitive, "t", to_all, worst=np.maximum)


def distinct_values(classes: Classes, values: Values) -> NDArray[np.float64]:
    """How many distinct values each class has."""
    return _Pairs(classes, values).distinct.astype(np.float64)


def shares(values: Values) -> NDArray[np.float64]:
    """The share of rows that has each distinct value."""
    counts = np.bincount(values.codes, minlength=len(values.distinct))
    return np.asarray(counts / len(values.codes), dtype=np.float64)


def distance(classes: Classes, values: Values, everywhere: NDArray[np.float64]) -> NDArray[np.float64]:
    """The earth mover's distance of each class's distribution of `values` to the one whose shares are `everywhere`."""
    pairs = _Pairs(classes, values)
    if values.ordered:
        return _ordered_distance(pairs, everywhere, len(classes))
    here = everywhere[pairs.value]
    # Values that a class lacks add their whole share: together what its own values leave of 1.
    beyond = np.bincount(pairs.group, np.abs(pairs.share - here) - here, minlength=len(classes))
    return np.asarray((beyond + 1.0) / 2.0, dtype=np.float64)


def _ordered_distance(pairs: _Pairs, everywhere: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Σ over ranks i of |Q_i − P_i| / (m − 1), where Q and P are cumulative shares in the class and in all rows.

    Q is constant from one value of the class to its next, and P rises, so each such stretch is two differences of P's running sum.
    """
    ranks = len(everywhere)
    if ranks == 1:
        return np.zeros(classes)
    whole = np.cumsum(everywhere)
    running = np.concatenate([[0.0], np.cumsum(whole)])  # running[i] = P_0 + … + P_(i-1)
    counted = np.cumsum(pairs.count)  # whole numbers, so that nothing is lost over a million classes
    before = counted[pairs.start] - pairs.count[pairs.start]
    level = (counted - np.repeat(before, pairs.distinct)) / pairs.size
    end = np.concatenate([pairs.value[1:], [ranks]])
    end[pairs.start[1:] - 1] = ranks
    begin = pairs.value
    turn: NDArray[np.int64] = np.clip(np.searchsorted(whole, level), begin, end)  # below it Q is above P
    stretch = level * (turn - begin) - (running[turn] - running[begin]) + (running[end] - running[turn]) - level * (end - turn)
    total = np.bincount(pairs.group, stretch, minlength=classes) + running[begin[pairs.start]]
    distances: NDArray[np.float64] = np.abs(total) / (ranks - 1)
    return distances


class _Pairs:
    """The distinct values of each class with their counts, sorted by class, then by value.

    Attributes
    ----------
    group, value, count, size, share
        Of each pair: class, value, rows, rows of the class, and the one over the other.
    start, distinct
        Of each class: its first pair, and how many it has.
    """

    __slots__ = ("count", "distinct", "group", "share", "size", "start", "value")

    def __init__(self, classes: Classes, values: Values) -> None:
        kinds = len(values.distinct)
        key = classes.of_row * kinds + values.codes
        if len(classes) * kinds <= 4 * len(key):  # counting is quicker than sorting where there is room
            counts = np.bincount(key, minlength=len(classes) * kinds)
            found = np.flatnonzero(counts)
            self.count = counts[found]
        else:
            found, self.count = np.unique(key, return_counts=True)
        self.group, self.value = np.divmod(found, kinds)
        self.size = classes.sizes[self.group]
        self.share = self.count / self.size
        self.distinct = np.bincount(self.group, minlength=len(classes))
        self.start = np.cumsum(self.distinct) - self.distinct


def _over(
    data: Any,
    quasi_identifiers: Sequence[str],
    sensitive: str | Sequence[str],
    name: str,
    measure: Callable[[Classes, Values], NDArray[np.float64]],
    *,
    worst: np.ufunc,
) -> Measure:
    return _of(equivalence_classes(data, quasi_identifiers), data, sensitive, name, measure, worst=worst)


def _of(
    classes: Classes,
    data: Any,
    sensitive: str | Sequence[str],
    name: str,
    measure: Callable[[Classes, Values], NDArray[np.float64]],
    *,
    worst: np.ufunc,
) -> Measure:
    columns = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
    if not columns:
        raise UsageError("Name one sensitive column or more.")
    of_class = worst.reduce([measure(classes, values_of(data, column)) for column in columns])
    return Measure(name, float(worst.reduce(of_class)), of_class, classes, largest_is_worst=worst is np.maximum)
