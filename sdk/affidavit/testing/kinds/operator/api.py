"""Checks of a masking operator as such: what `apply` and `field` promise."""

from __future__ import annotations

import concurrent.futures
import functools

import pyarrow as pa

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import Operator
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.operator.subject import COLUMN, KEY, OperatorSubject, values_of
from affidavit.testing.process_state import left_alone
from affidavit.testing.report import Tier

OTHER_KEYS = (bytes([255]) + KEY[1:], KEY[:-1] + b"\xff", bytes(reversed(KEY)))
"""Keys that differ from `KEY` in the first byte, in the last one, and in all."""


@check("operator", Tier.API)
def operator_is_what_it_registered(subject: OperatorSubject) -> None:
    """The class is an `Operator`, and its `name` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, Operator)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.interfaces.masking.Operator.")
    if getattr(subject.value, "name", None) != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{getattr(subject.value, 'name', None)}': give both the same name.")


@check("operator", Tier.API)
def a_column_is_masked_or_refused_by_name(subject: OperatorSubject) -> None:
    """It masks at least one type of column, and refuses each other with UsageError or InvalidInput, which names the column."""
    served = 0
    for name in subject.columns:
        try:
            subject.mask(subject.column(name), subject.field(name))
        except (UsageError, InvalidInput) as error:
            if COLUMN not in str(error):
                raise CheckFailed(f"its refusal of a column of {name} does not name the column: say \"Column '{{field.name}}'\".") from error
        except Exception as error:
            raise CheckFailed(f"a column of {name} raised {type(error).__name__}: mask it, or raise UsageError.") from error
        else:
            served += 1
    if not served:
        raise CheckFailed("with these settings it masks none of the kit's columns: give its OperatorCase settings and values that go together.")


@check("operator", Tier.API)
def rows_and_gaps_stay(subject: OperatorSubject) -> None:
    """A column comes out with as many rows, and what was missing is missing still."""
    for name in subject.served:
        column = subject.column(name)
        masked = subject.make().apply(column, subject.field(name), subject.context(len(column)))
        if masked is None:
            continue
        if not isinstance(masked, pa.ChunkedArray):
            raise CheckFailed(f"apply gave {type(masked).__name__}, not a pyarrow.ChunkedArray or None.")
        masked.validate(full=True)
        if len(masked) != len(column):
            raise CheckFailed(f"of {len(column)} rows {len(masked)} came out.")
        if any(given is None and made is not None for given, made in zip(values_of(column) or [], values_of(masked) or [], strict=True)):
            raise CheckFailed(f"a missing value in a column of {name} came out as something: leave gaps as they are.")


@check("operator", Tier.API)
def the_column_given_is_not_changed(subject: OperatorSubject) -> None:
    """`apply` makes a new column."""
    for name in subject.served:
        column = subject.column(name)
        before = _bytes(column)
        subject.mask(column, subject.field(name))
        if _bytes(column) != before:
            raise CheckFailed(f"it changed the column of {name} that it was given: work on a copy.")


@check("operator", Tier.API)
def layout_makes_no_difference(subject: OperatorSubject) -> None:
    """Chunks, the offset of a slice and dictionary encoding of a column change nothing."""
    for name in subject.served:
        column, field = subject.column(name), subject.field(name)
        array, whole = column.combine_chunks(), subject.mask(subject.column(name), field)
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        two = pa.chunked_array([array.slice(0, 2), array.slice(0, 0), array.slice(2)])
        same(subject, whole, subject.mask(two, field), f"a column of {name} in three chunks")
        framed = pa.concat_arrays([array.slice(1, 1), array, array.slice(0, 1)]).slice(1, len(array))
        same(subject, whole, subject.mask(pa.chunked_array([framed]), field), f"a slice of a column of {name}")
        if pa.types.is_string(array.type):
            same(subject, whole, subject.mask(pa.chunked_array([array.dictionary_encode()]), field), "text in a dictionary")
            same(subject, whole, subject.mask(pa.chunked_array([array.cast(pa.large_string())]), field), "text as large_string")


@check("operator", Tier.API)
def the_type_does_not_depend_on_the_rows(subject: OperatorSubject) -> None:
    """A column without rows, or without a value, comes out in the same type, so that the batches of a stream agree."""
    for name in subject.served:
        field, kind = subject.field(name), subject.column(name).type
        masked = subject.mask(subject.column(name), field)
        for what, other in (("no rows", pa.chunked_array([], type=kind)), ("gaps alone", pa.chunked_array([pa.nulls(2, kind)]))):
            try:
                found = subject.mask(other, field)
            except Exception as error:
                raise CheckFailed(f"a column of {name} with {what} raised {type(error).__name__}: masking it changes nothing.") from error
            if (found is None) != (masked is None) or (found is not None and masked is not None and found.type != masked.type):
                was, now = ("nothing" if each is None else str(each.type) for each in (masked, found))
                raise CheckFailed(f"a column of {name} comes out as {was}, one with {what} as {now}: make the type from the column's type alone.")


@check("operator", Tier.API)
def a_value_is_masked_alike_wherever_it_stands(subject: OperatorSubject) -> None:
    """Neither neighbours nor order change what becomes of a value, unless the case says that it draws at random."""
    for name in subject.served:
        field, column = subject.field(name), subject.column(name)
        whole = values_of(subject.mask(subject.column(name), field))
        if whole is None or subject.case.random or len(whole) != len(column):
            continue
        subjects = subject.context(len(column)).subjects
        for row in range(len(column)):
            changes = {} if subjects is None else {"subjects": subjects.slice(row, 1)}
            alone = values_of(subject.mask(subject.column(name).slice(row, 1), field, **changes))
            if alone != [whole[row]]:
                raise CheckFailed(
                    f"a value of a column of {name} becomes another one alone than among others: make it from the value and the key, "
                    "or say random=True in the case."
                )


@check("operator", Tier.API)
def every_byte_of_the_key_counts(subject: OperatorSubject) -> None:
    """Another key gives other values, whichever byte of it differs; or the key changes nothing at all."""
    for name in subject.served:
        field = subject.field(name)
        own = values_of(subject.mask(subject.column(name), field))
        if own is None or subject.case.random:
            continue
        others = {values_of(subject.mask(subject.column(name), field, key=key)) != own for key in OTHER_KEYS}
        if len(others) > 1:
            raise CheckFailed("some bytes of the key make no difference: use context.derive(purpose), which takes them all.")


@check("operator", Tier.API)
def claimed_idempotence_is_true(subject: OperatorSubject) -> None:
    """An operator that is `idempotent` leaves what it masked already, also where fresh values stand beside it."""
    if not subject.value.idempotent:
        raise Skip("it does not claim it: lineage keeps its columns from being masked twice")
    for name in subject.served:
        column, field = subject.column(name), subject.field(name)
        once = subject.mask(subject.column(name), field)
        if once is None:
            continue
        what = f"a column of {name} that is masked twice"
        try:
            same(subject, once, subject.mask(pa.chunked_array([pa.array(once.to_pylist(), once.type)]), field), what)
            if once.type == column.type:
                people = subject.context(len(column)).subjects
                changes = {} if people is None else {"subjects": pa.chunked_array([*people.chunks, *people.chunks])}
                mixed = subject.mask(pa.chunked_array([pa.concat_arrays([*once.chunks, *column.chunks])]), field, **changes)
                same(subject, pa.chunked_array([*once.chunks, *once.chunks], type=once.type), mixed, "a column that is masked in part")
        except AffidavitError as error:
            raise CheckFailed(f"{what} raised {type(error).__name__}: recognise what is masked, or set idempotent = False.") from error


@check("operator", Tier.API)
def values_do_not_survive(subject: OperatorSubject) -> None:
    """No value comes out as it went in, nor stays in a buffer, unless `scan_after` or the case says that values may show."""
    if subject.shows:
        raise Skip("it says that values may show")
    for name in subject.served:
        column = subject.column(name)
        masked = subject.mask(subject.column(name), subject.field(name))
        if masked is None:
            continue
        given = {str(value) for value in values_of(column) or [] if value is not None and len(str(value)) >= 6}
        if given & {str(value) for value in values_of(masked) or []}:
            raise CheckFailed(
                f"a value of a column of {name} came out as it was: set scan_after = True if parts may show, so that they are searched, "
                "or keeps_values in the case."
            )
        written = _bytes(masked)
        if any(value.encode() in written for value in given):
            raise CheckFailed(f"a value of a column of {name} is left in a buffer that no row shows: make the column anew.")


@check("operator", Tier.API)
def claimed_spans_are_true(subject: OperatorSubject) -> None:
    """An operator with `spans` gives a text for each finding inside longer texts, which come without table and subjects."""
    if not subject.fits_texts:
        raise Skip("it does not claim it, or its settings fit no text")
    found = pa.chunked_array([pa.array(["0034 91 2345679", "4111 1111 1111 1234"])])
    field = Field("PHONE_NUMBER", FieldType.TEXT, entity="PHONE_NUMBER")
    try:
        masked = subject.mask(found, field, table="")
    except Exception as error:
        raise CheckFailed(f"it claims 'spans', and texts raised {type(error).__name__}: mask them, or set spans = False.") from error
    values = values_of(masked)
    if values is None or len(values) != 2 or not all(isinstance(value, str) for value in values):
        raise CheckFailed("it claims 'spans' and gives no text for each text: such a finding could not be put back into its sentence.")


@check("operator", Tier.API)
def the_schema_says_what_was_done(subject: OperatorSubject) -> None:
    """`field` describes the masked column: who masked it, a type that its values have, and no value of before."""
    for name in subject.served:
        column = subject.column(name)
        masked = subject.mask(column, subject.field(name))
        given = [value for value in values_of(column) or [] if value is not None]
        before = Field(COLUMN, subject.field(name).type, entity="KIT_ENTITY", categories=tuple(dict.fromkeys(str(value) for value in given)))
        operator = subject.make()
        after = operator.field(before)
        if masked is None:
            continue
        if after.name != before.name or after.entity != before.entity:
            raise CheckFailed("field changed the name or the entity: change only what masking changes, by dataclasses.replace.")
        if after.masked != operator.name and not (subject.case.keeps_values and after == before):
            raise CheckFailed("field does not say who masked the column: begin with super().field(field).")
        if not subject.shows and {value for value in before.categories or () if len(value) >= 6} & set(after.categories or ()):
            raise CheckFailed("field keeps the categories of before, which are values, and the schema stands in the ledger: set categories=None.")
        _fits(masked, after)


@check("operator", Tier.API)
def threads_may_mask_at_once(subject: OperatorSubject) -> None:
    """One operator that masks four columns at once does with each what it does alone."""
    for name in subject.served[:1]:
        field, operator = subject.field(name), subject.make()
        alone = [subject.mask(part, field, operator=operator) for part in _parts(subject, name)]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                together = list(pool.map(functools.partial(subject.mask, field=field, operator=operator), _parts(subject, name)))
                for one, other in zip(alone, together, strict=True):
                    same(subject, one, other, "in threads a column")


@check("operator", Tier.API)
def masking_leaves_the_process_alone(subject: OperatorSubject) -> None:
    """Random generators, the environment, warning filters, logging and the SDK itself are after masking as they were before."""
    with left_alone() as changed:
        for name in subject.served:
            subject.mask(subject.column(name), subject.field(name))
    if changed:
        raise CheckFailed(f"it changed {', '.join(changed)} of the whole process: use objects of its own, or put things back.")


def same(subject: OperatorSubject, first: pa.ChunkedArray | None, second: pa.ChunkedArray | None, what: str) -> None:
    """Raise CheckFailed unless two masked columns hold the same; of one that draws at random, the same gaps."""
    a, b = values_of(first), values_of(second)
    if subject.case.random and a is not None and b is not None:
        a, b = [value is None for value in a], [value is None for value in b]
    if a != b:
        raise CheckFailed(f"{what} comes out otherwise.")


def _fits(masked: pa.ChunkedArray, after: Field) -> None:
    """Raise CheckFailed unless the column can stand in a data set under `after`."""
    known = [value for value in values_of(masked) or [] if value is not None]
    if after.categories is not None and not {str(value) for value in known} <= set(after.categories):
        raise CheckFailed("field names categories that the masked values are not of.")
    if after.bounds is not None and not all(after.bounds[0] <= value <= after.bounds[1] for value in known):
        raise CheckFailed("field names bounds that the masked values are not in.")
    data = Dataset(pa.table({after.name: masked}), Schema((after,)), name="masked")
    try:
        data.fingerprint  # noqa: B018 - worked out, also under python -O
        if after.type in (FieldType.NUMERIC, FieldType.BOOLEAN, FieldType.DATETIME):
            data.to_numpy(after.name)
        elif after.type is not FieldType.TENSOR:
            data.to_text(after.name)
        kind = masked.type.value_type if pa.types.is_dictionary(masked.type) else masked.type
        if after.type is FieldType.NUMERIC and not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            raise UsageError(f"its values are {kind}")
    except Exception as error:
        raise CheckFailed(f"field says that the masked column is {after.type}, and it cannot be read as such ({error}).") from error


def _parts(subject: OperatorSubject, name: str) -> list[pa.ChunkedArray]:
    """Four columns of different lengths and values."""
    return [pa.chunked_array(subject.column(name).slice(start).chunks * (start + 1)) for start in range(4)]


def _bytes(column: pa.ChunkedArray) -> bytes:
    """A column as Arrow writes it, dictionaries and all."""
    sink = pa.BufferOutputStream()
    table = pa.table([column], names=["c"])
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
