"""Broken sources, at least one for each check, and the sound ones that they are made from."""

from __future__ import annotations

import json
import logging
import os
import random
from pathlib import Path

import pyarrow as pa
from tests.conformance.zoo.pen import Pen

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import DatasetSource
from affidavit.interfaces.model import inside_call
from affidavit.testing import SourceCase
from affidavit.testing.kinds.source.subject import SourceSubject

ROWS = 20_000


def write(table, folder, name="table.zoo"):
    """A line of names and types, then one of values for each row."""
    head = [[field.name, str(field.type)] for field in table.schema]
    lines = zip(*(column.to_pylist() for column in table.columns), strict=True)
    path = folder / name
    path.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in (head, *lines)), encoding="utf-8")
    return str(path)


PEN = Pen(SourceSubject, "zoo.lines", case=SourceCase(write=write, options={"encoding": "utf-8"}))
STREAMED = SourceCase(write=write, stream={"stream": True})


class Lines(DatasetSource):
    """Lines of JSON arrays. This one is sound."""

    type = "zoo.lines"
    suffix = ".zoo"
    options = ("encoding", "stream")

    def accepts(self, source):
        return isinstance(source, (str, Path)) and "://" not in str(source) and str(source).endswith(self.suffix)

    def read(self, source, **options):
        unknown = [name for name in options if name not in self.options]
        if unknown:
            raise UsageError(f"The source {self.type} has no option '{unknown[0]}'.", hint=f"Options: {', '.join(self.options)}.")
        if options.get("stream"):
            next(self.batches(source, options), None)  # so that what is missing is said at once
            return lambda: self.batches(source, options)
        return pa.Table.from_batches(list(self.batches(source, options)))

    def batches(self, source, options):
        try:
            with Path(source).open(encoding=options.get("encoding", "utf-8")) as file:
                schema = self.schema(self.parse(next(file, "")))
                rows = []
                for line in file:
                    rows.append(self.values(self.parse(line), schema))
                    if len(rows) == ROWS:
                        yield self.batch(rows, schema)
                        rows = []
                yield self.batch(rows, schema)
        except OSError as error:
            raise InvalidInput(f"'{source}' cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, pa.ArrowException):
            raise InvalidInput(f"'{source}' is damaged.") from None

    def parse(self, line):
        return json.loads(line)

    def schema(self, head):
        return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in head])

    def values(self, line, schema):
        if len(line) != len(schema):
            raise ValueError("a row has more or fewer values than there are columns")
        return line

    def batch(self, rows, schema):
        columns = list(zip(*rows, strict=True)) if rows else [[] for _ in schema]
        return pa.RecordBatch.from_arrays([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


PEN.passes(Lines)
PEN.passes(Lines, case=STREAMED)
caught_by = PEN.caught_by


@PEN.passes(case=SourceCase(write=write, table=pa.table({"pixel": [0, 255, None], "shade": ["dark", "light", None]})))
class WholeAndNotEmpty(Lines):
    """Never streams, refuses a file without rows, and is tried on rows of its own."""

    options = ("encoding",)

    def read(self, source, **options):
        table = super().read(source, **options)
        if not table.num_rows:
            raise InvalidInput(f"'{source}' has no rows.")
        return table


@caught_by("source_is_what_it_registered")
class OtherName(Lines):
    type = "zoo.other"


@caught_by("source_is_what_it_registered")
class LooksLikeASource:
    """Has the methods and none of the interface."""

    type = "zoo.lines"

    def __init__(self):
        self.accepts, self.read = Lines().accepts, Lines().read


@caught_by("its_own_are_accepted_without_a_look_inside")
class LooksInside(Lines):
    def accepts(self, source):
        return super().accepts(source) and Path(source).exists()


@caught_by("its_own_are_accepted_without_a_look_inside")
class KnowsNoPath(Lines):
    def accepts(self, source):
        return isinstance(source, str) and super().accepts(source)


@caught_by("foreign_things_are_not_accepted")
class AcceptsEveryText(Lines):
    def accepts(self, source):
        return isinstance(source, (str, Path))


@caught_by("foreign_things_are_not_accepted")
class FallsOverObjects(Lines):
    def accepts(self, source):
        return str(source.name if isinstance(source, Path) else source.strip()).endswith(self.suffix)


@caught_by("no_bundled_source_reads_the_same", case=SourceCase(write=lambda table, folder: write(table, folder, "table.csv")))
class TakesSomebodyElsesSuffix(Lines):
    suffix = ".csv"


@caught_by("what_was_written_is_read_back")
class ReadsCodesAsNumbers(Lines):
    def schema(self, head):
        return super().schema([(name, "int64" if name == "code" else kind) for name, kind in head])

    def values(self, line, schema):
        where = schema.get_field_index("code")
        return [int(value) if at == where and value is not None else value for at, value in enumerate(super().values(line, schema))]


@caught_by("what_was_written_is_read_back", case=SourceCase())
class HasNoCase(Lines):
    pass


@caught_by("what_was_written_is_read_back")
class FillsGaps(Lines):
    def values(self, line, schema):
        blank = {"int64": 0, "double": 0.0, "string": "", "bool": False}
        return [blank[str(field.type)] if value is None else value for value, field in zip(super().values(line, schema), schema, strict=True)]


@caught_by("text_of_every_script_is_read_back")
class KnowsNoEmoji(Lines):
    """Leaves out what takes four bytes in UTF-8, as old MySQL tables do; not from column names, which it keeps in ASCII."""

    def values(self, line, schema):
        return ["".join(c for c in value if ord(c) < 0x10000) if isinstance(value, str) else value for value in super().values(line, schema)]


@caught_by("odd_column_names_are_read_back")
class TidiesNames(Lines):
    def schema(self, head):
        return super().schema([(name.replace(".", "_"), kind) for name, kind in head])


@caught_by("odd_column_names_are_read_back")
class FallsOverABlankName(Lines):
    def schema(self, head):
        if any(not name.strip() for name, _ in head):
            raise UsageError("A column has no name.")
        return super().schema(head)


@caught_by("reading_twice_gives_the_same_rows")
class KeepsWhatItHasRead(Lines):
    def __init__(self):
        self.before = []

    def batches(self, source, options):
        found = list(super().batches(source, options))
        yield from [*self.before, *found]
        if not options.get("stream"):
            self.before = found


@caught_by("a_stream_starts_again_with_the_same_rows", case=STREAMED)
class GivesOneIterator(Lines):
    def read(self, source, **options):
        made = super().read(source, **options)
        if isinstance(made, pa.Table):
            return made
        once = made()
        return lambda: once


@caught_by("a_stream_starts_again_with_the_same_rows", case=STREAMED)
class StreamsOtherTypes(Lines):
    """Numbers of a stream are floats, whatever they are."""

    def read(self, source, **options):
        made = super().read(source, **options)
        return made if isinstance(made, pa.Table) else lambda: (self.floats(batch) for batch in made())

    def floats(self, batch):
        types = [pa.float64() if pa.types.is_integer(kind) else kind for kind in batch.schema.types]
        arrays = [column.cast(kind, safe=False) for column, kind in zip(batch.columns, types, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


@caught_by("a_stream_gives_bounded_batches", case=STREAMED)
class HoldsEverythingAtOnce(Lines):
    def batches(self, source, options):
        yield pa.Table.from_batches(list(super().batches(source, options))).combine_chunks().to_batches(max_chunksize=None)[0]

    def read(self, source, **options):
        if isinstance(source, str) and Path(source).is_file() and Path(source).stat().st_size < 1_000_000:
            return Lines().read(source, **options)
        return super().read(source, **options)


@caught_by("no_rows_are_an_empty_table_or_refused")
class NeedsARow(Lines):
    def batches(self, source, options):
        found = list(super().batches(source, options))
        if not any(batch.num_rows for batch in found):
            raise UsageError("No rows.")
        yield from found


@caught_by("what_is_missing_is_refused")
class LetsTheSystemSpeak(Lines):
    def batches(self, source, options):
        with Path(source).open("rb"):
            yield from super().batches(source, options)


@caught_by("what_is_missing_is_refused", case=STREAMED)
class StreamsWhatHasGone(Lines):
    """Opens at once, so that a stream whose file has gone raises what the system says."""

    def read(self, source, **options):
        made = super().read(source, **options)
        if isinstance(made, pa.Table):
            return made

        def begin():
            Path(source).stat()
            return made()

        return begin


@caught_by("an_unknown_option_is_refused")
class TakesAnyOption(Lines):
    def read(self, source, **options):
        return super().read(source, **{name: value for name, value in options.items() if name in self.options})


@caught_by("an_unknown_option_is_refused")
class LetsPythonSpeak(Lines):
    def read(self, source, *, encoding="utf-8", stream=False):
        return super().read(source, encoding=encoding, stream=stream)


@caught_by("reading_leaves_the_source_as_it_was")
class KeepsAnIndex(Lines):
    def read(self, source, **options):
        made = super().read(source, **options)
        Path(f"{source}.index").write_text("seen")
        return made


@caught_by("reading_leaves_the_source_as_it_was", case=SourceCase(write=write, options={"encoding": ["utf-8", "latin-1"]}))
class TakesEncodingsOutOfTheList(Lines):
    def read(self, source, **options):
        return super().read(source, **{**options, "encoding": options["encoding"].pop(0)} if "encoding" in options else options)


@caught_by("reading_leaves_global_state_as_it_was")
class SeedsEverybody(Lines):
    def read(self, source, **options):
        random.seed(0)
        return super().read(source, **options)


@caught_by("no_file_stays_open")
class KeepsAHandle(Lines):
    handle = None

    def read(self, source, **options):
        made = super().read(source, **options)
        if type(self).handle is not None:
            os.close(type(self).handle)
        type(self).handle = os.open(source, os.O_RDONLY)
        return made


@caught_by("damaged_files_give_rows_or_are_refused")
class LetsTheParserSpeak(Lines):
    def batches(self, source, options):
        yield from super().batches(source, options)
        with Path(source).open(encoding="utf-8", errors="replace") as file:
            for line in file:
                json.loads(line)

    def read(self, source, **options):
        try:
            return super().read(source, **options)
        except InvalidInput as error:
            if "damaged" in str(error):
                raise ValueError("not as it should be") from None
            raise


@caught_by("a_refusal_quotes_no_cell")
class QuotesTheLine(Lines):
    def parse(self, line):
        try:
            return super().parse(line)
        except ValueError:
            raise InvalidInput(f"This is no line of JSON: {line}") from None


@caught_by("a_refusal_quotes_no_cell")
class ShowsWhatCameBefore(Lines):
    """Its own words quote nothing; the library's error that it passes on does."""

    def parse(self, line):
        try:
            return super().parse(line)
        except ValueError:
            raise InvalidInput("A line is damaged.") from KeyError(line)


@caught_by("reading_logs_and_prints_no_cell")
class LogsTheRows(Lines):
    def values(self, line, schema):
        logging.getLogger("zoo").info("read %s", line)
        return super().values(line, schema)


@caught_by("reading_logs_and_prints_no_cell")
class PrintsWhatItRefuses(Lines):
    def parse(self, line):
        try:
            return super().parse(line)
        except ValueError:
            print("skipped", line)
            raise


@caught_by("a_load_leaves_one_intent_and_one_outcome")
class TakesAnyOptionInAWorkspace(TakesAnyOption):
    def read(self, source, **options):
        return super().read(source, **options) if inside_call.get() else Lines().read(source, **options)


@caught_by("personal_data_are_masked_as_they_are_loaded")
class HidesAddressesFromMasking(Lines):
    """Knows when a workspace reads it, and writes addresses so that masking does not know them."""

    def values(self, line, schema):
        hides = inside_call.get()
        return [value[::-1] if hides and isinstance(value, str) and "@" in value else value for value in super().values(line, schema)]


@caught_by("rows_have_the_same_root_as_from_memory")
class ReadsFloatsInAWorkspace(StreamsOtherTypes):
    """Knows when a workspace reads it, and gives the rows another fingerprint, and with it a new budget."""

    def read(self, source, **options):
        made = Lines().read(source, **options)
        if not inside_call.get():
            return made
        return pa.Table.from_batches([self.floats(batch) for batch in (made.to_batches() if isinstance(made, pa.Table) else made())])
