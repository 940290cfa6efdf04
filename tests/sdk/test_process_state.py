"""What a plugin changes of the process and of the SDK is seen and put back."""

from __future__ import annotations

import builtins
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affidavit.tampering import sdk_changes, sdk_state
from affidavit.testing.checks import Check, CheckFailed, run_checks
from affidavit.testing.process_state import changes, left_alone, process_state, put_back
from affidavit.testing.report import Outcome, Tier
from affidavit.workspace import Workspace

CHANGES: dict[str, Callable[[], object]] = {
    "Python's global random state": lambda: random.seed(0),
    "NumPy's global random state": lambda: np.random.seed(0),
    "NumPy's error handling": lambda: np.seterr(all="raise"),
    "the environment": lambda: os.environ.update(ZOO_WAS_HERE="yes"),
    "the working folder": lambda: os.chdir("/"),
    "sys.path": lambda: sys.path.insert(0, "/zoo"),
    "the warning filters": lambda: warnings.simplefilter("ignore", FutureWarning),
    "the logging configuration": lambda: setattr(logging.getLogger("affidavit"), "disabled", True),
    "the locale": lambda: locale.setlocale(locale.LC_ALL, "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8"),
    "the exception hook": lambda: setattr(sys, "excepthook", print),
    "the recursion limit": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
    "the sockets' default timeout": lambda: socket.setdefaulttimeout(7),
    "the garbage collector's settings": lambda: gc.set_threshold(701),
    "the built-in functions": lambda: setattr(builtins, "input", print),
    "the standard streams": lambda: setattr(sys, "stdin", None),
    "affidavit.workspace.Workspace.train": lambda: setattr(Workspace, "train", None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_named_and_put_back_and_nothing_else_is_named(what: str) -> None:
    before, sdk = process_state(), sdk_state()
    with left_alone() as changed:
        CHANGES[what]()
    assert changed == [what]
    assert changes(before, process_state()) == [] and sdk_changes(sdk) == []


def test_nothing_is_named_where_nothing_is_changed_and_it_holds_in_any_thread() -> None:
    found: list[list[str]] = []

    def look() -> None:
        with left_alone() as changed:
            random.Random(3).random()
        found.append(changed)

    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [[], []]


def test_it_is_put_back_when_the_block_raises() -> None:
    where = Path.cwd()
    with pytest.raises(KeyError), put_back():
        os.chdir("/")
        raise KeyError
    assert Path.cwd() == where


def test_a_signal_handler_is_seen() -> None:
    plain = signal.getsignal(signal.SIGUSR2)
    before = process_state()
    try:
        signal.signal(signal.SIGUSR2, lambda *_: None)
        assert changes(before, process_state()) == ["the signal handlers"]
    finally:
        signal.signal(signal.SIGUSR2, plain)


def test_what_one_subject_leaves_behind_is_not_the_next_ones() -> None:
    plain = Workspace.train
    seen: list[object] = []

    def tamper(subject: object) -> None:
        seen.append(Workspace.train)
        Workspace.train = None  # type: ignore[assignment,method-assign]
        raise CheckFailed("it has been here")

    each = Check("tampers", "model", Tier.API, frozenset(), tamper)
    assert {result.outcome for result in run_checks([(each, "a"), (each, "b")])} == {Outcome.FAILED}
    assert seen == [plain, plain] and Workspace.train is plain
