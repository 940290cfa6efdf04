"""One process's hold on a workspace: a lock that the operating system gives back when the process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path

from affidavit.errors import AffidavitError

_SUFFIX = ".lock"
_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _mark_forked() -> None:
    for session in _open_sessions:
        session._forked = True


# Asking for the process id at each prediction would be a system call; this costs nothing until somebody forks.
os.register_at_fork(after_in_child=_mark_forked)


class Session:
    """Marks calls and journals of this process as belonging to somebody alive.

    Parameters
    ----------
    folder
        Where lock files stand; local to this machine (flock).

    Attributes
    ----------
    id
        Unique; names the lock file and the journal.
    """

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self._forked = False
        self._path = folder / f"{self.id}{_SUFFIX}"
        hidden = folder / f".{self.id}"
        self._descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        # Only now does it get the name that others look for: they never see it unlocked while this process lives.
        hidden.rename(self._path)
        _open_sessions.add(self)

    def check(self) -> None:
        """Raise AffidavitError in a forked child: two processes would write one journal."""
        if self._forked:
            raise AffidavitError("This workspace was opened by another process, before a fork.", hint="Open it again in this process.")

    def close(self, *, keep: bool) -> None:
        """Give the lock back. With `keep` the file stays, so that the next open finds what this session left unfinished."""
        if self._forked or self._descriptor < 0:
            return
        if not keep:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


@contextlib.contextmanager
def dead_session(folder: Path, session: str) -> Iterator[bool]:
    """Claim what `session` left behind: gives True where its process is gone and no other process is claiming it.

    The lock file is removed when the block ends without an exception. A session without a lock file here belongs to another machine.
    """
    path = folder / f"{session}{_SUFFIX}"
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not path.exists():  # another process claimed it, finished and removed it between our open and our lock
            yield False
            return
        yield True
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def sessions(folder: Path) -> list[str]:
    """The sessions that have a lock file here, dead or alive."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))
