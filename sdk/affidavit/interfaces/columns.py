"""Columns as arrays and text, and rows brought into the columns that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.schema import Field, FieldType, Schema, shortlist

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.interfaces.dataset import Dataset

LARGEST_WHOLE = 2.0**53
"""Beyond this a float64 no longer holds every integer, so a fraction-free float is no label."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves, without dictionary, run-end, view or extension encoding."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        elif (contiguous := _contiguous(kind)) is not None:
            kind = contiguous
        else:
            return kind


def plain_array(values: pa.Array) -> pa.Array:
    """The values in their `plain_type`."""
    while True:
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        elif pa.types.is_dictionary(values.type):
            values = plain_array(values.dictionary).take(values.indices)
        elif pa.types.is_run_end_encoded(values.type):
            values = pc.run_end_decode(values)
        elif (contiguous := _contiguous(values.type)) is not None:
            values = values.cast(contiguous)
        else:
            return values


def _contiguous(kind: pa.DataType) -> pa.DataType | None:
    """The type that a view stands for; Arrow computes little on views."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else None


def tensor_shape(kind: pa.DataType) -> tuple[int, ...] | None:
    """The shape of one value of a fixed-shape tensor or fixed-size list of numbers, else None."""
    if isinstance(kind, pa.FixedShapeTensorType):
        shape = tuple(kind.shape)
        return shape if kind.permutation is None else tuple(shape[axis] for axis in kind.permutation)
    shape = ()
    while pa.types.is_fixed_size_list(kind):
        shape = (*shape, kind.list_size)
        kind = kind.value_type
    return shape if shape and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)) else None


def numeric_array(column: pa.ChunkedArray, field: Field) -> NDArray[np.float64]:
    """A column as float64: shape rows, or rows × shape for tensors; missing values are NaN. The array may be read-only.

    Booleans become 0 and 1, dates and times seconds since 1970-01-01 (UTC where no zone is given).

    Raises
    ------
    UsageError
        The column holds text.
    """
    if field.type is FieldType.TENSOR:
        parts = [_tensor_array(chunk) for chunk in column.chunks] or [np.empty((0, *(field.shape or ())))]
    else:
        parts = [_number_array(chunk, field.name) for chunk in column.chunks] or [np.empty(0)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _number_array(values: pa.Array, name: str) -> NDArray[np.float64]:
    values = plain_array(values)
    kind = values.type
    if pa.types.is_integer(kind) and not values.null_count:  # Arrow's cast costs ten times as much on one row
        whole: NDArray[np.float64] = values.to_numpy().astype(np.float64)
        return whole
    if pa.types.is_date(kind):
        values = values.cast(pa.timestamp("s"))
    elif not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_null(kind)
    ):
        raise UsageError(f"Column '{name}' holds {kind} values, not numbers.", hint="Encode it first; Dataset.to_list gives the values.")
    if pa.types.is_timestamp(values.type):
        ticks = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[values.type.unit]
        seconds: NDArray[np.float64] = values.view(pa.int64()).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / ticks
        return seconds
    if not pa.types.is_float64(values.type):
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.uint8())
        values = values.cast(pa.float64(), safe=False)
    array: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    return array


def _tensor_array(values: pa.Array) -> NDArray[np.float64]:
    shape = tensor_shape(values.type)
    assert shape is not None
    permutation = values.type.permutation if isinstance(values.type, pa.FixedShapeTensorType) else None
    physical = shape if permutation is None else tuple(values.type.shape)
    size = math.prod(shape)
    rows = len(values)
    empty = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    flat = plain_array(values)
    while pa.types.is_fixed_size_list(flat.type):
        width = flat.type.list_size
        flat = flat.values.slice(flat.offset * width, len(flat) * width)
    array = _number_array(flat, "tensor")[: rows * size].reshape((rows, *physical))
    if permutation is not None:
        array = array.transpose((0, *(axis + 1 for axis in permutation)))
    if empty is not None:
        array = array.copy()
        array[empty] = np.nan
    return array


def text_array(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    """A categorical, text, boolean, numeric or datetime column as strings: ``true``, ``1`` (also for 1.0), ISO 8601 dates; missing as null."""
    chunks = [_text_chunk(plain_array(chunk), field) for chunk in column.chunks]
    return pa.chunked_array(chunks, type=pa.large_string())


def text_values(data: Dataset, name: str) -> list[str | None]:
    """One column as text, missing values as None; the form in which models look up categories."""
    values: list[str | None] = text_array(data.column(name), data.schema[name]).to_pylist()
    return values


def _text_chunk(values: pa.Array, field: Field) -> pa.Array:
    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UsageError(f"Column '{field.name}' holds {kind} values, which have no text form.")
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less_equal(pc.abs(values), LARGEST_WHOLE))
        if pc.all(whole).as_py():
            values = values.cast(pa.int64())
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if pa.types.is_timestamp(kind):
            values = values.cast(pa.timestamp(kind.unit))  # a moment with a zone is named by its UTC time
        written = pc.strftime(values, format="%Y-%m-%d" if pa.types.is_date(kind) else "%Y-%m-%dT%H:%M:%S")
        values = pc.replace_substring_regex(written, r"\.0+$", "")
    return values.cast(pa.large_string())


# -- bringing rows into the trained columns ------------------------------------------------------------------------------------------------


def conform(data: Dataset, inputs: Schema) -> Dataset:
    """Give `data` the columns of `inputs`, in that order and of those types; extra columns are left out.

    `data` itself comes back where nothing needs changing. Integers stand for floats, whole numbers and booleans for categories, 0 and 1
    for booleans, ISO 8601 text for dates, and a column without values for anything.

    Raises
    ------
    InvalidInput
        A column is missing, or has another type or tensor shape than in training.
    """
    if data.schema is inputs or data.schema.layout == inputs.layout:
        return data
    for name in inputs.names:
        if name not in data.schema:
            raise InvalidInput(
                f"Column '{name}' is missing: the model was trained with it.{nearest(name, data.schema.names)}",
                hint=f"The model reads: {shortlist(inputs.names)}.",
            )
    columns, fields = [], []
    for wanted in inputs:
        found = data.schema[wanted.name]
        column = data.column(wanted.name)
        same = found.type is wanted.type and found.shape == wanted.shape
        columns.append(column if same else _convert(column, found, wanted))
        fields.append(replace(found, type=wanted.type, shape=wanted.shape, role=wanted.role))
    table = pa.Table.from_arrays(columns, names=list(inputs.names)) if columns else data.table.select([])
    return data.derive(table, Schema(tuple(fields)), "conform", columns=list(inputs.names))


def _convert(column: pa.ChunkedArray, found: Field, wanted: Field) -> pa.ChunkedArray:
    """Read a column as another field type, where nothing is lost by it."""
    if wanted.type in (FieldType.CATEGORICAL, FieldType.TEXT) and found.type in (FieldType.CATEGORICAL, FieldType.TEXT):
        return column
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), arrow_type(wanted))])
    try:
        converted = _CONVERSIONS[found.type, wanted.type](column, found)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        converted = None
    if converted is None:
        raise InvalidInput(
            f"Column '{wanted.name}' holds {_described(found)} here, but the model was trained on {_described(wanted)}.",
            hint="Give it the type that it had in training.",
        ) from None
    return converted


def _described(field: Field) -> str:
    return f"{field.type} values" if field.shape is None else f"{field.type} values of shape {'×'.join(map(str, field.shape))}"


def _whole_to_text(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray | None:
    numbers = numeric_array(column, field)
    whole = np.isnan(numbers) | ((numbers == np.floor(numbers)) & (np.abs(numbers) <= LARGEST_WHOLE))
    return text_array(column, field) if whole.all() else None


def _bits_to_boolean(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray | None:
    numbers = numeric_array(column, field)
    return column.cast(pa.float64()).cast(pa.bool_()) if (np.isnan(numbers) | (numbers == 0) | (numbers == 1)).all() else None


def _text_to_datetime(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    return text_array(column, field).cast(pa.timestamp("us"))


_CONVERSIONS = {
    (FieldType.BOOLEAN, FieldType.NUMERIC): lambda column, field: column.cast(pa.uint8()),
    (FieldType.BOOLEAN, FieldType.CATEGORICAL): text_array,
    (FieldType.NUMERIC, FieldType.CATEGORICAL): _whole_to_text,
    (FieldType.NUMERIC, FieldType.TEXT): _whole_to_text,
    (FieldType.NUMERIC, FieldType.BOOLEAN): _bits_to_boolean,
    (FieldType.CATEGORICAL, FieldType.DATETIME): _text_to_datetime,
    (FieldType.TEXT, FieldType.DATETIME): _text_to_datetime,
}


# -- prediction batches --------------------------------------------------------------------------------------------------------------------

_INFINITIES = (math.inf, -math.inf)


def arrow_type(field: Field) -> pa.DataType:
    """The Arrow type in which a prediction batch holds a field."""
    if field.type is FieldType.TENSOR:
        return pa.fixed_shape_tensor(pa.float64(), field.shape or ())
    if field.type is FieldType.NUMERIC:
        return pa.float64()
    if field.type is FieldType.BOOLEAN:
        return pa.bool_()
    return pa.timestamp("us") if field.type is FieldType.DATETIME else pa.string()


def table_from_rows(rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], schema: Schema) -> pa.Table:
    """A table in the columns of `schema`, from a list of rows or a dict of columns of Python values.

    None and NaN are missing. Extra keys are left out; every row must name every column.

    Raises
    ------
    InvalidInput
        A column is missing, columns differ in length, or a value does not fit its field; the message names column and row, never the value.
    """
    if isinstance(rows, Mapping):
        return _from_columns([_column_of(rows, name) for name in schema.names], schema)
    try:
        values = [[row[name] for name in schema.names] for row in rows]
    except (KeyError, TypeError, AttributeError, IndexError):
        raise _wrong_row(rows, schema) from None
    kind = _struct_type(schema)
    if kind is not None:
        try:
            table = pa.Table.from_batches([pa.RecordBatch.from_struct_array(pa.array(rows, type=kind))])
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass  # a value needs converting or refusing: the columns tell which
        else:
            if not any(infinity in row for row in values for infinity in _INFINITIES):
                return table
    return _from_columns([list(column) for column in zip(*values, strict=True)] or [[] for _ in schema.names], schema)


FEW_ROWS = 64
"""Up to here a batch also keeps its cells as Python values."""
_PLAIN = {str, int, float, bool, type(None)}


def plain_cells(rows: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]], schema: Schema) -> list[tuple[Any, ...]] | None:
    """The cells of a small batch that `table_from_rows` took, row by row; None for a larger one, or one with other than plain values."""
    if isinstance(rows, Mapping):
        cells = list(zip(*[rows[name] for name in schema.names], strict=True)) if schema.names and len(rows[schema.names[0]]) <= FEW_ROWS else None
    else:
        cells = [tuple([row[name] for name in schema.names]) for row in rows] if len(rows) <= FEW_ROWS else None
    if not cells or any(type(cell) not in _PLAIN for row in cells for cell in row):
        return None
    return cells


def table_cells(table: pa.Table, schema: Schema) -> list[tuple[Any, ...]] | None:
    """The cells of a small table, row by row; None for a larger one, or one with other than plain values."""
    if not 0 < table.num_rows <= FEW_ROWS or any(field.type in (FieldType.TENSOR, FieldType.DATETIME) for field in schema):
        return None
    batches = table.to_batches()
    batch = batches[0] if len(batches) == 1 else table.combine_chunks().to_batches()[0]
    try:
        columns = [batch.column(position).to_pylist() for position in range(batch.num_columns)]
    except UnicodeDecodeError:
        return None
    if any(type(cell) not in _PLAIN for column in columns for cell in column):
        return None
    return list(zip(*columns, strict=True))


def _struct_type(schema: Schema) -> pa.DataType | None:
    """The type that lets Arrow read whole rows at once; None where tensors or dates need a closer look. Made once a schema."""
    if schema.rows_type is None:
        slow = any(field.type in (FieldType.TENSOR, FieldType.DATETIME) for field in schema)
        schema.remember_rows_type(False if slow or not len(schema) else pa.struct([(field.name, arrow_type(field)) for field in schema]))
    return schema.rows_type or None


def _column_of(columns: Mapping[str, Sequence[Any]], name: str) -> Sequence[Any]:
    if name not in columns:
        raise InvalidInput(f"Column '{name}' is missing.{nearest(name, [str(key) for key in columns])}")
    values = columns[name]
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise InvalidInput(f"Column '{name}' must be a list of values.")
    return values


def _wrong_row(rows: Sequence[Mapping[str, Any]], schema: Schema) -> InvalidInput:
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
        return InvalidInput(f"Rows must be a list of objects or an object of columns, not {type(rows).__name__}.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            return InvalidInput(f"Row {number} is no object with column names, but {type(row).__name__}.")
        for name in schema.names:
            if name not in row:
                return InvalidInput(f"Column '{name}' is missing in row {number}.{nearest(name, [str(key) for key in row])}")
    return InvalidInput("The rows cannot be read.", hint="Give a list of objects with column names.")


def _from_columns(columns: Sequence[Sequence[Any]], schema: Schema) -> pa.Table:
    lengths = {len(values) for values in columns}
    if len(lengths) > 1:
        listed = shortlist(f"{name} {len(values)}" for name, values in zip(schema.names, columns, strict=True))
        raise InvalidInput(f"The columns differ in length: {listed}.")
    return pa.Table.from_arrays([_build(values, field) for values, field in zip(columns, schema, strict=True)], names=list(schema.names))


def _build(values: Sequence[Any], field: Field) -> pa.Array:
    if field.type is FieldType.TENSOR:
        return _build_tensors(values, field)
    try:
        if field.type is FieldType.DATETIME:
            raise TypeError("Arrow would take a number as microseconds, which nobody said it is")
        array = pa.array(values, type=arrow_type(field), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        array = None
    if array is None:  # outside the handler: Arrow's message quotes cells, and would be printed as the context of a refusal
        array = pa.array([_read_value(value, field, row) for row, value in enumerate(values, start=1)], type=arrow_type(field))
    if field.type is FieldType.NUMERIC and pc.any(pc.is_inf(array)).as_py():
        row = pc.index(pc.is_inf(array), True).as_py() + 1
        raise InvalidInput(f"Column '{field.name}' holds infinity in row {row}.", hint="Leave the value empty where it is not known.")
    return array


def _read_value(value: Any, field: Field, row: int) -> Any:
    """One value as its field's type; only reached where Arrow did not take the column as it is."""
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return None
    try:
        if isinstance(value, np.generic):
            value = value.item()
        if field.type is FieldType.NUMERIC and isinstance(value, (int, float, Decimal)):
            return float(value)
        if field.type is FieldType.BOOLEAN and isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        if field.type in (FieldType.CATEGORICAL, FieldType.TEXT):
            if isinstance(value, bool):
                return str(value).lower()
            if isinstance(value, (str, int)) or (isinstance(value, float) and value == math.floor(value) and abs(value) <= LARGEST_WHOLE):
                return value if isinstance(value, str) else str(int(value))
        if field.type is FieldType.DATETIME:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else value
            if isinstance(moment, datetime):
                return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
            if isinstance(moment, date):
                return datetime(moment.year, moment.month, moment.day)
    except (ValueError, OverflowError):
        pass
    given = "text" if isinstance(value, str) else type(value).__name__
    raise InvalidInput(f"Column '{field.name}' holds {given} in row {row}, which is no {field.type} value.")


def _build_tensors(values: Sequence[Any], field: Field) -> pa.Array:
    shape = field.shape or ()
    array = np.full((len(values), *shape), np.nan)
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            tensor = np.asarray(value, dtype=np.float64)
        except (ValueError, TypeError):
            tensor = None
        if tensor is None or tensor.shape != shape:
            raise InvalidInput(f"Column '{field.name}' needs numbers of shape {'×'.join(map(str, shape))} in each row; row {row + 1} differs.")
        if np.isinf(tensor).any():
            raise InvalidInput(f"Column '{field.name}' holds infinity in row {row + 1}.")
        array[row] = tensor
    if not len(values):
        return pa.array([], type=pa.list_(pa.float64(), math.prod(shape))).cast(arrow_type(field))
    return pa.FixedShapeTensorArray.from_numpy_ndarray(array)
