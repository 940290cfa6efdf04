"""What `isolation` runs in a process of its own: imports a plugin's code, asks it to register, and writes down what happens as it happens.

Each line of the diary is a JSON object with the `stage` that begins or has ended, so that the last line says where a process came to its end.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import IO, Any

import affidavit.artifacts
import affidavit.calls
import affidavit.pipeline
import affidavit.workspace
from affidavit.deprecation import AffidavitDeprecationWarning
from affidavit.errors import PluginError
from affidavit.plugins import PluginManager, RegistryWriter
from affidavit.tampering import sdk_changes, sdk_state
from affidavit.testing.process_state import changes, process_state

_STARTS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen")
_CONNECTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
_WRITES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.link", "os.symlink", "shutil.rmtree")
_NOT_THE_PLUGIN = ("<frozen", *(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (affidavit, importlib)))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

UNTOUCHED = (
    "NumPy's global random state",
    "torch's global random state",
    "the working folder",
    "the locale",
    "the signal handlers",
    "the logging configuration",
    "the exception hook",
    "the standard streams",
    "the built-in functions",
)
"""What no library changes when it is imported. Some do change the environment or the warning filters, and draw from Python's random generator."""


class Diary:
    """Writes lines, from the process that opened it and from none that was forked off."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._process = os.getpid()

    def write(self, stage: str, **what: Any) -> None:
        """Add a line."""
        if os.getpid() != self._process:
            os._exit(0)  # a copy of the process that the plugin made by os.fork
        self._file.write(json.dumps({"stage": stage, **what}) + "\n")
        self._file.flush()


class Reach:
    """An audit hook that notes what reaches beyond the process."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.watching = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event in _STARTS:
            self.noted.append(f"starts a process ({event})")
        elif event in _CONNECTS:
            self.noted.append(f"opens a network connection ({event})")
        elif event in _WRITES or (event == "open" and _writes(*arguments)):
            self.noted.append(f"writes to the disk ({event} of '{Path(str(arguments[0])).name}')")


def _writes(path: Any, mode: Any, flags: Any) -> bool:
    return isinstance(path, (str, bytes)) and os.fspath(path) not in (os.devnull, os.devnull.encode()) and bool(int(flags or 0) & _WRITING)


def serve() -> None:
    """Read a request a line, do it in a copy of this process, and answer with the copy's number and with its exit code."""
    _answer(0)
    parent = os.getppid()
    for line in sys.stdin:
        copy = os.fork()
        if copy == 0:
            _do(json.loads(line))
        _answer(copy)
        ended = status = 0
        while not ended and os.getppid() == parent:  # nobody would read the answer, and what hangs would hang on
            ended, status = os.waitpid(copy, os.WNOHANG)
            if not ended:
                time.sleep(0.002)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(copy, signal.SIGKILL)  # what it started and left behind
        if not ended:
            return
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _do(request: dict[str, Any]) -> None:
    """Do a request, in a copy of the process that has nothing in common with the first but what is loaded."""
    os.setsid()
    folder = Path(request["folder"])
    for stream, source in ((0, os.devnull), (1, folder / "printed"), (2, folder / "printed")):
        os.dup2(os.open(source, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.chdir(folder / "work")
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:] = request["path"]
    invalidate_caches()
    seconds, task, *arguments = request["arguments"]
    with (folder / "stack").open("w") as stack:
        {"module": _module, "paths": _paths}[task](Diary(folder / "diary"), _deadline(float(seconds), stack), arguments)
    os._exit(0)  # whatever threads the plugin left running


def _deadline(seconds: float, stack: IO[str]) -> Callable[[], None]:
    """Give a function that begins a new deadline: where the process stands when one passes is written to `stack`, and the process ends."""
    return lambda: faulthandler.dump_traceback_later(seconds, exit=True, file=stack)


def _module(diary: Diary, deadline: Callable[[], None], arguments: Sequence[str]) -> None:
    value, name = arguments
    module, _, attribute = value.partition(":")
    deprecated: list[str] = []
    _collect(deprecated)
    manager, reach = PluginManager(), Reach()
    state, sdk, modules, threads = process_state(), sdk_state(), set(sys.modules), set(threading.enumerate())
    printed = _printed()
    diary.write("importing")
    deadline()
    reach.watching = True
    begin = time.perf_counter()
    try:
        plugin = import_module(module)
        seconds = time.perf_counter() - begin
        for part in attribute.split(".") if attribute else ():
            plugin = getattr(plugin, part)
        diary.write("registering")
        deadline()
        refused, registered = _register(manager, plugin, name)
    except BaseException as error:
        reach.watching = False
        diary.write("raised", reason=_said(error))
        return
    reach.watching = False
    diary.write(
        "done",
        seconds=seconds,
        refused=refused,
        registered=registered[0],
        again=registered[1],
        sdk=sdk_changes(sdk),
        state=changes(state, process_state()) + [f"a thread that runs on ('{each.name}')" for each in threading.enumerate() if each not in threads],
        loaded=sorted({name.partition(".")[0] for name in set(sys.modules) - modules}),
        reach=list(dict.fromkeys(reach.noted)),
        printed=_printed() - printed,
        deprecated=deprecated,
    )


def _register(manager: PluginManager, plugin: object, name: str) -> tuple[str, list[list[dict[str, Any]]]]:
    """Why the hooks are refused, or nothing, and what the plugin registers when it is asked once, and once more."""
    try:
        manager.check_hooks(plugin)
    except PluginError as error:
        return str(error), [[], []]
    manager.register(plugin, name)
    found = []
    for _ in range(2):
        writer = RegistryWriter(manager.registry, name)
        manager.ask(plugin, writer)
        found.append(
            [
                {"kind": each.kind, "name": each.name, "path": each.path, "capabilities": sorted(each.capabilities), "extra": each.extra}
                for each in writer.added
            ]
        )
    return "", found


def _paths(diary: Diary, deadline: Callable[[], None], arguments: Sequence[str]) -> None:
    """Import what each path stands for."""
    for path in arguments:
        module, _, attribute = path.partition(":")
        state, sdk = process_state(), sdk_state()
        diary.write("importing", path=path)
        deadline()
        try:
            getattr(import_module(module), attribute)
        except ModuleNotFoundError:
            diary.write("imported", path=path, fault="")  # the registry tells a missing extra from a missing module
            continue
        except BaseException as error:
            diary.write("imported", path=path, fault=f"importing {path} raised {_said(error)}")
            continue
        replaced = sdk_changes(sdk)
        touched = [name for name in changes(state, process_state()) if name in UNTOUCHED]
        fault = f"importing {path} changed {', '.join(replaced[:3] + touched)}: a plugin may add, not change" if replaced or touched else ""
        diary.write("imported", path=path, fault=fault)


def _collect(deprecated: list[str]) -> None:
    """Gather the SDK's deprecations, and print no warning at all: what is printed is looked at apart."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, AffidavitDeprecationWarning):
            deprecated.append(str(message))

    warnings.simplefilter("always", AffidavitDeprecationWarning)
    warnings.showwarning = show


def _printed() -> int:
    """How many bytes were printed so far: both streams go to one file."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    return os.fstat(1).st_size


def _said(error: BaseException) -> str:
    """The error in a line, with the place in the plugin where it arose."""
    if isinstance(error, SystemExit):
        return f"SystemExit({error.code!r}), which asks to end the process"
    # Neither this SDK's own frames nor those of the import system are the place of a mistake.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THE_PLUGIN)]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
