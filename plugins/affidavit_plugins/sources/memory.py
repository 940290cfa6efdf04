"""Frames in memory: pandas, Polars, DuckDB, Arrow, and dicts of columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset, DatasetSource
from affidavit.interfaces.frames import as_table
from affidavit_plugins.sources.files import check_options


class MemorySource(DatasetSource):
    """Anything with ``__arrow_c_stream__``, and dicts of columns. It takes no options."""

    type = "memory"

    def accepts(self, source: Any) -> bool:
        return not isinstance(source, (str, Path)) and (isinstance(source, Mapping) or hasattr(source, "__arrow_c_stream__"))

    def read(self, source: Any, **options: Any) -> pa.Table:
        check_options(self, self.read, options)
        if isinstance(source, Dataset):
            # loading it anew would forget its roots, and with them what its rows have already spent of their privacy budget
            raise UsageError("This is a data set already.", hint="Use it as it is, or load what it was made from.")
        return as_table(source)
