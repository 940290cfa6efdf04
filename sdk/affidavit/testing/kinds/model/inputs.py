"""Checks of how a model type reads its rows: in batches, and as words."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.errors import AffidavitError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import FieldType, Schema
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.model.api import ROUNDING
from affidavit.testing.kinds.model.subject import ModelSubject, answers, apart
from affidavit.testing.report import Tier

BATCHES = 12
"""Into how many batches the rows are cut."""


class Streamed(Dataset):
    """Rows that come batch by batch, and a record of what was done with them.

    Attributes
    ----------
    columns
        Features that were loaded whole.
    batches_read
        How many batches were taken, over all passes.
    most_held
        The largest share of the rows' bytes that was held at once while batches were read.
    """

    def __init__(self, data: Dataset, schema: Schema | None = None, record: Streamed | None = None, stream: Any = None) -> None:
        self._whole: pa.Table = data.table if record is None else record._whole
        super().__init__(stream or self._cut, schema or data.schema, name=data.name)
        self.record = self if record is None else record
        self.columns: set[str] = set()
        self.batches_read = 0
        self.most_held = 0.0

    def _cut(self) -> Iterator[pa.RecordBatch]:
        size, held = -(-self._whole.num_rows // BATCHES), weakref.WeakSet[_Bytes]()
        for start in range(0, self._whole.num_rows, size):
            columns = [_Bytes(_stream(self._whole.select([name]).slice(start, size))) for name in self._whole.column_names]
            held.update(columns)
            arrays = [pa.ipc.open_stream(pa.py_buffer(column)).read_next_batch().column(0) for column in columns]
            alone = sum(map(len, columns))
            del columns
            self.batches_read += 1
            self.most_held = max(self.most_held, sum(map(len, held)) / (alone * BATCHES))
            yield pa.RecordBatch.from_arrays(arrays, schema=self._whole.schema)
            del arrays

    def column(self, name: str) -> pa.ChunkedArray:
        """As in any data set, and noted."""
        self.record.columns.add(name)
        return super().column(name)

    def derive(self, source: Any, schema: Schema, operation: str, **parameters: Any) -> Dataset:
        """As in any data set, with the same record."""
        if isinstance(source, pa.Table):
            return super().derive(source, schema, operation, **parameters)
        return Streamed(self, schema, self.record, source)


class _Bytes(bytearray):
    """One column of one batch: alive as long as anything in Arrow refers to it. As with any object, two are the same only where they are one."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # bytearray has none
    __eq__ = object.__eq__


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table.combine_chunks().to_batches()[0])
    return bytes(sink.getvalue().to_pybytes())


@check("model", Tier.API, needs=["streaming"])
def streamed_rows_are_read_in_batches(subject: ModelSubject) -> None:
    """`fit` reads every batch of a streamed data set, holds a few at a time, and gives a model that answers."""
    data = Streamed(subject.data)
    model = subject.fit(data)
    features = {field.name for field in data.schema.features}
    loaded = features & data.columns
    if not data.streamed or len(loaded) > 1 or loaded == features:  # one column among others, for its categories say, is not the whole
        raise CheckFailed("fit loads the whole of a streamed data set: read data.batches(), and not .table, .column or what is made of them.")
    if data.batches_read < BATCHES:
        raise CheckFailed(f"fit took {data.batches_read} of {BATCHES} batches: rows that it does not read teach it nothing.")
    if data.most_held > 0.5:
        raise CheckFailed("fit keeps the batches that it has read: let each go before the next.")
    if not np.isfinite(answers(model.predict(subject.rows))).all():
        raise CheckFailed("fitted on a streamed data set, it answers with what is no finite number.")


@check("model", Tier.API, needs=["token_inputs"])
def words_may_be_left_out(subject: ModelSubject) -> None:
    """A text with words left out, or with none left, is answered, and leaving words out changes answers: explanations of text do so."""
    texts = [field.name for field in subject.fitted.fitted.inputs if field.type is FieldType.TEXT]
    if not texts:
        raise CheckFailed("it claims the capability 'token_inputs' and has no text among its inputs.")
    whole = subject.fitted.predict(subject.rows)
    differ = False
    for share in (0.5, 0.25, 0.0):
        rows = subject.rows
        for name in texts:
            shorter = [" ".join(words[: round(share * len(words))]) for words in (str(text or "").split() for text in rows.to_list(name))]
            rows = rows.replace_column(name, pa.array(shorter, type=rows.table.column(name).type))
        try:
            found = subject.fitted.predict(rows)
        except AffidavitError as error:
            raise CheckFailed(f"texts with {share:.0%} of their words raised {type(error).__name__}: answer them, the empty text too.") from error
        if not np.isfinite(answers(found)).all():
            raise CheckFailed(f"texts with {share:.0%} of their words are answered with what is no finite number.")
        differ = differ or apart(whole, found) > ROUNDING
    if not differ:
        raise CheckFailed("it answers texts without their words as it does the whole texts: it does not read them.")
