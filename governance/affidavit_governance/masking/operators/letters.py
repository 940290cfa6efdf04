"""The characters of all texts of a column in one array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from affidavit_governance.encryption import ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Letters:
    """Texts as code points.

    Attributes
    ----------
    points
        Code points of all texts, one text behind the other.
    starts
        Where each text starts in `points`, and where the last one ends.
    """

    points: NDArray[np.uint32] | NDArray[np.uint8]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, texts: pa.LargeStringArray) -> Letters:
        """Read valid UTF-8 without nulls."""
        data = ragged.content(texts)
        at = ragged.offsets(texts)
        at = at - at[0]
        if not (data >= 0x80).any():
            return cls(data, at)
        # A character starts at every byte that does not continue one.
        begun = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])
        points = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), dtype=np.uint32)
        return cls(points, begun[at])

    def text(self, points: NDArray[np.uint32] | NDArray[np.uint8]) -> pa.LargeStringArray:
        """Other code points in the places of these, as texts."""
        if not (points >= 0x80).any():
            return ragged.build(points.astype(np.uint8), np.diff(self.starts), pa.large_string())
        wide = points.astype(np.uint32)
        sizes = 1 + (wide >= 0x80) + (wide >= 0x800) + (wide >= 0x10000).astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        data = np.frombuffer(wide.tobytes().decode("utf-32-le").encode(), dtype=np.uint8)
        return ragged.build(data, np.diff(ends[self.starts]), pa.large_string())

    def count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of the chosen characters each text has."""
        return np.diff(self.ranks(chosen))

    def ranks(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many chosen characters stand before the start of each text, and in all of them."""
        if chosen.all():
            return self.starts
        found: NDArray[np.int64] = np.concatenate([[0], np.cumsum(chosen)])[self.starts]
        return found
