"""Looking at a plugin's code from outside: it runs in a process of its own, so that nothing it does harms this one."""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from affidavit.errors import PluginError

START = 120.0
"""What the SDK itself may take to be imported in the other process, on a machine that has other things to do."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What importing a plugin's module and asking it to register does.

    Attributes
    ----------
    fault
        Why it came to no end; empty where it did. The other attributes say nothing then.
    seconds
        What the import took.
    refused
        Why the plugin manager refuses its hooks.
    registered, again
        Its registrations when it is asked once, and once more.
    sdk, state
        What it changed of the SDK, and of the process.
    loaded
        Top-level modules that it imported.
    reach
        What it did beyond the process.
    printed
        Bytes that it printed.
    deprecated
        Warnings of what it used that is deprecated.
    """

    fault: str = ""
    seconds: float = 0.0
    refused: str = ""
    registered: list[dict[str, Any]] = field(default_factory=list)
    again: list[dict[str, Any]] = field(default_factory=list)
    sdk: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    reach: list[str] = field(default_factory=list)
    printed: int = 0
    deprecated: list[str] = field(default_factory=list)


def prepare() -> None:
    """Start the other process, so that no check's time pays for it."""
    with _lock:
        _nursery()


def look_at(entry: metadata.EntryPoint, *, seconds: float) -> Seen:
    """Import what `entry` names and ask it to register, each within `seconds`."""
    lines, end = _run("module", [entry.value.replace(" ", ""), entry.name], entry, seconds)
    last: dict[str, Any] = lines[-1] if lines else {"stage": "looking at"}
    if last["stage"] == "raised":
        doing = "importing" if len(lines) == 2 else "registering of"
        return Seen(fault=f"{doing} {entry.module} raised {last['reason']}")
    if last["stage"] != "done":
        return Seen(fault=f"{last['stage']} {entry.module}: {end}")
    return Seen(**{key: value for key, value in last.items() if key != "stage"})


def import_paths(paths: Sequence[str], entry: metadata.EntryPoint, *, seconds: float) -> dict[str, str]:
    """Import each of `paths` within `seconds`, and say by path what is wrong with it.

    A module that is absent is not told: the registry tells whether an extra is missing.
    """
    faults: dict[str, str] = {}
    left = list(dict.fromkeys(paths))
    while left:
        lines, end = _run("paths", left, entry, seconds)
        faults |= {line["path"]: line["fault"] for line in lines if line["stage"] == "imported" and line["fault"]}
        if not lines or lines[-1]["stage"] == "imported":
            return faults
        broken = str(lines[-1]["path"])
        faults[broken] = f"importing {broken}: {end}"
        left = left[left.index(broken) + 1 :]
    return faults


def _run(task: str, arguments: Sequence[str], entry: metadata.EntryPoint, seconds: float) -> tuple[list[dict[str, Any]], str]:
    """The lines that the other process wrote, and how it came to its end."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "work").mkdir()
        request = {"folder": folder, "path": _path(entry), "environment": dict(os.environ), "arguments": [str(seconds), task, *arguments]}
        with _lock:
            end = _nursery().run(request, START + seconds * 2 * max(1, len(arguments)))
        diary = Path(folder) / "diary"
        lines = [json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else []
        return lines, where(Path(folder) / "stack", seconds) or end


class _Nursery:
    """A process with the SDK loaded, which makes a copy of itself for each look: loading the SDK for each would take a second."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-B", "-c", "from affidavit.testing.probe import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        atexit.register(self.close)
        if self._answer(START) is None:
            self.close()
            raise PluginError(f"The process in which plugins are tried did not start within {START:g} s.", hint="See what it printed.")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, request: Mapping[str, Any], seconds: float) -> str:
        """Do a task in a copy of the process, and say how the copy came to its end."""
        assert self._process.stdin is not None
        copy = code = None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            copy = self._answer(START)
            code = None if copy is None else self._answer(seconds)
        finally:
            if code is None:  # too late, or interrupted: an answer that still comes must not be taken for that to the next request
                self.close()
                if copy is not None:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(copy, signal.SIGKILL)
        if code is not None:
            return ended(code)
        return f"it had not ended after {seconds:g} s, or ended the process that it was tried in"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was written last went to a process that is gone
                stream.close()  # type: ignore[union-attr]  # both are pipes
        atexit.unregister(self.close)

    def _answer(self, seconds: float) -> int | None:
        """The number in the process's next line; None where none comes in time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        return int(line) if line else None


def environment() -> dict[str, str]:
    """The environment of a Python that finds what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}  # noqa: PTH100


_STANDARD = os.path.dirname(os.__file__)  # noqa: PTH120 - compared as text
_lock = threading.Lock()
_kept: list[_Nursery] = []


def _nursery() -> _Nursery:
    if not _kept or not _kept[0].alive:
        _kept[:] = [_Nursery()]
    return _kept[0]


def ended(code: int) -> str:
    """How a process came to an end that should have gone on, from its exit code."""
    return f"the signal {signal.Signals(-code).name} ended the process" if code < 0 else f"it ended the process with the code {code}"


def where(stack: Path, seconds: float) -> str:
    """Where the process stood when its time was over; empty where that was not so."""
    text = stack.read_text(errors="replace") if stack.exists() else ""
    if "Timeout" not in text:
        return ""
    frames = re.findall(r'File "([^"<]+)", line (\d+)', text)
    own = [frame for frame in frames if "site-packages" in frame[0] or not frame[0].startswith(_STANDARD)]
    inside = next(iter(own or frames), None)
    return f"it had not ended after {seconds:g} s" + (f", and stood in {Path(inside[0]).name}, line {inside[1]}" if inside else "")


def _path(entry: metadata.EntryPoint) -> list[str]:
    """What this process sees, that one sees, and the folder that the distribution is installed in."""
    own = [] if entry.dist is None else [str(entry.dist.locate_file(""))]
    return list(dict.fromkeys(os.path.abspath(path) for path in [*sys.path, *own]))  # noqa: PTH100
