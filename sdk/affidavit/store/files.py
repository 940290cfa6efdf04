"""Named blobs that are written whole or not at all, in a folder or in a SQL table."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from affidavit.errors import AffidavitError, UsageError

_PART = re.compile(r"[A-Za-z0-9_=@+-][A-Za-z0-9._=@+-]{0,199}")
_TEMPORARY = ".tmp"


class Files(Protocol):
    """Named blobs. A name is one or more parts of letters, digits and ``._=@+-`` joined by ``/``; no part begins with a dot.

    Every `write` is atomic and durable when it returns: after a crash a name holds its old content or its new content, never a mixture.
    """

    def read(self, name: str) -> bytes:
        """Give the content. Raises KeyError where there is none."""
        ...

    def head(self, name: str, length: int) -> bytes:
        """The first `length` bytes of the content, or all of a shorter one. Raises KeyError where there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Create or replace. Raises AffidavitError where it cannot be stored; the old content is then intact."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether there is content under `name`."""
        ...

    def delete(self, name: str) -> None:
        """Remove the content; an absent name is fine."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """The names that begin with `prefix`, sorted."""
        ...


def check_name(name: str) -> str:
    """Give `name` back if it is a valid blob name. Raises UsageError otherwise."""
    if not all(_PART.fullmatch(part) for part in name.split("/")) or len(name) > 1000:
        raise UsageError(f"{name[:80]!r} is no name for a stored file.", hint="Use letters, digits and ._=@+- in parts joined by '/'.")
    return name


class FolderFiles:
    """Blobs as files below a folder.

    A write goes to a temporary file in ``<root>/.tmp`` (the same file system), is synced, renamed over the old file, and the folder is
    synced. Writers hold a shared lock on ``.tmp``, so that opening a workspace never removes the temporary file of a living process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._temporary = root / _TEMPORARY
        with _refusing("The folder", root):
            make_folder(self._temporary)

    def read(self, name: str) -> bytes:
        return self.head(name, -1)

    def head(self, name: str, length: int) -> bytes:
        path = self.root / check_name(name)
        try:
            with _refusing(f"'{name}'", self.root, "read"), path.open("rb") as file:
                return file.read(length)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(name) from None

    def write(self, name: str, data: bytes) -> None:
        path = self.root / check_name(name)
        with _refusing(f"'{name}'", self.root), _locked(self._temporary, fcntl.LOCK_SH):
            make_folder(path.parent)
            _replace(path, data, self._temporary / uuid.uuid4().hex, mode=0o600)

    def exists(self, name: str) -> bool:
        return (self.root / check_name(name)).is_file()

    def delete(self, name: str) -> None:
        path = self.root / check_name(name)
        try:
            with _refusing(f"'{name}'", self.root, "deleted"):
                path.unlink()
                _sync_folder(path.parent)
        except (FileNotFoundError, NotADirectoryError):
            return

    def recover(self) -> list[str]:
        """Remove what interrupted writes left behind, unless another process is writing now. Gives one sentence for each."""
        with _refusing("The folder", self.root), _locked(self._temporary, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            leftovers = sorted(self._temporary.iterdir()) if alone else []
            for path in leftovers:
                path.unlink()
        return ["Removed an unfinished write; the earlier content stands." for _ in leftovers]

    def list(self, prefix: str = "") -> list[str]:
        found = []
        for folder, folders, names in os.walk(self.root / prefix.rpartition("/")[0]):
            folders[:] = [each for each in folders if each != _TEMPORARY]
            relative = Path(folder).relative_to(self.root)
            found += [(relative / name).as_posix() for name in names]
        return sorted(name for name in found if name.startswith(prefix))


class SqlFiles:
    """Blobs as rows of the table ``files``.

    Each write is a transaction of its own, outside `Store.write`, as a file's write is.
    """

    metadata = sa.MetaData()
    table = sa.Table(
        "files",
        metadata,
        # The C collation keeps the order of bytes, so that a prefix is a range of the primary key.
        sa.Column("name", sa.Text(collation="C"), primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, name: str) -> bytes:
        return self._content(name, self.table.c.data)

    def head(self, name: str, length: int) -> bytes:
        return self._content(name, sa.func.substr(self.table.c.data, 1, length))

    def _content(self, name: str, what: sa.ColumnElement[bytes]) -> bytes:
        query = sa.select(what).where(self.table.c.name == check_name(name))
        with self._transaction(name) as connection:
            data = connection.execute(query).scalar_one_or_none()
        if data is None:
            raise KeyError(name)
        return bytes(data)

    def write(self, name: str, data: bytes) -> None:
        from sqlalchemy.dialects.postgresql import insert

        row = insert(self.table).values(name=check_name(name), data=data)
        with self._transaction(name) as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"data": row.excluded.data}))

    def exists(self, name: str) -> bool:
        query = sa.select(sa.literal(1)).where(self.table.c.name == check_name(name))
        with self._transaction(name) as connection:
            return connection.execute(query).first() is not None

    def delete(self, name: str) -> None:
        with self._transaction(name) as connection:
            connection.execute(self.table.delete().where(self.table.c.name == check_name(name)))

    def list(self, prefix: str = "") -> list[str]:
        name = self.table.c.name
        with self._transaction(prefix) as connection:
            # "\x7f" sorts after every character that a name can have.
            found = connection.execute(sa.select(name).where(name >= prefix, name < prefix + "\x7f")).scalars().all()
        return sorted(found)

    @contextlib.contextmanager
    def _transaction(self, name: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise AffidavitError(f"The database failed on the stored file '{name}' ({type(error.orig).__name__}); its old content stands.") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the missing folders above `path`, a file outside a workspace, and turn what the operating system refuses into one clear error.

    Raises
    ------
    UsageError
        `path` is a folder, or a device or the like.
    AffidavitError
        It cannot be written; the old content is intact.
    """
    with _refusing(f"'{path.name}'", path.parent):
        if path.is_dir():
            raise UsageError(f"'{path}' is a folder.", hint="Name a file.")
        if path.exists() and not path.is_file():  # a device or a pipe, such as /dev/stdout, would be gone
            raise UsageError(f"'{path}' is no regular file, and would be replaced by one.", hint="Name a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file outside a workspace, such as a report: its old content or all of the new, also after a crash. Errors as in `writing`."""
    with writing(path):
        _replace(path, data, path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp"), mode=0o666)


def make_folder(folder: Path) -> None:
    """Make `folder` and its missing parents for this user alone, and sync each new entry to disk."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(each.parent)


def _replace(path: Path, data: bytes, temporary: Path, *, mode: int) -> None:
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(folder: Path, mode: int) -> Iterator[bool]:
    """Hold a lock on `folder`; gives False where LOCK_NB is asked for and another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, mode)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _refusing(what: str, root: Path, verb: str = "written") -> Iterator[None]:
    """Turn the operating system's refusals into one clear error; absence stays what it is for the caller to judge."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if verb != "written":
            raise
        raise AffidavitError(f"{what} in '{root}' could not be written: {error.strerror}.") from error
    except OSError as error:
        message = f"{what} in '{root}' could not be {verb}: {error.strerror}. What was stored before is unchanged."
        raise AffidavitError(message, hint="Check free space and permissions.") from error
