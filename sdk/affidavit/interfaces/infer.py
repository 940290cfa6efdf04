"""What a table's columns are: types and roles, inferred and overridden, and the checks that every table must pass."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.columns import plain_type, tensor_shape, text_array
from affidavit.interfaces.model import Task
from affidavit.interfaces.schema import Field, FieldType, Role, Schema, shortlist

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from affidavit.interfaces.dataset import Dataset

FIELD_KEYS = ("type", "role", "entity", "bounds", "categories")
MAX_INTEGER_CLASSES = 20
TEXT_WORDS = 4.0
TEXT_BYTES = 40.0
TEXT_DISTINCT = 1000
ROW_KEY = re.compile(r"(^|_)(id|uuid|guid|index)$|^unnamed: 0$", re.IGNORECASE)
FRAME_INDEX = re.compile(r"^__index_level_\d+__$")
"""What Arrow calls the unnamed index of a pandas frame."""


def infer_schema(table: pa.Table, *, target: str | None = None, fields: Mapping[str, Mapping[str, Any]] | None = None) -> Schema:
    """Types and roles of a table's columns, checked against its values.

    Types. Booleans are BOOLEAN; integers, floats and decimals NUMERIC; dates and timestamps DATETIME; fixed-shape tensors and fixed-size
    lists TENSOR; dictionaries CATEGORICAL. Strings are TEXT where an average value has four words or 40 bytes of UTF-8 (so that scripts
    without spaces count too) and most values differ (over half of them, or over 1000), otherwise CATEGORICAL. A numeric *target* with at
    most 20 distinct values, all whole, is CATEGORICAL: it names classes; ``{"type": "numeric"}`` makes it a number to regress on.
    A column without any value is NUMERIC.

    Roles. `target` becomes the target. A column named like a row key (``id``, ``…_id``, ``uuid``, ``index``) whose values are all there
    and all different is an identifier, unless it holds numbers with fractions; so is the unnamed index of a pandas frame. Everything else
    is a feature.

    Parameters
    ----------
    fields
        Overrides by column: ``type``, ``role``, ``entity``, ``bounds`` (two numbers), ``categories`` (list of text).

    Raises
    ------
    UsageError
        `target` or `fields` names a column, key, type or role that does not exist, or a type that the column cannot have.
    InvalidInput
        A column of a kind that has no field type, an infinite number, or a target that is missing in some rows, or constant.
    """
    schema = infer_types(table, target=target, fields=fields or {})
    check_values(table.to_batches(), schema)
    return schema


def infer_types(table: pa.Table, *, target: str | None, fields: Mapping[str, Mapping[str, Any]]) -> Schema:
    """The first half of `infer_schema`, which may look at a sample of the rows."""
    names = table.column_names
    for name in fields:
        _known("column", name, names)
    if target is not None:
        _known("column", target, names)
    inferred = []
    for name, column in zip(names, table.columns, strict=True):
        settings = _settings(name, fields.get(name) or {})
        is_target = name == target or settings.get("role") is Role.TARGET
        if name == target and settings.setdefault("role", Role.TARGET) is not Role.TARGET:
            raise UsageError(f"Column '{name}' is the target and is also given the role '{settings['role']}'.")
        if "type" in settings:
            _check_override(name, column.type, settings["type"])
        else:
            settings["type"] = _infer_type(name, column, is_target=is_target)
        if "role" not in settings:
            settings["role"] = Role.IDENTIFIER if _is_row_key(name, column) else Role.FEATURE
        shape = tensor_shape(column.type) if settings["type"] is FieldType.TENSOR else None
        inferred.append(Field(name, shape=shape, **settings))
    return Schema(tuple(inferred))


def check_values(batches: Iterable[pa.RecordBatch], schema: Schema) -> int:
    """Count the rows, and refuse infinite numbers and a target that is constant or missing somewhere; one pass, flat memory."""
    rows = 0
    infinite: dict[str, int] = {}
    missing = 0
    first: Any = None
    varies = False
    target = schema.target.name if schema.target else None
    for batch in batches:
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if pa.types.is_floating(column.type) and (count := pc.sum(pc.is_inf(column)).as_py()):
                infinite[name] = infinite.get(name, 0) + count
            if name != target:
                continue
            present = _present(column)
            missing += len(column) - len(present)
            if len(present) and not varies:
                first = present[0] if first is None else first
                varies = not pc.all(pc.equal(present, first.cast(present.type))).as_py()
    for name, count in infinite.items():
        raise InvalidInput(f"Column '{name}' holds infinity in {count} of {rows} rows.", hint="Remove these values or leave them empty.")
    if target is None:
        return rows
    if first is None:
        raise InvalidInput(f"The target '{target}' has no value in any row.", hint="Choose another target column.")
    if missing:
        raise InvalidInput(
            f"The target '{target}' is missing in {missing} of {rows} rows.",
            hint="Remove these rows first: load without a target, clean(missing='drop'), then Dataset.from_arrow(cleaned, target=…).",
        )
    if not varies:
        raise InvalidInput(f"The target '{target}' has the same value in every row.", hint="There is nothing to learn: choose another column.")
    return rows


def infer_task(data: Dataset) -> Task:
    """What a model of `data` should predict: a NUMERIC target is regression, any other has classes, two of them are binary.

    Raises
    ------
    UsageError
        There is no target, or one that holds dates or tensors.
    InvalidInput
        There is only one class, or as good as every row has its own.
    """
    target = _target(data)
    if target.type is FieldType.NUMERIC:
        return Task.REGRESSION
    classes = class_labels(data)[1]
    if len(classes) < 2:
        raise InvalidInput(f"The target '{target.name}' has the same value in every row.", hint="Training needs at least two classes.")
    if len(classes) > max(MAX_INTEGER_CLASSES, len(data) / 2):
        raise InvalidInput(f"The target '{target.name}' has {len(classes)} different values in {len(data)} rows: these are no classes.")
    return Task.BINARY if len(classes) == 2 else Task.MULTICLASS


def class_labels(data: Dataset) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """The target as text, and its classes in order: numbers by size, text by code point, so that ``true`` follows ``false``.

    Raises
    ------
    UsageError
        There is no target, or one that holds dates or tensors.
    InvalidInput
        The target is missing in some rows.
    """
    target = _target(data)
    column = data.column(target.name)
    text = text_array(column, target)
    if text.null_count:
        raise InvalidInput(f"The target '{target.name}' is missing in {text.null_count} of {len(text)} rows.", hint="Remove these rows first.")
    found = [str(label) for label in pc.unique(text).to_pylist()]
    numbers = pa.types.is_integer(plain_type(column.type)) or pa.types.is_floating(plain_type(column.type))
    classes = tuple(sorted(found, key=float) if numbers else sorted(found))
    return np.asarray(text.to_pylist(), dtype=np.str_), classes


def _target(data: Dataset) -> Field:
    target = data.schema.target
    if target is None:
        raise UsageError(f"Data set '{data.name}' has no target.", hint="Name it when loading: target='column'.")
    if target.type in (FieldType.DATETIME, FieldType.TENSOR):
        raise UsageError(f"The target '{target.name}' is {target.type}: only numbers and classes can be predicted.")
    return target


def _known(what: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if not isinstance(name, str):
        raise UsageError(f"The name of a {what} must be text, not of type {type(name).__name__}.", hint=f"There are: {shortlist(known)}.")
    if name not in known:
        raise UsageError(f"There is no {what} '{name}'.{nearest(name, known)}", hint=f"There are: {shortlist(known)}.")


def _settings(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in overrides.items():
        _known(f"field setting (column '{name}')", key, FIELD_KEYS)
        if value is None:
            continue
        if key == "type":
            _known("field type", str(value), [str(member) for member in FieldType])
            settings[key] = FieldType(value)
        elif key == "role":
            _known("role", str(value), [str(member) for member in Role])
            settings[key] = Role(value)
        elif key == "bounds":
            settings[key] = _bounds(name, value)
        elif key == "categories":
            if isinstance(value, str) or not all(isinstance(item, (str, int)) for item in value):
                raise UsageError(f"Column '{name}': 'categories' must be a list of text.")
            settings[key] = tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in value)
        else:
            settings[key] = str(value)
    return settings


def _bounds(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = (float(edge) for edge in value)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"Column '{name}': 'bounds' must be two finite numbers, the lower one first.")
    return low, high


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _base_type(name: str, kind: pa.DataType) -> FieldType:
    """The field type of an Arrow type, before looking at values; strings come out CATEGORICAL."""
    if tensor_shape(kind) is not None:
        return FieldType.TENSOR
    plain = plain_type(kind)
    if pa.types.is_dictionary(kind) or _is_text(plain):
        return FieldType.CATEGORICAL
    if pa.types.is_boolean(plain):
        return FieldType.BOOLEAN
    if _is_number(plain) or pa.types.is_null(plain):
        return FieldType.NUMERIC
    if pa.types.is_date(plain) or pa.types.is_timestamp(plain):
        return FieldType.DATETIME
    raise InvalidInput(
        f"Column '{name}' has the Arrow type {kind}, which no field type stands for.",
        hint="Leave it out, or turn it into numbers, text, dates or fixed-shape tensors of numbers.",
    )


def _infer_type(name: str, column: pa.ChunkedArray, *, is_target: bool) -> FieldType:
    kind = _base_type(name, column.type)
    plain = plain_type(column.type)
    if is_target and kind is FieldType.NUMERIC and (pa.types.is_integer(plain) or pa.types.is_floating(plain)):
        values = pc.unique(_present(column))
        whole = pa.types.is_integer(plain) or bool(pc.all(pc.equal(pc.floor(values), values)).as_py())
        return FieldType.CATEGORICAL if whole and len(values) <= MAX_INTEGER_CLASSES else FieldType.NUMERIC
    if kind is FieldType.CATEGORICAL and not pa.types.is_dictionary(column.type) and not is_target and _reads_like_text(column):
        return FieldType.TEXT
    return kind


def _reads_like_text(column: pa.ChunkedArray) -> bool:
    present = column.drop_null().cast(pa.large_string())
    if len(present) == 0:
        return False
    distinct = len(pc.unique(present))
    if distinct <= max(1, min(len(present) / 2, TEXT_DISTINCT)):
        return False
    spaces = pc.mean(pc.count_substring(present, " ")).as_py()
    return bool(spaces + 1 >= TEXT_WORDS or pc.mean(pc.binary_length(present)).as_py() >= TEXT_BYTES)


def _present(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The values that are there: neither null nor NaN."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = column.drop_null()
    return column.filter(pc.invert(pc.is_nan(column))) if pa.types.is_floating(column.type) else column


def _is_row_key(name: str, column: pa.ChunkedArray) -> bool:
    kind = plain_type(column.type)
    if FRAME_INDEX.match(name):  # repeated values are no sign of a feature here: frames that were put together repeat their row numbers
        return True
    if not ROW_KEY.search(name) or not (pa.types.is_integer(kind) or _is_text(kind)) or len(column) < 2 or column.null_count:
        return False
    return bool(pc.count_distinct(column.cast(kind)).as_py() == len(column))


def _check_override(name: str, kind: pa.DataType, wanted: FieldType) -> None:
    """Refuse a type that the column's values cannot be read as."""
    base = _base_type(name, kind)
    text = _is_text(plain_type(kind))
    scalar = base is not FieldType.TENSOR
    fits = {
        FieldType.NUMERIC: scalar and not text and base is not FieldType.DATETIME,
        FieldType.CATEGORICAL: scalar,
        FieldType.TEXT: text or pa.types.is_null(kind),
        FieldType.BOOLEAN: base is FieldType.BOOLEAN or pa.types.is_null(kind),
        FieldType.DATETIME: base is FieldType.DATETIME or pa.types.is_null(kind),
        FieldType.TENSOR: base is FieldType.TENSOR,
    }
    if not fits[wanted]:
        raise UsageError(f"Column '{name}' holds {kind} values, which cannot be of type '{wanted}'.", hint="Convert the column first.")
