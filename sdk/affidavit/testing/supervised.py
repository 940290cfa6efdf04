"""The kit in a process of its own, for the command: a plugin that ends its process, or never gives it back, is told of and passes nothing."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from affidavit.errors import UsageError
from affidavit.testing.isolation import ended, environment, where
from affidavit.testing.report import Outcome, Report, Result, Tier

_CODE = "from affidavit.testing.supervised import serve; serve()"


def check_apart(
    plugin: str,
    *,
    expected_failures: Mapping[str, str],
    seconds: float,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """`check_plugin` in a process of its own, whose standard output is this one's standard error.

    Where the plugin ends that process, the report holds this one failure, and all else is missing.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_the_end:
        stack = Path(folder) / "stack"
        request = {"plugin": plugin, "expected": dict(expected_failures), "seconds": seconds, "stack": str(stack)}
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True, start_new_session=True
        )
        at_the_end.enter_context(process)  # closes its streams, and waits
        at_the_end.callback(_end, process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()  # and left open: where it closes, its reader ends
        total, what = 1, f"plugin {plugin}, importing_and_registering_come_to_an_end"
        for line in process.stdout:
            told = json.loads(line)
            if "report" in told:
                return _report(told["report"])
            if "error" in told:
                raise UsageError(told["error"], hint=told["hint"])
            total, what = told["total"], told["what"]
            report(told["done"], total, what)
        why = where(stack, _limit(seconds)) or ended(process.wait())
        subject, _, check = what.rpartition(", ")
        return Report(plugin, (Result(subject, check, Tier.API, Outcome.FAILED, f"{why}, and nothing after it was tried", 0.0),), total)


def _limit(seconds: float) -> float:
    return 2 * seconds + 10


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # and what the plugin started there


def serve() -> None:
    """Read a request, do it, and write what happens, a line each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plugin prints, or a program that it starts, is no part of the answers
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    with Path(request["stack"]).open("w") as stack:
        _write(answers, **_checked(request, answers, stack))
    os._exit(0)  # whatever threads were left behind


def _checked(request: Mapping[str, Any], answers: IO[str], stack: IO[str]) -> dict[str, Any]:
    from affidavit.testing.kit import check_plugin

    seconds = request["seconds"]

    def before(done: int, total: int, what: str) -> None:
        _write(answers, done=done, total=total, what=what)
        if not what.startswith("plugin "):  # which is imported in yet another process, with a deadline of its own
            # The check's own deadline is kept by a thread, which code that holds the interpreter lets nobody run.
            faulthandler.dump_traceback_later(_limit(seconds), exit=True, file=stack)

    try:
        found = check_plugin(request["plugin"], expected_failures=request["expected"], seconds=seconds, report=before)
    except UsageError as error:
        return {"error": error.message, "hint": error.hint}
    finally:
        faulthandler.cancel_dump_traceback_later()
    return {"report": found.to_json()}


def _end_with(parent: IO[str]) -> None:
    parent.read()  # until there is none any more
    os._exit(1)


def _write(answers: IO[str], **what: Any) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _report(told: Mapping[str, Any]) -> Report:
    results = (Result(**{**each, "tier": Tier(each["tier"]), "outcome": Outcome(each["outcome"])}) for each in told["results"])
    return Report(told["plugin"], tuple(results), told["expected"])
