"""Personal data in the cells of a column: every Arrow type is gone through to its leaves, and only cells with a finding change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affidavit.errors import InvalidInput
from affidavit.interfaces.masking import Recognizer
from affidavit_governance.masking.columns import name_hints
from affidavit_governance.masking.operators.arrays import is_bytes, is_text
from affidavit_governance.masking.prefilter import prefilter
from affidavit_governance.masking.recognizers import validators
from affidavit_governance.masking.recognizers.base import NO_THRESHOLDS, PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.recognizers.financial import CreditCard
from affidavit_governance.masking.recognizers.plain import unusual
from affidavit_governance.masking.spans import PLACEHOLDERS, Spans, mask_values
from affidavit_governance.masking.tools import reads

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T", str, bytes)

CARD_NUMBER_MIN = 10**12
"""Numbers below thirteen digits are never taken for a card: too many amounts and keys would pass the checks by chance."""

_FEW = 256
"""Below so many cells, compiling the prefilter for Arrow's engine costs more than searching every cell."""


class CellMasker:
    """Masks the cells of one column and counts what it masked.

    Parameters
    ----------
    column
        The column's name, for errors.
    text
        Whether the column holds running text, which recognizers that are not patterns read as well.
    hints
        Entities that the column's name speaks for.
    spans
        What stands in the place of findings.
    """

    def __init__(
        self,
        column: str,
        *,
        threshold: float,
        thresholds: Mapping[str, float] = NO_THRESHOLDS,
        recognizers: Sequence[Recognizer] | None = None,
        text: bool = False,
        hints: frozenset[str] = frozenset(),
        spans: Spans = PLACEHOLDERS,
    ) -> None:
        used = patterns() if recognizers is None else recognizers
        self._column = column
        self._threshold = threshold
        self._thresholds = thresholds
        self._recognizers = [r for r in used if reads(r, text=text)]
        self._look_for(hints)
        self._spans = spans
        self._cards = not spans.keeps(CreditCard.entity) and any(CreditCard.entity in r.entities for r in used)
        self.cells = 0
        self.entities: Counter[str] = Counter()

    def _look_for(self, hints: frozenset[str]) -> None:
        self._hints = hints
        # Recognizers that are no patterns may find anything anywhere, so each cell is theirs to read.
        fast = [r for r in self._recognizers if isinstance(r, PatternRecognizer)]
        complete = len(fast) == len(self._recognizers)
        self._prefilter = prefilter(fast, threshold=self._threshold, thresholds=self._thresholds, hints=hints) if complete else None

    def mask(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """The column with every finding replaced; its type stays.

        Raises
        ------
        InvalidInput
            The column's type cannot be searched, or its text is not UTF-8.
        """
        chunks = [self._array(chunk) for chunk in column.chunks]
        return pa.chunked_array(chunks, type=column.type)

    def _array(self, array: pa.Array) -> pa.Array:
        kind = array.type
        if len(array) == 0 or _holds_nothing(kind):
            return array
        if is_text(kind):
            return self._text(array)
        if is_bytes(kind):
            return self._bytes(array)
        if pa.types.is_dictionary(kind):
            return self._dictionary(array)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return self._numbers(array)
        if isinstance(array, pa.ExtensionArray):
            storage = self._array(array.storage)
            return array if storage is array.storage else pa.ExtensionArray.from_storage(kind, storage)
        return self._nested(array)

    # -- leaves ---------------------------------------------------------------------------------------------------------------------

    def _text(self, array: pa.Array) -> pa.Array:
        plain = array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array
        try:
            if self._prefilter is None or len(array) < _FEW:
                suspect = pc.is_valid(plain)
            else:
                suspect = pc.fill_null(pc.match_substring_regex(plain, f"{self._prefilter}|{unusual()}"), False)
            masked = self._replace(plain, suspect, lambda values: self._mask_values(values))
        except (UnicodeDecodeError, pa.ArrowInvalid):
            raise InvalidInput(f"Column '{self._column}' holds text that is not UTF-8, so it cannot be searched for personal data.") from None
        return compact(array) if masked is None else masked.cast(array.type)

    def _bytes(self, array: pa.Array) -> pa.Array:
        masked = self._replace(array.cast(pa.large_binary()), pc.is_valid(array), self._mask_bytes)
        if masked is None:
            return compact(array)
        if pa.types.is_fixed_size_binary(array.type):
            # A placeholder has another length, so the cell is emptied.
            fits = pc.equal(pc.binary_length(masked), array.type.byte_width)
            masked = pc.if_else(fits, masked, pa.scalar(None, masked.type))
        return masked.cast(array.type)

    def _replace(self, array: pa.Array, suspect: pa.BooleanArray, mask: Callable[[list[T]], dict[T, T]]) -> pa.Array | None:
        """Put what `mask` makes of the suspect values in their place; each distinct value is looked at once. None where nothing changes."""
        chosen = array.filter(suspect)
        if len(chosen) == 0:
            return None
        encoded = chosen.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        changed = mask(values)
        if not changed:
            return None
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(values))
        self.cells += int(sum(counts[i] for i, value in enumerate(values) if value in changed))
        replaced = pa.array([changed.get(value, value) for value in values], type=array.type).take(encoded.indices)
        return pc.replace_with_mask(array, suspect, replaced)

    def _mask_values(self, values: list[str]) -> dict[str, str]:
        masked, findings = mask_values(
            values,
            threshold=self._threshold,
            thresholds=self._thresholds,
            recognizers=self._recognizers,
            hints=self._hints,
            spans=self._spans,
        )
        for each in findings:
            self.entities.update(finding.entity for finding in each)
        return {before: after for before, after, each in zip(values, masked, findings, strict=True) if each}

    def _mask_bytes(self, values: list[bytes]) -> dict[bytes, bytes]:
        texts: dict[str, bytes] = {}
        for value in values:
            try:
                texts[value.decode()] = value
            except UnicodeDecodeError:
                continue
        return {texts[before]: after.encode() for before, after in self._mask_values(list(texts)).items()}

    def _dictionary(self, array: pa.DictionaryArray) -> pa.Array:
        inner = CellMasker.__new__(CellMasker)
        inner.__dict__ = {**self.__dict__, "entities": self.entities, "cells": 0}
        masked = inner._array(array.dictionary)
        if inner.cells == 0:
            return array
        changed = pc.invert(pc.fill_null(pc.equal(array.dictionary, masked), False)) if not pa.types.is_nested(masked.type) else None
        if changed is None:
            self.cells += len(array) - array.null_count
        else:
            self.cells += int(pc.sum(pc.fill_null(changed.take(array.indices), False)).as_py() or 0)
        # Two values may have become one placeholder, and the values of a dictionary must differ, so it is made anew.
        encoded = masked.take(array.indices).dictionary_encode()
        return pa.DictionaryArray.from_arrays(encoded.indices.cast(array.type.index_type), encoded.dictionary, ordered=array.type.ordered)

    def _numbers(self, array: pa.Array) -> pa.Array:
        if not self._cards:
            return array
        hit = card_numbers(array)
        if hit is None:
            return array
        count = int(hit.sum())
        self.cells += count
        self.entities[CreditCard.entity] += count
        valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
        # Taking with a null index leaves no trace of the number in the buffer, where a null bit above it would.
        rows = np.arange(len(array))
        return array.take(pa.array(rows, mask=hit | ~valid))

    # -- nested ---------------------------------------------------------------------------------------------------------------------

    def _nested(self, array: pa.Array) -> pa.Array:
        kind = array.type
        if pa.types.is_struct(kind):
            before = [array.field(i) for i in range(kind.num_fields)]
            after = [self._member(kind.field(i).name, child) for i, child in enumerate(before)]
            if all(a is b for a, b in zip(after, before, strict=True)):
                return array
            fields = [kind.field(i) for i in range(kind.num_fields)]
            return pa.StructArray.from_arrays(after, fields=fields, mask=pc.is_null(array))
        if pa.types.is_map(kind):
            return self._map(array)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return self._list(array)
        raise InvalidInput(
            f"Column '{self._column}' has the Arrow type {kind}, which cannot be searched for personal data.",
            hint="Cast it to a plain, list or struct type, or have the policy drop it.",
        )

    def _member(self, name: str, child: pa.Array) -> pa.Array:
        """The masked values of one field of a struct, whose name speaks for entities as a column's does."""
        hints = self._hints | name_hints(name)
        if hints == self._hints:
            return self._array(child)
        inner = copy(self)
        inner.cells = 0
        inner._look_for(hints)
        masked = inner._array(child)
        self.cells += inner.cells
        return masked

    def _map(self, array: pa.MapArray) -> pa.Array:
        entries = array.cast(pa.list_(pa.struct([array.type.key_field.with_nullable(True), array.type.item_field])))
        masked = self._list(entries)
        if masked is entries:
            return array
        keys, items = masked.values.field(0), masked.values.field(1)
        if keys.null_count:
            raise InvalidInput(
                f"Column '{self._column}' has maps whose keys are payment card numbers, and a key cannot be emptied.",
                hint="Have the policy redact or drop the column.",
            )
        return pa.MapArray.from_arrays(masked.offsets, keys, items, type=array.type, mask=pc.is_null(array))

    def _list(self, array: pa.Array) -> pa.Array:
        """A list array with masked values; made anew from lengths, so that nothing under a null or outside a slice is carried along."""
        kind = array.type
        values = array.flatten()
        masked = self._array(values)
        if masked is values:
            return array
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        missing = pc.is_null(array)
        if pa.types.is_fixed_size_list(kind):
            loose = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), masked, mask=missing)
            return loose.cast(kind)
        maker = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        index = pa.int64() if pa.types.is_large_list(kind) else pa.int32()
        return maker.from_arrays(pa.array(offsets, index), masked, type=kind, mask=missing)


def _holds_nothing(kind: pa.DataType) -> bool:
    """Types whose values cannot be personal data by themselves: truth values, dates, and numbers too small to be a card."""
    small = (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and kind.bit_width < 64
    return bool(small or pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind))


def compact(array: pa.Array) -> pa.Array:
    """The array, copied where its buffers hold bytes that no value shows (under a null, for instance), so that none are written out."""
    if array.null_count == 0 or pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        return array
    return array.take(pa.array(np.arange(len(array)), mask=pc.is_null(array).to_numpy(zero_copy_only=False)))


def card_numbers(array: pa.Array) -> NDArray[np.bool_] | None:
    """Which numbers are payment cards: thirteen digits or more, whole, issuer range, Luhn digit. None where none is."""
    if pa.types.is_decimal(array.type):
        whole = np.array([value is not None and abs(value) >= CARD_NUMBER_MIN and value == value.to_integral_value() for value in array.to_pylist()])
        numbers = np.array([int(v) if w and v < 10**19 else 0 for v, w in zip(array.to_pylist(), whole, strict=True)], dtype=np.uint64)
    else:
        values = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
        whole = (values >= CARD_NUMBER_MIN) & (values < 10**19)
        if not whole.any():
            return None
        if values.dtype.kind == "f":
            whole &= values == np.floor(np.where(whole, values, 0))
        numbers = np.where(whole, values, 0).astype(np.uint64)
    hit = whole & _luhn(numbers)
    for i in np.flatnonzero(hit):
        hit[i] = validators.card_issuer(str(numbers[i])) is not None
    return hit if hit.any() else None


def _luhn(numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """`validators.luhn` for many numbers at once."""
    total = np.zeros(len(numbers), dtype=np.uint64)
    rest = numbers.copy()
    for position in range(20):
        digit = rest % np.uint64(10)
        rest //= np.uint64(10)
        if position % 2:
            digit *= np.uint64(2)
            digit -= np.uint64(9) * (digit > 9)
        total += digit
    right: NDArray[np.bool_] = total % np.uint64(10) == 0
    return right
