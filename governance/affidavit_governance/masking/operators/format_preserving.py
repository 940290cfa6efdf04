"""Format-preserving encryption of a column."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator

from affidavit.errors import IntegrityError, InvalidInput
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.encryption import ragged
from affidavit_governance.masking.ff1 import FF1, MAX_LENGTH
from affidavit_governance.masking.operators.contents import Contents, contents_of, text_type, utf8
from affidavit_governance.masking.operators.letters import Letters
from affidavit_governance.masking.operators.simple import REDACTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NONE = (1 << 16) - 1


class FormatPreservingSettings(Settings):
    """`alphabet` is what is encrypted; all other characters stay where they are. `namespace` in the place of table and column makes the
    results of several columns comparable. `short` says what becomes of values with too few characters of the alphabet."""

    alphabet: str = "0123456789"
    namespace: str | None = None
    short: Literal["refuse", "redact"] = "refuse"

    @field_validator("alphabet")
    @classmethod
    def _usable(cls, value: str) -> str:
        if not 2 <= len(value) < _NONE or len(set(value)) != len(value):
            raise ValueError("an alphabet has at least two characters, each once")
        return value


class FormatPreserving(Operator):
    """Encrypts the characters of an alphabet by AES-FF1 (NIST SP 800-38G), so that a number keeps its length, and separators their places.

    Bound to table and column, or to a `namespace`: within it equal values get equal results. What is not in the alphabet stays readable,
    and so does the length. FF1 authenticates nothing: with another key the reverse gives other values, not an error. Values whose
    characters allow fewer than a million combinations (under six digits) could be found by trying, and are refused or redacted.
    """

    name = "ff1"
    Settings = FormatPreservingSettings
    idempotent = False
    reversible = True
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        return self._run(column, field, context, encrypt=True)

    def reverse(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        return self._run(column, field, context, encrypt=False)

    def field(self, field: Field) -> Field:
        kind = field.type if field.type is FieldType.TEXT else FieldType.CATEGORICAL
        return replace(super().field(field), type=kind, bounds=None, shape=None)

    @property
    def _given(self) -> FormatPreservingSettings:
        assert isinstance(self.settings, FormatPreservingSettings)
        return self.settings

    @cached_property
    def _numbers(self) -> NDArray[np.uint16]:
        """By code point, the number of a character in the alphabet."""
        points = [ord(character) for character in self._given.alphabet]
        table = np.full(max(256, max(points) + 1), _NONE, dtype=np.uint16)
        table[points] = np.arange(len(points))
        return table

    def _tweak(self, field: Field, context: MaskContext) -> bytes:
        namespace = self._given.namespace
        parts = [b"column", context.table.encode(), field.name.encode()] if namespace is None else [b"namespace", namespace.encode()]
        bound = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(bound, digest_size=16, person=b"affidavit-ff-1").digest()

    def _run(self, column: pa.ChunkedArray, field: Field, context: MaskContext, *, encrypt: bool) -> pa.ChunkedArray:
        contents = contents_of(column, field, "format-preserving encryption")
        texts = utf8(contents, field, "format-preserving encryption")
        if len(texts) == 0:
            return contents.spread(texts, text_type(column.type))
        letters = Letters.of(texts)
        numbers = self._looked_up(letters.points)
        inside = numbers != _NONE
        counts = letters.count(inside)
        cipher = FF1(context.derive("ff1"), alphabet=self._given.alphabet)
        short = self._refused(letters, inside, counts, cipher.min_length)
        redacted = pc.equal(texts, REDACTED).to_numpy(zero_copy_only=False) if self._given.short == "redact" else np.zeros(len(texts), np.bool_)
        self._check(contents, short & ~redacted, counts, len(column), field, cipher.min_length, encrypt=encrypt)
        empty = np.diff(letters.starts) == 0
        left = short | redacted | empty
        tweak = self._tweak(field, context)
        flat = numbers if inside.all() else numbers[inside]
        starts = letters.ranks(inside)
        work = cipher.encrypt_numerals if encrypt else cipher.decrypt_numerals
        changed = flat.copy()
        for count, at in ragged.buckets(np.where(left, 0, counts)):
            if count == 0:
                continue
            if len(at) * count == len(flat):
                changed = np.ascontiguousarray(work(flat.reshape(-1, count), tweak)).reshape(-1)
                break
            places = starts[at][:, None] + np.arange(count)
            changed[places] = work(flat[places], tweak)
        points = np.array([ord(character) for character in self._given.alphabet], dtype=np.uint32)
        result = letters.points.astype(np.uint32) if int(points.max()) > 127 else letters.points.copy()
        result[inside] = points.astype(result.dtype)[changed]
        made = letters.text(result)
        if short.any() or redacted.any():
            made = pc.if_else(pa.array(short | redacted), pa.scalar(REDACTED, pa.large_string()), made)
        return contents.spread(made, text_type(column.type))

    def _looked_up(self, points: NDArray[np.uint32] | NDArray[np.uint8]) -> NDArray[np.uint16]:
        table = self._numbers
        if points.dtype == np.uint8:
            return table[points]
        return np.where(points < len(table), table[np.minimum(points, len(table) - 1)], np.uint16(_NONE))

    def _refused(self, letters: Letters, inside: NDArray[np.bool_], counts: NDArray[np.int64], least: int) -> NDArray[np.bool_]:
        """Values that say something and have too few characters to encrypt; and such with digits of another script, which would stay readable."""
        short = (counts < least) & (np.diff(letters.starts) > 0)
        if letters.points.dtype != np.uint8:
            odd = np.array([point for point in np.unique(letters.points[~inside]) if point > 127 and chr(point).isdecimal()], dtype=np.uint32)
            if len(odd):
                short |= letters.count(np.isin(letters.points, odd) & ~inside) > 0
        return short

    def _check(
        self, contents: Contents, short: NDArray[np.bool_], counts: NDArray[np.int64], rows: int, field: Field, least: int, *, encrypt: bool
    ) -> None:
        where = contents.positions(rows)

        def shown(chosen: NDArray[np.bool_]) -> int:
            return int(pc.sum(pa.array(chosen).take(where)).as_py() or 0)

        if (counts > MAX_LENGTH).any():
            raise InvalidInput(
                f"Column '{field.name}': {shown(counts > MAX_LENGTH)} of {rows} values have more than {MAX_LENGTH} characters of the alphabet.",
                hint="Use token, or redact.",
            )
        if not short.any() or (encrypt and self._given.short == "redact"):
            return
        if not encrypt:
            raise IntegrityError(
                f"Column '{field.name}': {shown(short)} of {rows} values cannot come from format-preserving encryption with these settings."
            )
        raise InvalidInput(
            f"Column '{field.name}': {shown(short)} of {rows} values have fewer than {least} characters of the alphabet (or digits of another "
            "script), so they could be found by trying.",
            hint="Set short: redact, widen the alphabet, or use token.",
        )
