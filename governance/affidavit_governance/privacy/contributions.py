"""At most k rows of each user: what makes the privacy of a group of k records that of a user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from affidavit.errors import Refused
from affidavit_governance.privacy.randomness import Purpose, Randomness

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset


def bound_contributions(data: Dataset, user: str, most: int, source: Randomness) -> Dataset:
    """The rows of `data` without those that are more than `most` of one user, in the same order.

    Which rows of a user stay is drawn, never decided by what they hold, and independently of all other users, so that one user more or
    less changes no other's rows. Rows without a user count as those of one.

    Parameters
    ----------
    user
        The column that names each row's user. Masked values serve, as long as they tell users apart: pseudonyms do.

    Raises
    ------
    Refused
        The data set has no such column, or it tells no users apart.
    """
    if user not in data.schema.names:
        raise _refused(f"Data set '{data.name}' has no column '{user}' that could say whose each row is.")
    codes = _codes(data.column(user))
    if not codes.any():
        raise _refused(f"Column '{user}' of data set '{data.name}' has one value in all rows, which tells no users apart: it may have been masked.")
    return data.filter(chosen(codes, most, source), operation="bound-contributions", user=user, most=most)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each different value, one for all that are missing, shape (rows,)."""
    if pa.types.is_dictionary(column.type):  # which may hold a value twice
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        # All NaN are missing, whatever their bits, and -0 is 0.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), pc.add(column, pa.scalar(0.0).cast(column.type)))
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def chosen(users: Sequence[int] | NDArray[np.int64], most: int, source: Randomness) -> NDArray[np.bool_]:
    """Which rows take part: of each user `most`, any equally likely; shape (rows,)."""
    codes = np.asarray(users, dtype=np.int64)
    order = np.lexsort((source.words(Purpose.CONTRIBUTIONS, 0, len(codes)), codes))
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(codes) else np.zeros(0, dtype=np.int64)
    rank = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    kept = np.zeros(len(codes), dtype=np.bool_)
    kept[order[rank < most]] = True
    return kept


def _refused(message: str) -> Refused:
    return Refused(
        message,
        by="privacy",
        line="privacy.user",
        satisfy="Keep the column, under a pseudonym (masking.fields), or choose another unit.",
    )
