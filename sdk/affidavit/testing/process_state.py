"""What belongs to the whole process: looked at before and after a plugin's code runs, and put back, so that one check's fault is not the next one's.

>>> with left_alone() as changed:
...     random.seed(0)
>>> changed
["Python's global random state"]
"""

from __future__ import annotations

import builtins
import functools
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from affidavit.tampering import State, restore, sdk_changes, sdk_state

_LOGGERS = (logging.root, logging.getLogger("affidavit"))
_UNLIKELY_SEED = 918_273


def process_state() -> dict[str, Any]:
    """What a plugin must leave alone, by its name in a message; values are for comparing only."""
    state = {
        "Python's global random state": random.getstate(),
        "the environment": dict(os.environ),
        "the working folder": os.getcwd(),  # noqa: PTH109 - compared as text
        "sys.path": list(sys.path),
        "the warning filters": (list(warnings.filters), warnings.showwarning),
        "the logging configuration": _logging_state(),
        "the signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "the locale": locale.setlocale(locale.LC_ALL),
        "the exception hook": sys.excepthook,
        "the standard streams": (sys.stdin, sys.stdout, sys.stderr),
        "the recursion limit": sys.getrecursionlimit(),
        "the sockets' default timeout": socket.getdefaulttimeout(),
        "the garbage collector's settings": (gc.isenabled(), gc.get_threshold()),
        "the built-in functions": {name: id(value) for name, value in vars(builtins).items() if name != "_"},
    }
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        generator: Any = numpy.random.get_state()
        state["NumPy's global random state"] = (generator[0], generator[1].tobytes(), generator[2:])
        state["NumPy's error handling"] = numpy.geterr()
    if torch is not None:
        state["torch's global random state"] = torch.random.get_rng_state().numpy().tobytes()
        state["torch's default type"] = str(torch.get_default_dtype())
        state["torch's threads"] = torch.get_num_threads()
        state["torch's gradient mode"] = torch.is_grad_enabled()
    return state


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of `process_state` that have another value; what came in between, such as a library's own state, is no change."""
    return [name for name, value in before.items() if name in after and after[name] != value]


@contextmanager
def left_alone() -> Iterator[list[str]]:
    """Give a list that holds, after the block, what the block changed of the process and of the SDK; everything that can be is put back.

    The random generators stand in a state meanwhile that no careless ``seed(0)`` gives them.
    """
    changed: list[str] = []
    sdk = sdk_state()
    with put_back(sdk):
        _seed_unlikely()
        state = process_state()
        try:
            yield changed
        finally:
            replaced = sdk_changes(sdk)
            changed += changes(state, process_state()) + replaced[:3]


@contextmanager
def put_back(sdk: State | None = None) -> Iterator[Callable[[], None]]:
    """Put back after the block what it changes of the process and of the SDK (to `sdk`, by default as it is now), as far as that can be done
    from any thread.

    What it gives does so at once, as often as it is called.
    """
    kept, undo = sdk_state() if sdk is None else sdk, _undo()

    def back() -> None:
        restore(kept)
        for step in undo:
            with suppress(Exception):  # one thing that cannot be put back keeps nothing else from it
                step()

    try:
        yield back
    finally:
        back()


def _undo() -> list[Callable[[], Any]]:
    environment, path, filters = dict(os.environ), list(sys.path), list(warnings.filters)
    loggers = [(each, each.level, list(each.handlers), list(each.filters), each.disabled, each.propagate) for each in _LOGGERS]
    streams = (sys.stdin, sys.stdout, sys.stderr)
    names = dict(vars(builtins))
    collecting = gc.isenabled()

    def path_back() -> None:
        sys.path[:] = path

    def filters_back() -> None:
        warnings.filters[:] = filters  # type: ignore[index]  # a list, which typeshed calls a sequence
        warnings._filters_mutated()  # type: ignore[attr-defined]  # as warnings.catch_warnings does

    def environment_back() -> None:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})

    def streams_back() -> None:
        sys.stdin, sys.stdout, sys.stderr = streams

    def loggers_back() -> None:
        for logger, level, handlers, kept, disabled, propagate in loggers:
            logger.setLevel(level)
            logger.handlers[:], logger.filters[:] = handlers, kept
            logger.disabled, logger.propagate = disabled, propagate

    steps: list[Callable[[], Any]] = [
        functools.partial(random.setstate, random.getstate()),
        environment_back,
        functools.partial(os.chdir, os.getcwd()),  # noqa: PTH109 - as text
        path_back,
        filters_back,
        functools.partial(setattr, warnings, "showwarning", warnings.showwarning),
        loggers_back,
        functools.partial(logging.disable, logging.root.manager.disable),
        functools.partial(locale.setlocale, locale.LC_ALL, locale.setlocale(locale.LC_ALL)),
        functools.partial(setattr, sys, "excepthook", sys.excepthook),
        streams_back,
        functools.partial(sys.setrecursionlimit, sys.getrecursionlimit()),
        functools.partial(socket.setdefaulttimeout, socket.getdefaulttimeout()),
        gc.enable if collecting else gc.disable,
        functools.partial(gc.set_threshold, *gc.get_threshold()),
        functools.partial(vars(builtins).update, names),
    ]
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        steps += [functools.partial(numpy.random.set_state, numpy.random.get_state()), functools.partial(numpy.seterr, **numpy.geterr())]
    if torch is not None:
        steps.append(functools.partial(torch.random.set_rng_state, torch.random.get_rng_state()))
        steps.append(functools.partial(torch.set_default_dtype, torch.get_default_dtype()))
        steps.append(functools.partial(torch.set_num_threads, torch.get_num_threads()))
        steps.append(functools.partial(torch.set_grad_enabled, torch.is_grad_enabled()))
    return steps


def _seed_unlikely() -> None:
    random.seed(_UNLIKELY_SEED)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(_UNLIKELY_SEED)
    if torch is not None:
        torch.random.manual_seed(_UNLIKELY_SEED)


def _logging_state() -> Any:
    parts = [(each.level, list(each.handlers), list(each.filters), each.disabled, each.propagate) for each in _LOGGERS]
    return parts, logging.root.manager.disable
