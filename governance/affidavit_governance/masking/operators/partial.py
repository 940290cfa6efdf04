"""Part of a value behind a mask character."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field as Setting
from pydantic import field_validator

from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.operators.contents import in_rows
from affidavit_governance.masking.operators.letters import Letters

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PartialSettings(Settings):
    """`first` and `last` say how many characters stay readable at either end, `char` what stands for each hidden one."""

    first: Annotated[int, Setting(ge=0)] = 0
    last: Annotated[int, Setting(ge=0)] = 4
    char: Annotated[str, Setting(min_length=1, max_length=1)] = "*"

    @field_validator("char")
    @classmethod
    def _shows(cls, value: str) -> str:
        if value.isspace() or not value.isprintable():
            raise ValueError("a mask character is one that shows")
        return value


class Partial(Operator):
    """Hides all characters but the first and last few. Length stays, and so do ASCII punctuation and spaces, which are not counted.

    At least as many characters are hidden as are shown: a value with fewer than twice ``first + last`` is hidden whole.
    Partial masking is for people to recognise what they know; what stays readable is not protected.
    """

    name = "partial"
    Settings = PartialSettings
    spans = True
    scan_after = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        return in_rows(column, field, "partial masking", self._hide)

    def _hide(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        assert isinstance(self.settings, PartialSettings)
        first, last, char = self.settings.first, self.settings.last, ord(self.settings.char)
        letters = Letters.of(texts)
        # The mask character counts as a character, which is why masking again changes nothing.
        counted = _counts(letters.points) | (letters.points == char)
        ranks = np.cumsum(counted) - counted
        starts = letters.ranks(counted)
        sizes = np.diff(starts)
        rows = np.diff(letters.starts)
        place = ranks - np.repeat(starts[:-1], rows)
        count = np.repeat(sizes, rows)
        shown = (count >= 2 * (first + last)) & ((place < first) | (place >= count - last))
        hidden = counted & ~shown
        points = letters.points.astype(np.uint32) if char > 127 else letters.points.copy()
        points[hidden] = char
        return letters.text(points)

    def field(self, field: Field) -> Field:
        kind = field.type if field.type is FieldType.TEXT else FieldType.CATEGORICAL
        return replace(super().field(field), type=kind, bounds=None, shape=None)


def _counts(points: NDArray[np.uint32] | NDArray[np.uint8]) -> NDArray[np.bool_]:
    """ASCII letters and digits, and everything beyond ASCII: of what is not known to be a separator nothing is shown by accident."""
    table = np.array([chr(point).isalnum() or point >= 128 for point in range(256)])
    if points.dtype == np.uint8:
        return table[points]
    return table[np.minimum(points, 255)]
