"""Coarser quasi-identifiers until every class is large enough: strict multidimensional Mondrian.

LeFevre, DeWitt and Ramakrishnan, Mondrian Multidimensional K-Anonymity, ICDE 2006. The table is cut in two again and again, each part along
the quasi-identifier that it is widest in, as near to its middle as both halves stay good; a part that no cut leaves good is a class. All parts
of one depth are cut together, so the time grows with the rows and the depth and not with the number of classes. No row is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.frames import as_table
from affidavit.interfaces.schema import FieldType
from affidavit_governance.masking.anonymity.classes import Classes, Values, values_of
from affidavit_governance.masking.anonymity.measures import TOLERANCE, distance, distinct_values, shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUPPRESSED = "*"
OPERATOR = "mondrian"


@dataclass(frozen=True, slots=True)
class Anonymised:
    """A table with coarser quasi-identifiers.

    Attributes
    ----------
    data
        A `Dataset` where one was given, else an Arrow table. Quasi-identifiers are text: ``25`` or ``[25, 34]`` for numbers, dates and times,
        ``{a, b}`` for categories, ``*`` for all categories or where only some values of a class are missing.
    k
        The smallest class.
    classes
        How many classes there are.
    loss
        Normalised certainty penalty (Xu and others, Utility-Based Anonymization, KDD 2006), the mean over rows and quasi-identifiers: 0 where
        nothing was made coarser, 1 where nothing is left. A class's penalty is the width of its interval over the column's, or the share of
        the column's categories that it has where it has more than one.
    loss_of
        The same by quasi-identifier.
    """

    data: pa.Table | Dataset
    k: int
    classes: int
    loss: float
    loss_of: Mapping[str, float]


def anonymise(
    data: Any,
    quasi_identifiers: Sequence[str],
    k: int,
    *,
    sensitive: Sequence[str] = (),
    l: int | None = None,  # noqa: E741 - the measure's published name
    t: float | None = None,
) -> Anonymised:
    """Make the quasi-identifiers coarser until every class has `k` rows, `l` distinct values and distance `t` at most in each sensitive column.

    The same table gives the same result; `data` is not changed, and its other columns and the order of its rows stay.

    Parameters
    ----------
    data
        A `Dataset`, an Arrow table, a pandas or Polars frame, or a dict of columns.
    sensitive
        The columns that `l` and `t` are about.

    Raises
    ------
    UsageError
        A bound that makes no sense, no quasi-identifier, an unknown column, or `l` or `t` without sensitive columns.
    InvalidInput
        The table as one class does not satisfy the bounds: it has fewer than `k` rows, or fewer than `l` distinct values.
    """
    names = tuple(quasi_identifiers)
    if not names or len(set(names)) < len(names) or isinstance(quasi_identifiers, str):
        raise UsageError("Name one quasi-identifier or more, each once.")
    if k < 1 or (l is not None and l < 1) or (t is not None and not 0 <= t <= 1):
        raise UsageError("k and l are 1 or more, and t is between 0 and 1.")
    if (l is not None or t is not None) and not sensitive:
        raise UsageError("l and t are about sensitive columns: name one or more.")
    source = data if isinstance(data, Dataset) else as_table(data)
    columns = [values_of(source, name) for name in names]
    secret = [values_of(source, name) for name in sensitive] if l is not None or t is not None else []
    if len(columns[0].codes) < max(k, 1):
        raise InvalidInput(f"The table has {len(columns[0].codes)} rows, so no class can have {k}.")
    few = [name for name, values in zip(sensitive, secret, strict=bool(secret)) if l is not None and len(values.distinct) < l]
    if few:
        raise InvalidInput(f"Sensitive column '{few[0]}' has fewer than {l} distinct values in the whole table.", hint="Ask for a smaller l.")
    part = _partition(columns, k, secret, l, t)
    sizes = np.bincount(part)
    labels, losses = {}, {}
    for name, values in zip(names, columns, strict=True):
        labels[name], penalty = _generalise(values, part, len(sizes))
        losses[name] = float(penalty @ sizes) / len(part)
    changed = _with_columns(source, labels, k=k, l=l, t=t)
    return Anonymised(changed, int(sizes.min()), len(sizes), sum(losses.values()) / len(losses), losses)


def _with_columns(source: pa.Table | Dataset, labels: Mapping[str, pa.Array], **asked: float | None) -> pa.Table | Dataset:
    table = source.table if isinstance(source, Dataset) else source
    for name, values in labels.items():
        table = table.set_column(table.column_names.index(name), name, values)
    if not isinstance(source, Dataset):
        return table
    schema = source.schema
    for name in labels:
        schema = schema.change(name, type=FieldType.CATEGORICAL, masked=OPERATOR, bounds=None, categories=None)
    parameters = {name: bound for name, bound in asked.items() if bound is not None}
    return source.derive(table, schema, "anonymise", columns=list(labels), **parameters)


# -- cutting -----------------------------------------------------------------------------------------------------------------------------


def _partition(columns: Sequence[Values], k: int, secret: Sequence[Values], l: int | None, t: float | None) -> NDArray[np.int64]:  # noqa: E741
    """The class of each row, numbered from 0."""
    rows = len(columns[0].codes)
    part = np.zeros(rows, dtype=np.int64)
    count = 1
    growing = np.arange(rows)  # rows of parts that may still be cut
    scales = [_scale(values) for values in columns]
    while len(growing):
        of_row = np.unique(part[growing], return_inverse=True)[1].reshape(-1)
        parts = int(of_row.max()) + 1
        widths = np.stack([_widths(values, scale, growing, of_row, parts)[0] for values, scale in zip(columns, scales, strict=True)])
        preference = np.argsort(-widths, axis=0, kind="stable")  # of equally wide columns the one that was named first
        right = np.zeros(len(growing), dtype=np.bool_)
        cut = np.zeros(parts, dtype=np.bool_)
        for choice in preference:
            waiting = ~cut & (widths[choice, np.arange(parts)] > 0)
            chosen = np.flatnonzero(waiting[of_row])
            if len(chosen) == 0:
                continue
            keys = np.empty(len(chosen), dtype=np.int64)
            for position, values in enumerate(columns):
                mine = choice[of_row[chosen]] == position
                keys[mine] = values.codes[growing[chosen[mine]]]
            upper, made = _halves(keys, of_row[chosen], parts, k)
            made = _good(made, upper, growing[chosen], of_row[chosen], secret, l, t)
            right[chosen] = upper & made[of_row[chosen]]
            cut |= made
        numbers = np.cumsum(cut) - 1 + count
        part[growing[right]] = numbers[of_row[right]]
        count += int(cut.sum())
        growing = growing[cut[of_row]]
    return part


def _scale(values: Values) -> NDArray[np.float64]:
    """Where each distinct value lies between 0 and 1; what is missing lies at 0."""
    if not values.ordered or len(values.distinct) - values.has_missing < 2:
        return np.arange(len(values.distinct)) / max(len(values.distinct) - 1, 1)
    known = values.distinct[int(values.has_missing) :]
    if pa.types.is_temporal(known.type):
        known = known.cast(pa.int32() if known.type.bit_width == 32 else pa.int64())
    numbers = known.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    finite = np.clip(numbers, -np.finfo(float).max / 4, np.finfo(float).max / 4)  # so that the width is finite
    scale = (finite - finite[0]) / (finite[-1] - finite[0])
    return np.concatenate([[0.0], scale]) if values.has_missing else scale


def _widths(
    values: Values, scale: NDArray[np.float64], rows: NDArray[np.int64], of_row: NDArray[np.int64], parts: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """How wide each part is in one column, between 0 and 1, and its smallest and largest code."""
    codes = values.codes[rows]
    low = np.full(parts, len(values.distinct), dtype=np.int64)
    high = np.full(parts, -1, dtype=np.int64)
    np.minimum.at(low, of_row, codes)
    np.maximum.at(high, of_row, codes)
    if values.ordered:
        # Large whole numbers that differ may be one as floats; the part can be cut between them all the same.
        width = np.where(high > low, np.maximum(scale[high] - scale[low], np.finfo(float).eps), 0.0)
        if values.has_missing:  # an interval cannot say "or missing": such a part shows nothing of the column
            width = np.where((low == 0) & (high > 0), 1.0, width)
    else:
        kinds = np.bincount(_distinct(of_row * len(values.distinct) + codes) // len(values.distinct), minlength=parts)
        width = np.where(kinds > 1, kinds / len(values.distinct), 0.0)
        if values.has_missing:
            width = np.where((low == 0) & (high > 0), 1.0, width)
    return width, low, high


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct keys in order; by sorting, which is several times as quick as `np.unique`'s hashing here."""
    ordered = np.sort(keys)
    found: NDArray[np.int64] = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return found


def _halves(keys: NDArray[np.int64], of_row: NDArray[np.int64], parts: int, k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each row whether it is above its part's cut, and for each part whether there is a cut that leaves `k` rows on both sides.

    The cut stands between two values, as near to the middle of the part's rows as it can.
    """
    order = np.lexsort((keys, of_row))
    sorted_part, sorted_key = of_row[order], keys[order]
    size = np.bincount(of_row, minlength=parts)
    begin = np.cumsum(size) - size
    border = np.flatnonzero((sorted_part[1:] == sorted_part[:-1]) & (sorted_key[1:] != sorted_key[:-1])) + 1
    owner = sorted_part[border]
    below = border - begin[owner]
    allowed = (below >= k) & (size[owner] - below >= k)
    border, owner, below = border[allowed], owner[allowed], below[allowed]
    nearest = np.lexsort((below, np.abs(2 * below - size[owner]), owner))
    owners, at = np.unique(owner[nearest], return_index=True)
    threshold = np.full(parts, np.iinfo(np.int64).max)
    threshold[owners] = sorted_key[border[nearest[at]]]
    made = np.zeros(parts, dtype=np.bool_)
    made[owners] = True
    return keys >= threshold[of_row], made


def _good(
    made: NDArray[np.bool_],
    upper: NDArray[np.bool_],
    rows: NDArray[np.int64],
    of_row: NDArray[np.int64],
    secret: Sequence[Values],
    l: int | None,  # noqa: E741
    t: float | None,
) -> NDArray[np.bool_]:
    """Which cuts leave both halves with `l` distinct values and distance `t` in each sensitive column."""
    mine = made[of_row]
    if not secret or not mine.any():
        return made
    halves, of_half = np.unique(of_row[mine] * 2 + upper[mine], return_inverse=True)
    of_half = of_half.reshape(-1)
    classes = Classes((), of_half, np.bincount(of_half), np.zeros(len(halves), dtype=np.int64))
    bad = np.zeros(len(halves), dtype=np.bool_)
    for values in secret:
        here = Values(values.codes[rows[mine]], values.distinct, values.ordered)
        if l is not None:
            bad |= distinct_values(classes, here) < l
        if t is not None:
            bad |= distance(classes, here, shares(values)) > t + TOLERANCE
    good = made.copy()
    good[halves[bad] // 2] = False
    return good


# -- showing -----------------------------------------------------------------------------------------------------------------------------


def _generalise(values: Values, part: NDArray[np.int64], parts: int) -> tuple[pa.Array, NDArray[np.float64]]:
    """What a column shows of each row, and each class's penalty."""
    everything = np.arange(len(part))
    penalty, low, high = _widths(values, _scale(values), everything, part, parts)
    texts = _texts(values.distinct)
    labels: list[str | None]
    if values.ordered:
        labels = [_interval(texts, first, last) for first, last in zip(low.tolist(), high.tolist(), strict=True)]
    else:
        pairs = _distinct(part * len(texts) + values.codes)
        owner, code = np.divmod(pairs, len(texts))
        groups = np.split(code, np.flatnonzero(np.diff(owner)) + 1)
        labels = [_set(texts, members.tolist()) for members in groups]
    return pa.array(labels, pa.string()).take(pa.array(part)), penalty


def _texts(distinct: pa.Array) -> list[str | None]:
    if pa.types.is_binary(distinct.type) or pa.types.is_large_binary(distinct.type) or pa.types.is_fixed_size_binary(distinct.type):
        return [None if value is None else value.hex() for value in distinct.to_pylist()]
    texts: list[str | None] = pc.cast(distinct, pa.string()).to_pylist()
    return texts


def _interval(texts: Sequence[str | None], first: int, last: int) -> str | None:
    if first == last:
        return texts[first]
    return SUPPRESSED if texts[first] is None else f"[{texts[first]}, {texts[last]}]"


def _set(texts: Sequence[str | None], members: Sequence[int]) -> str | None:
    if len(members) == 1:
        return texts[members[0]]
    if len(members) == len(texts) or texts[members[0]] is None:
        return SUPPRESSED
    return "{" + ", ".join(str(texts[code]) for code in members) + "}"
