"""Checks: small, named, chosen by kind and capability, each run alone with a timeout."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from affidavit.errors import MissingExtra, UsageError, nearest
from affidavit.testing.process_state import put_back
from affidavit.testing.report import Outcome, Result, Tier

R = TypeVar("R")

SECONDS = 60.0
"""What one check may take: fitting a small model takes one or two, and a plugin that hangs is found in a minute."""


class CheckFailed(AssertionError):
    """A check's verdict: what is wrong, and what to do."""


class Hung(CheckFailed):
    """It took longer than it may, and was left behind in its thread."""


class Skip(Exception):
    """This check says nothing about this subject, and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes
    ----------
    name
        Unique in the kit.
    kind
        What it checks: ``model``, ``plugin``…
    tier
        See `Tier`.
    needs
        Capabilities that the subject must claim; without them the check is not chosen.
    run
        Takes the subject; raises CheckFailed or Skip. Anything else that it raises is a failure too.
    """

    name: str
    kind: str
    tier: Tier
    needs: frozenset[str]
    run: Callable[[Any], None]

    @property
    def summary(self) -> str:
        """Its first line of documentation."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


CHECKS: dict[str, Check] = {}
"""All checks by name, in the order in which they run."""


def check(kind: str, tier: Tier, *, needs: Iterable[str] = ()) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Enter a function as a check under its own name."""

    def enter(function: Callable[[Any], None]) -> Callable[[Any], None]:
        name = function.__name__
        if name in CHECKS:
            raise UsageError(f"There are two checks '{name}'.")
        CHECKS[name] = Check(name, kind, tier, frozenset(needs), function)
        return function

    return enter


def checks_of(kind: str) -> list[Check]:
    """The checks of `kind`, tier after tier."""
    return sorted((each for each in CHECKS.values() if each.kind == kind), key=lambda each: list(Tier).index(each.tier))


def chosen(kind: str, capabilities: Iterable[str] = ()) -> list[Check]:
    """The checks of `kind` that apply to a subject with these capabilities, tier after tier."""
    claimed = frozenset(capabilities)
    return [each for each in checks_of(kind) if each.needs <= claimed]


def known(expected_failures: Mapping[str, str]) -> None:
    """Raise UsageError for the name of a check that does not exist, or a reason that is empty.

    A key is a check's name, or ``registration:check``.
    """
    for key, reason in expected_failures.items():
        name = key.rpartition(":")[2]
        if name not in CHECKS:
            raise UsageError(f"There is no check '{name}'.{nearest(name, CHECKS)}", hint=f"Checks: {', '.join(CHECKS)}.")
        if not reason.strip():
            raise UsageError(f"The expected failure of '{name}' has no reason.", hint="Say why it may fail.")


def run_check(each: Check, subject: Any, *, expected: str | None = None, seconds: float = SECONDS) -> Result:
    """Run one check in a thread of its own, so that one that hangs is told of and left behind.

    Parameters
    ----------
    expected
        Why it may fail; then a pass is reported too, so that the entry goes when its reason has gone.
    """
    begin = time.monotonic()
    _, error = _attempt(seconds, lambda: each.run(subject), f"check {each.name}")
    outcome, message = _verdict(error)
    if expected is not None and outcome is Outcome.FAILED:
        outcome, message = Outcome.EXPECTED_FAILURE, expected
    elif expected is not None and outcome is Outcome.PASSED:
        outcome, message = Outcome.UNEXPECTED_PASS, f"it was expected to fail ({expected}) and passed: take the entry out"
    return Result(str(subject), each.name, each.tier, outcome, message, time.monotonic() - begin, hung=isinstance(error, Hung))


def within(seconds: float, call: Callable[[], R]) -> R:
    """What `call` gives, run in a thread of its own. Raises Hung where it takes longer, CheckFailed where it asks to end the process."""
    value, error = _attempt(seconds, call, "call")
    if error is None:
        return value  # type: ignore[return-value]  # there is one where nothing was raised
    if not isinstance(error, Exception):
        raise CheckFailed(f"it raised {type(error).__name__}, which asks to end the process.")
    raise error


def _attempt(seconds: float, call: Callable[[], R], name: str) -> tuple[R | None, BaseException | None]:
    ended: list[tuple[R | None, BaseException | None]] = []
    done = threading.Event()

    def work() -> None:
        try:
            ended.append((call(), None))
        except BaseException as error:
            ended.append((None, error))
        done.set()

    threading.Thread(target=work, name=name, daemon=True).start()
    if not done.wait(seconds):
        return None, Hung(f"it took longer than {seconds:g} s and was left behind")
    return ended[0]


def run_checks(
    planned: Iterable[tuple[Check, Any]],
    *,
    expected: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
    before: Callable[[Check, Any], None] = lambda each, subject: None,
) -> list[Result]:
    """Run checks in their order.

    What fails a check of the tier `api` is not put through the others, which would only tell of the same fault again. What hangs is put through no
    other check at all: the next would wait in the same place.
    """
    results: list[Result] = []
    broken: set[str] = set()
    hung: dict[str, str] = {}
    before_subject, last = ExitStack(), None
    with before_subject:
        for each, subject in planned:
            before(each, subject)
            if subject is not last:
                before_subject.close()
                back, last = before_subject.enter_context(put_back()), subject
            if str(subject) in hung:
                results.append(Result(str(subject), each.name, each.tier, Outcome.SKIPPED, after_hanging(hung[str(subject)]), 0.0))
                continue
            if each.tier is not Tier.API and str(subject) in broken:
                results.append(Result(str(subject), each.name, each.tier, Outcome.SKIPPED, "its checks of the tier api failed first", 0.0))
                continue
            result = run_check(each, subject, expected=expected_reason(expected or {}, each, subject), seconds=seconds)
            back()  # what one check leaves behind is not the next one's, and a change that is made again is seen again
            results.append(result)
            if each.tier is Tier.API and result.outcome is Outcome.FAILED:
                broken.add(str(subject))
            if result.hung:
                hung[str(subject)] = each.name
    return results


def after_hanging(check: str) -> str:
    """Why nothing else is tried once `check` has hung."""
    return f"{check} hung, and what hangs once is not waited for again"


def expected_reason(reasons: Mapping[str, str], each: Check, subject: Any) -> str | None:
    """Why this check of this subject may fail; None where it may not."""
    return reasons.get(f"{getattr(subject, 'name', subject)}:{each.name}", reasons.get(each.name))


def _verdict(error: BaseException | None) -> tuple[Outcome, str]:
    if error is None:
        return Outcome.PASSED, ""
    if isinstance(error, Skip):
        return Outcome.SKIPPED, str(error)
    missing = error if isinstance(error, MissingExtra) else error.__cause__
    if isinstance(missing, MissingExtra):  # what cannot be tried here is no fault
        return Outcome.SKIPPED, str(missing)
    if isinstance(error, CheckFailed):
        return Outcome.FAILED, str(error)
    return Outcome.FAILED, f"it raised {type(error).__name__}: {error}"
