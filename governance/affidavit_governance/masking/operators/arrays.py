"""What operators share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray


def missing(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where values are null or not a number."""
    parts = [pc.is_null(chunk, nan_is_null=True).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)
