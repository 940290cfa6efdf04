"""Checks of a source as such: what it takes for its own, and that its rows are those that were written."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.interfaces.dataset import DatasetSource
from affidavit.plugins import bundled_registry
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.source.subject import SourceSubject, fingerprint, whole
from affidavit.testing.process_state import left_alone
from affidavit.testing.report import Tier

FOREIGN: tuple[Any, ...] = (
    None,
    42,
    2.5,
    b"bytes",
    object(),
    [],
    ("a", "b"),
    int,
    "",
    "words",
    "table.kit-unknown",
    Path("table.kit-unknown"),
    "kit-unknown://host/table",
)
"""What no source reads."""

SCRIPTS = (
    "张伟住在上海市浦东新区。",
    "😀 👩‍👩‍👧 🇩🇪 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "مرحبا بالعالم",
    "e\u0301 is not é",
    'a "quoted" word, and; other | marks',
    "it's 100 % sure: \\ and / <b>&amp;</b>",
    "a line\nbreak and a\ttab",
    "long " * 2000,
)
NAMES = ("a b", 'a "b"', "a.b", "it's", "a,b;c", "100 %", "a:b", "a/b\\c", "名前", "😀", "select", "__x__", "3")
EMPTY_NAME = " "

BATCH_ROWS = 65_536
BATCH_BYTES = 32 * 1024**2
"""A batch may have more rows than that or more bytes than that, not more of both: such a stream holds everything at once."""


@check("source", Tier.API)
def source_is_what_it_registered(subject: SourceSubject) -> None:
    """The class is a `DatasetSource`, is made without arguments, and its `type` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, DatasetSource)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.DatasetSource.")
    if subject.value.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.type}': give both the same name.")
    subject.make()


@check("source", Tier.API)
def its_own_are_accepted_without_a_look_inside(subject: SourceSubject) -> None:
    """`accepts` says yes to what it reads, a path as text or `Path`, and goes by the name: also where nothing is there."""
    with subject.written(subject.table) as (source, folder):
        forms = [source, Path(source)] if isinstance(source, str) and Path(source).exists() else [source]
        forms = [source, str(source)] if isinstance(source, Path) else forms
        for when in ("", " when the file is missing"):
            for form in forms:
                if subject.make().accepts(form) is not True:
                    raise CheckFailed(f"accepts does not say yes to a {type(form).__name__} of its own{when}: go by type and name, and return True.")
            _clear(folder)


@check("source", Tier.API)
def foreign_things_are_not_accepted(subject: SourceSubject) -> None:
    """`accepts` says no to None, numbers, other objects, paths of another suffix and URLs of another scheme, and raises nothing."""
    for thing in FOREIGN:
        what = repr(thing) if isinstance(thing, (str, Path, int, float, bytes)) or thing is None else f"an object of type {type(thing).__name__}"
        try:
            accepted = subject.make().accepts(thing)
        except Exception as error:
            raise CheckFailed(f"accepts raised {type(error).__name__} for {what}: every source is asked about everything, so say False.") from error
        if accepted is not False:
            raise CheckFailed(f"accepts takes {what} for its own, which keeps it from the source that it belongs to.")


@check("source", Tier.API)
def no_bundled_source_reads_the_same(subject: SourceSubject) -> None:
    """What is its own is accepted by none of the sources that come with Affidavit, one of which would be asked first."""
    registry = bundled_registry()
    with subject.written(subject.table) as (source, _):
        for name in registry.names("source"):
            if name != subject.name and registry.get("source", name)().accepts(source):
                raise CheckFailed(f"the source '{name}' says that it reads the same: use a suffix or a scheme of its own.")


@check("source", Tier.API)
def what_was_written_is_read_back(subject: SourceSubject) -> None:
    """Names, rows, values and gaps are those that were written; numbers stay numbers, text and codes such as 01307 stay text."""
    if subject.case.write is None:
        raise CheckFailed("the kit cannot know how rows get to where it reads: bring a SourceCase whose 'write' puts a table there.")
    with subject.written(subject.table) as (source, _):
        for way in subject.ways:
            _same(subject.table, subject.read(source, way))


@check("source", Tier.API)
def text_of_every_script_is_read_back(subject: SourceSubject) -> None:
    """Chinese, emoji, Arabic, combining marks, quotes, delimiters, line breaks and long texts are read as they were written."""
    table = _widened(subject.table, {"scripts": list(SCRIPTS)})
    with subject.written(table) as (source, _):
        for way in subject.ways:
            _same(table, subject.read(source, way), only="scripts")


@check("source", Tier.API)
def odd_column_names_are_read_back(subject: SourceSubject) -> None:
    """Names with spaces, quotes, dots, delimiters and other scripts stay as they are; one of blanks stays or is InvalidInput."""
    table = _widened(subject.table, {name: [f"{name} {row}" for row in range(3)] for name in NAMES})
    with subject.written(table) as (source, _):
        for way in subject.ways:
            got = subject.read(source, way).column_names
            if got != table.column_names:
                lost = [name for name in table.column_names if name not in got]
                raise CheckFailed(f"columns come back under other names or in another order; lost: {', '.join(map(repr, lost)) or 'none'}.")
    blank = _widened(subject.table, {EMPTY_NAME: ["a", "b"]})
    with subject.written(blank) as (source, _):
        for way in subject.ways:
            try:
                got = subject.read(source, way).column_names
            except InvalidInput:
                continue
            if got != blank.column_names:
                raise CheckFailed("a column whose name is a blank comes back under another: keep the name, or raise InvalidInput.")


@check("source", Tier.API)
def reading_twice_gives_the_same_rows(subject: SourceSubject) -> None:
    """What is read again, by the same object or another, has the same fingerprint."""
    with subject.written(subject.table) as (source, _):
        for way in subject.ways:
            reader = subject.make()
            prints = {fingerprint(whole(subject.open(source, way, each))) for each in (reader, reader, None)}
            if len(prints) != 1:
                raise CheckFailed("the same source read again has another fingerprint: draw, shuffle and add nothing.")


@check("source", Tier.API)
def a_stream_starts_again_with_the_same_rows(subject: SourceSubject) -> None:
    """A stream gives a fresh iterator each time, record batches of one schema, and the rows and types of the whole read."""
    with subject.written(subject.table) as (source, _):
        made = [subject.open(source, way) for way in subject.ways]
        if subject.case.stream is not None and isinstance(made[-1], pa.Table):
            raise CheckFailed("with the case's stream options it gives a table: return a function that gives batches.")
        streams = [each for each in made if not isinstance(each, pa.Table)]
        if not streams:
            raise Skip("it does not stream")
        expected = fingerprint(whole(made[0]))
        for stream in streams:
            first = stream()
            next(first, None)
            for batches in (list(stream()), list(stream())):
                if not all(isinstance(batch, pa.RecordBatch) for batch in batches) or len({batch.schema for batch in batches}) != 1:
                    raise CheckFailed("a stream must give record batches, all of one schema.")
                if fingerprint(pa.Table.from_batches(batches)) != expected:
                    raise CheckFailed("a stream that is started again gives other rows: return a function that begins anew at each call.")


@check("source", Tier.API)
def a_stream_gives_bounded_batches(subject: SourceSubject) -> None:
    """Of 70,000 rows and 34 MB, no batch has more than 65,536 rows and 32 MiB both: a stream is for data larger than memory."""
    if subject.case.stream is None:
        raise Skip("its case names no options with which it streams")
    rows = BATCH_ROWS + 4464
    filler = pa.array(["streamed " * 55 + str(row) for row in range(1000)])
    text = pa.chunked_array([filler] * (rows // 1000))
    table = pa.table({"row": pa.array(np.arange(len(text))), "text": text})
    with subject.written(table) as (source, _):
        made = subject.open(source, subject.ways[-1])
        if isinstance(made, pa.Table):
            raise CheckFailed("with the case's stream options it gives a table: return a function that gives batches.")
        seen = 0
        for batch in made():
            seen += batch.num_rows
            if batch.num_rows > BATCH_ROWS and batch.nbytes > BATCH_BYTES:
                raise CheckFailed(f"a batch has {batch.num_rows} rows and {batch.nbytes / 1024**2:.0f} MiB: give batches as they are read.")
        if seen != len(text):
            raise CheckFailed(f"a stream of {len(text)} rows gave {seen}.")


@check("source", Tier.API)
def no_rows_are_an_empty_table_or_refused(subject: SourceSubject) -> None:
    """Without a row it gives an empty table with the columns, or raises InvalidInput."""
    with subject.written(subject.table.slice(0, 0)) as (source, _):
        for way in subject.ways:
            try:
                table = subject.read(source, way)
            except InvalidInput:
                continue
            except Exception as error:
                raise CheckFailed(f"no rows raised {type(error).__name__}: give an empty table, or raise InvalidInput.") from error
            if table.num_rows or table.column_names != subject.table.column_names:
                raise CheckFailed(f"no rows came back as {table.num_rows} rows of {table.num_columns} columns.")


@check("source", Tier.API)
def what_is_missing_is_refused(subject: SourceSubject) -> None:
    """A file that is not there, is a folder, or has gone when a stream begins, is InvalidInput."""
    with subject.written(subject.table) as (source, folder):
        names = [path.relative_to(folder) for path in _files(folder)]
        if not names:
            raise Skip("what it reads is no file")
        opened = [made for made in (subject.open(source, way) for way in subject.ways) if not isinstance(made, pa.Table)]
        _clear(folder)
        for way in subject.ways:
            _refused("a missing file", lambda way=way: subject.read(source, way))
        for stream in opened:
            _refused("a stream whose file has gone", lambda stream=stream: whole(stream))
        for name in names:
            (folder / name).mkdir(parents=True)
        for way in subject.ways:
            _refused("a folder in the place of its file", lambda way=way: subject.read(source, way))


@check("source", Tier.API)
def an_unknown_option_is_refused(subject: SourceSubject) -> None:
    """An option that it does not take is UsageError, so that a typo is no silent default."""
    with subject.written(subject.table) as (source, _):
        for way in subject.ways:
            try:
                subject.read(source, {**way, "surely_no_such_option": 1})
            except UsageError:
                continue
            except Exception as error:
                raise CheckFailed(
                    f"an unknown option raised {type(error).__name__}, not UsageError: name the option, and those that it takes."
                ) from error
            raise CheckFailed("an unknown option was accepted: compare the names with those that it takes, and raise UsageError.")


@check("source", Tier.API)
def reading_leaves_the_source_as_it_was(subject: SourceSubject) -> None:
    """Reading changes no file, writes none beside it, and changes no option that it is given."""
    with subject.written(subject.table) as (source, folder):
        files = {path: path.read_bytes() for path in _files(folder)}
        for way in subject.ways:
            given = copy.deepcopy(way)
            whole(subject.make().read(source, **given))
            if {path: path.read_bytes() for path in _files(folder)} != files:
                raise CheckFailed("reading changed, removed or added a file: open it for reading, and keep no index beside it.")
            if given != way:
                raise CheckFailed("reading changed a list or a dict among its options: work on a copy.")


@check("source", Tier.API)
def reading_leaves_global_state_as_it_was(subject: SourceSubject) -> None:
    """Reading leaves random generators, the environment, the working folder, logging and the SDK alone."""
    with subject.written(subject.table) as (source, _), left_alone() as changed:
        for way in subject.ways:
            subject.read(source, way)
    if changed:
        raise CheckFailed(f"it changed {', '.join(changed)} of the whole process: use objects of its own, or put things back.")


@check("source", Tier.API)
def no_file_stays_open(subject: SourceSubject) -> None:
    """After a read, a stream read to its end and one closed before, no file of the source is open."""
    own = Path("/proc/self/fd")
    if not own.is_dir():
        raise Skip("only where /proc shows which files are open")
    with subject.written(subject.table) as (source, folder):
        if not _files(folder):
            raise Skip("what it reads is no file")

        def left(what: str) -> None:
            if any(_within(handle, folder) for handle in own.iterdir()):
                raise CheckFailed(f"{what} leaves a file open: use 'with', in a generator as well.")

        for way in subject.ways:
            made = subject.open(source, way)
            left("opening it")
            if isinstance(made, pa.Table):
                continue
            for _ in made():
                pass
            left("a stream that was read to its end")
            begun: Any = made()
            next(begun, None)
            if hasattr(begun, "close"):
                begun.close()
            del begun
            left("a stream that was closed after its first batch")


def _same(written: pa.Table, read: pa.Table, only: str | None = None) -> None:
    """Raise CheckFailed where the rows that were read are others than those written."""
    if only is None and read.column_names != written.column_names:
        raise CheckFailed(f"the columns {written.column_names} come back as {read.column_names}.")
    if read.num_rows != written.num_rows:
        raise CheckFailed(f"{written.num_rows} rows come back as {read.num_rows}.")
    for name in [only] if only else written.column_names:
        if read.schema.get_field_index(name) < 0:
            raise CheckFailed(f"the column '{name}' does not come back, or twice.")
        _same_values(name, written.column(name), read.column(name))


def _same_values(name: str, written: pa.ChunkedArray, read: pa.ChunkedArray) -> None:
    kind = read.type.value_type if pa.types.is_dictionary(read.type) else read.type
    text, number = _is_text(kind), pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if (_is_text(written.type) and not text) or ((pa.types.is_integer(written.type) or pa.types.is_floating(written.type)) and not number):
        raise CheckFailed(f"the column '{name}' of {written.type} comes back as {read.type}: numbers stay numbers, and text stays text.")
    for row, (before, after) in enumerate(zip(written.to_pylist(), read.to_pylist(), strict=True)):
        gone = after is None or after != after  # NaN is a missing value everywhere
        if (before is None) != gone:
            what = "a missing value comes back as one that is there" if before is None else "a value is lost"
            raise CheckFailed(f"row {row + 1} of '{name}': {what}.")
        words = (str(before).lower(), str(int(before))) if isinstance(before, bool) else ()  # of a format that has no booleans
        if before is not None and before != after and str(after).lower() not in words:
            raise CheckFailed(f"row {row + 1} of '{name}' comes back with another value.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _widened(table: pa.Table, columns: dict[str, list[str]]) -> pa.Table:
    """The rows, repeated until the values of the new columns stand in one each."""
    rows = max(len(values) for values in columns.values())
    table = pa.concat_tables([table] * (rows // table.num_rows + 1))
    for name, values in columns.items():
        table = table.append_column(name, pa.array([values[row % len(values)] for row in range(table.num_rows)]))
    return table


def _refused(what: str, call: Any) -> None:
    try:
        call()
    except InvalidInput:
        return
    except Exception as error:
        say = "InvalidInput" if isinstance(error, AffidavitError) else "InvalidInput, which says what is missing"
        raise CheckFailed(f"{what} raised {type(error).__name__}: raise {say}.") from error
    raise CheckFailed(f"{what} was read: raise InvalidInput.")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _within(handle: Path, folder: Path) -> bool:
    try:
        opened: Path = handle.readlink()
    except OSError:  # closed meanwhile: of another thread
        return False
    return folder in opened.parents
