"""Checks of the way back: what `reverse` promises, of operators that have one and of those that have none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.interfaces.schema import Field
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.operator.api import OTHER_KEYS
from affidavit.testing.kinds.operator.subject import OperatorSubject, as_column, values_of
from affidavit.testing.report import Tier


@check("operator", Tier.API)
def claimed_reversibility_is_true(subject: OperatorSubject) -> None:
    """`reverse` of a `reversible` operator gives the originals as text; one that claims nothing raises UsageError."""
    for name in subject.served:
        masked = subject.mask(subject.column(name), subject.field(name))
        if masked is None:
            continue
        if not subject.value.reversible:
            _refuses(subject, masked, subject.field(name))
            continue
        originals = originals_of(subject, name)
        if originals is None:
            continue
        try:
            found = values_of(_reversed(subject, masked, subject.field(name)))
        except Exception as error:
            raise CheckFailed(f"it claims 'reversible', and reverse raised {type(error).__name__} for what it masked itself.") from error
        if found != originals:
            raise CheckFailed(f"reverse gives other values than a column of {name} had, as text.")


@check("operator", Tier.API)
def only_its_own_values_are_reversed(subject: OperatorSubject) -> None:
    """A changed value, or one of another key or column, is IntegrityError; where the case says that it cannot tell, it shows no original."""
    if not subject.value.reversible:
        raise Skip("it does not claim to reverse anything")
    for name in subject.served:
        field, originals = subject.field(name), originals_of(subject, name)
        masked = subject.mask(subject.column(name), field)
        if masked is None or originals is None or subject.case.random:
            continue
        for key in OTHER_KEYS:
            _opens_nothing(subject, masked, field, originals, "another key", key=key)
        elsewhere = replace(field, name="elsewhere")
        if values_of(subject.mask(subject.column(name), elsewhere)) != values_of(masked):  # else its settings join columns on purpose
            _opens_nothing(subject, masked, elsewhere, originals, "another column")
        if subject.case.authenticated:
            changed = pa.chunked_array([pa.array([None if value is None else _changed(str(value)) for value in masked.to_pylist()], pa.string())])
            _opens_nothing(subject, changed, field, originals, "values of which one character was changed")
            _opens_nothing(subject, pa.chunked_array([pa.array(originals, pa.string())]), field, originals, "values that were never masked")


def originals_of(subject: OperatorSubject, name: str) -> list[str | None] | None:
    """The values of a column as text, where that has one form: of texts and whole numbers."""
    column = subject.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_integer(column.type)):
        return None
    return [None if value is None else str(value) for value in column.to_pylist()]


def _reversed(subject: OperatorSubject, masked: pa.ChunkedArray, field: Field, **changes: Any) -> pa.ChunkedArray | None:
    return as_column(subject.make().reverse(masked, field, subject.context(len(masked), **changes)))


def _refuses(subject: OperatorSubject, masked: pa.ChunkedArray, field: Field) -> None:
    try:
        _reversed(subject, masked, field)
    except UsageError:
        return
    except Exception as error:
        raise CheckFailed(f"it is not 'reversible', and reverse raised {type(error).__name__}, not UsageError: leave reverse as it is.") from error
    raise CheckFailed("reverse answers although the class does not say 'reversible': set reversible = True, or leave reverse as it is.")


def _opens_nothing(subject: OperatorSubject, masked: pa.ChunkedArray, field: Field, originals: list[str | None], what: str, **changes: Any) -> None:
    try:
        found = values_of(_reversed(subject, masked, field, **changes))
    except IntegrityError:
        return
    except AffidavitError as error:
        raise CheckFailed(f"reverse with {what} raised {type(error).__name__}, not IntegrityError.") from error
    except Exception as error:
        raise CheckFailed(f"reverse with {what} raised {type(error).__name__}: raise IntegrityError.") from error
    if subject.case.authenticated:
        raise CheckFailed(f"reverse with {what} gives values: authenticate them, or say authenticated=False in the case.")
    if any(value is not None and value == original for value, original in zip(found or [], originals, strict=False)):
        raise CheckFailed(f"reverse with {what} gives originals.")


def _changed(text: str) -> str:
    """`text` with another character in the middle, of the same kind."""
    middle = len(text) // 2
    return text[:middle] + ("b" if text[middle : middle + 1] != "b" else "c") + text[middle + 1 :]
