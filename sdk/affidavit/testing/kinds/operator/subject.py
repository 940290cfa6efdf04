"""A masking operator under check: how it is made, the columns on which it is tried, and the vault and subject keys that it may use."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa

from affidavit.errors import IntegrityError
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.schema import Field, FieldType
from affidavit.testing.checks import Skip
from affidavit.testing.subjects import Case, Subject, once

COLUMN = "contact"
"""What the column under mask is called."""
KEY = bytes(range(32))
TABLE = "people"
_DAY = dt.date(1987, 5, 17)

COLUMNS: Mapping[str, tuple[FieldType, Sequence[Any], pa.DataType]] = {
    "text": (
        FieldType.CATEGORICAL,
        ["+49 30 23125777", None, "+49 30 23125778", "+49 30 23125777", "0034 91 2345679", "4111 1111 1111 1234"],
        pa.string(),
    ),
    "whole numbers": (FieldType.NUMERIC, [4123456789, None, 4123456788, 4123456789, 3987654321, 90817263], pa.int64()),
    "numbers": (FieldType.NUMERIC, [412345.25, None, 412344.75, 412345.25, 398765.5, 908172.5], pa.float64()),
    "decimals": (FieldType.NUMERIC, [Decimal("4123456.25"), None, Decimal("4123455.75"), Decimal("4123456.25")], pa.decimal128(12, 2)),
    "truth values": (FieldType.BOOLEAN, [True, None, False, True], pa.bool_()),
    "dates": (FieldType.DATETIME, [_DAY, None, _DAY.replace(year=1990), _DAY, _DAY.replace(month=11), _DAY.replace(day=3)], pa.date32()),
    "times": (
        FieldType.DATETIME,
        [dt.datetime(1987, 5, 17, 4, 5, 6), None, dt.datetime(1990, 1, 2), dt.datetime(1987, 5, 17, 4, 5, 6)],
        pa.timestamp("us"),
    ),
}
"""By what they hold: the field's type, values with a gap and a repetition, and their Arrow type. Nobody's, and told from anything else: long enough
not to stand in some digest by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCase(Case):
    """How a masking operator is tried.

    Attributes
    ----------
    settings
        What it is told. Where a setting ``subject`` names a column, the kit brings one of that name.
    values
        At least two distinct values that these settings serve, where none of the kit's own columns do.
    keeps_values
        Whether values may come out as they went in, although the class does not say so by `scan_after`: of an operator such as ``keep``.
    random
        Whether it draws at random, so that one value becomes another each time.
    authenticated
        Whether `reverse` tells what it made from what was changed, or is of another key or column; format-preserving encryption cannot.
    """

    kind: ClassVar[str] = "operator"
    settings: Mapping[str, Any] = field(default_factory=dict)
    values: Sequence[Any] = ()
    keeps_values: bool = False
    random: bool = False
    authenticated: bool = True


class OperatorSubject(Subject[OperatorCase]):
    """A masking operator."""

    kind = "operator"
    Case = OperatorCase

    def make(self) -> Operator:
        """A new instance."""
        made: Operator = self.value(**self.case.settings)
        return made

    def column(self, name: str) -> pa.ChunkedArray:
        """One of the columns by what it holds, in buffers of its own: a careless operator may write to them."""
        if name == "values of the case":
            return pa.chunked_array([pa.array(self.case.values)])
        _, values, kind = COLUMNS[name]
        return pa.chunked_array([pa.array(values, kind)])

    @property
    def columns(self) -> list[str]:
        """What there is to try it on."""
        return [*(["values of the case"] if self.case.values else []), *COLUMNS]

    def field(self, name: str) -> Field:
        """The field of a column."""
        if name in COLUMNS:
            return Field(COLUMN, COLUMNS[name][0])
        kind = pa.array(self.case.values).type
        number, time = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind), pa.types.is_temporal(kind)
        return Field(COLUMN, FieldType.NUMERIC if number else FieldType.DATETIME if time else FieldType.CATEGORICAL)

    def context(self, rows: int, **changes: Any) -> MaskContext:
        """What the operator may use: one vault and one set of subject keys for all checks, as in a workspace."""
        subjects = pa.chunked_array([pa.array(people(rows))]) if self.make().subject is not None else None
        return replace(MaskContext(KEY, TABLE, subjects, self._vault, self._keys), **changes)

    def mask(self, column: pa.ChunkedArray, field: Field, *, operator: Operator | None = None, **changes: Any) -> pa.ChunkedArray | None:
        """What the operator, by default a new one, makes of a column; None where it leaves it out."""
        return as_column((operator or self.make()).apply(column, field, self.context(len(column), **changes)))

    @once
    def served(self) -> list[str]:
        """The columns that it masks. Raises Skip where there are none, which a check of its own says."""
        found = [name for name in self.columns if self._serves(name)]
        if not found:
            raise Skip("it masks none of the columns")
        return found

    def _serves(self, name: str) -> bool:
        try:
            self.mask(self.column(name), self.field(name))
        except Exception:  # whatever it is, a check of its own says so
            return False
        return True

    @property
    def fits_texts(self) -> bool:
        """Whether it is to mask findings inside longer texts, with these settings."""
        return bool(self.value.spans) and self.make().subject is None and "text" in self.served

    @property
    def shows(self) -> bool:
        """Whether it says that values may still show."""
        return self.case.keeps_values or bool(self.value.scan_after)

    @once
    def _vault(self) -> MemoryVault:
        return MemoryVault()

    @once
    def _keys(self) -> MemoryKeys:
        return MemoryKeys()


def people(rows: int) -> list[str]:
    """Whose each row is: two people by turns, so that a repeated value is of both."""
    return [f"s{row % 2 + 1}" for row in range(rows)]


def as_column(result: Any) -> pa.ChunkedArray | None:
    """What an operator gave, as a column, whatever it is: that it is none is said by a check of its own."""
    if result is None or isinstance(result, pa.ChunkedArray):
        return result
    return pa.chunked_array([result if isinstance(result, pa.Array) else pa.array(result)])


def values_of(column: pa.ChunkedArray | None) -> list[Any] | None:
    """The values of a column, NaN as missing; None where there is no column."""
    return None if column is None else [None if value != value else value for value in column.to_pylist()]


class MemoryVault:
    """A vault in memory (implements `affidavit.interfaces.masking.Vault`)."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str | None, bytes], bytes] = {}
        self._values: dict[tuple[str, bytes], bytes] = {}
        self._lock = threading.Lock()

    def tokens(self, values: Sequence[bytes], *, namespace: str, subjects: Sequence[str | None] | None = None) -> list[bytes]:
        """As `Vault.tokens`."""
        owners = subjects if subjects is not None else [None] * len(values)
        with self._lock:
            return [self._token(namespace, owner, value) for value, owner in zip(values, owners, strict=True)]

    def values(self, tokens: Sequence[bytes], *, namespace: str) -> list[bytes]:
        """As `Vault.values`."""
        try:
            return [self._values[namespace, token] for token in tokens]
        except KeyError:
            raise IntegrityError("The vault knows no such token in this namespace.") from None

    def _token(self, namespace: str, owner: str | None, value: bytes) -> bytes:
        token = self._tokens.setdefault((namespace, owner, value), os.urandom(16))
        self._values[namespace, token] = value
        return token


class MemoryKeys:
    """Subject keys in memory (implements `affidavit.interfaces.masking.SubjectKeys`)."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def keys(self, subjects: Sequence[str], *, create: bool = True) -> list[bytes]:
        """As `SubjectKeys.keys`."""
        if not create and not set(subjects) <= set(self._keys):
            raise IntegrityError("A subject has no key.")
        return [self._keys.setdefault(subject, os.urandom(32)) for subject in subjects]
