"""The chance that somebody finds a person again in a released table.

The three attackers are those of El Emam, Guide to the De-Identification of Personal Health Information, 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.errors import InvalidInput
from affidavit_governance.masking.anonymity.classes import Values, encode, equivalence_classes, group, read_column


@dataclass(frozen=True, slots=True)
class Risk:
    """Re-identification risks, each a probability between 0 and 1.

    Attributes
    ----------
    prosecutor
        The worst row's risk against somebody who knows that a person is in the table: 1 over the smallest class.
    journalist
        The worst row's risk against somebody who looks in the population: 1 over the smallest class there that the table touches. Without a
        population table it is the prosecutor's.
    marketer
        The mean of all rows' risks: the share of rows that matching everybody would get right.
    uniques
        Rows that no other row shares its quasi-identifiers with.
    rows, classes
        Of the table.
    """

    prosecutor: float
    journalist: float
    marketer: float
    uniques: int
    rows: int
    classes: int


def reidentification_risk(data: Any, quasi_identifiers: Sequence[str], *, population: Any = None) -> Risk:
    """The risks of `data` over its quasi-identifiers.

    Parameters
    ----------
    data
        What is released: a `Dataset`, an Arrow table, a pandas or Polars frame, or a dict of columns.
    population
        Everybody whom the rows may be, `data` among them, with the same quasi-identifiers in the same form.

    Raises
    ------
    UsageError
        No quasi-identifier, or an unknown column.
    InvalidInput
        No rows, or the population lacks people whom the table has, or has columns of another type.
    """
    classes = equivalence_classes(data, quasi_identifiers)
    sizes, rows = classes.sizes, len(classes.of_row)
    around = sizes if population is None else _in_population(data, classes.columns, population)[classes.first]
    if (around < sizes).any():
        raise InvalidInput(
            f"The population lacks rows of {int((around < sizes).sum())} classes that the table has.", hint="It must hold the table's rows."
        )
    return Risk(
        prosecutor=1.0 / int(sizes.min()),
        journalist=1.0 / int(around.min()),
        marketer=float((sizes / around).sum()) / rows,
        uniques=int((sizes == 1).sum()),
        rows=rows,
        classes=len(classes),
    )


def _in_population(data: Any, names: tuple[str, ...], population: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each row of `data`, how many rows of the population share its quasi-identifiers."""
    together: list[Values] = []
    for name in names:
        here, there = read_column(data, name), read_column(population, name)
        try:
            joined = pa.chunked_array([*here.chunks, *there.cast(here.type).chunks], type=here.type)
        except pa.ArrowException:
            raise InvalidInput(f"Column '{name}' has the Arrow type {here.type} in the table and {there.type} in the population.") from None
        together.append(encode(joined, name))
    both = group(together, names)
    rows = len(read_column(data, names[0]))
    counts = np.bincount(both.of_row[rows:], minlength=len(both))
    of_row: np.ndarray[Any, np.dtype[np.int64]] = counts[both.of_row[:rows]]
    return of_row
