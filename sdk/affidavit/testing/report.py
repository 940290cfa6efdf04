"""What the conformance kit found: results, counts, and the forms in which people and machines read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Tier(StrEnum):
    """How much hangs on a check."""

    API = "api"
    """Required of every plugin."""
    GOVERNANCE = "governance"
    """Required for the governed badge."""
    QUALITY = "quality"
    """Told, never required."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected failure"
    UNEXPECTED_PASS = "unexpected pass"


@dataclass(frozen=True, slots=True)
class Result:
    """One check of one thing.

    Attributes
    ----------
    subject
        What was checked: ``"model acme.centroid"``.
    check
        The check's name, unique in the kit.
    message
        What is wrong and what to do; the reason of a skip or of an expected failure.
    seconds
        How long it took.
    hung
        Whether it was left behind when its time was over.
    """

    subject: str
    check: str
    tier: Tier
    outcome: Outcome
    message: str
    seconds: float
    hung: bool = False

    def __post_init__(self) -> None:
        # Both may hold what a plugin raised or is called, and neither a file nor a terminal takes every character of that.
        object.__setattr__(self, "subject", _printable(self.subject))
        object.__setattr__(self, "message", _printable(self.message))


@dataclass(frozen=True, slots=True)
class Report:
    """All results for one plugin.

    Attributes
    ----------
    plugin
        What was checked.
    results
        In the order in which they ran.
    expected
        How many results there should be: what was chosen to run before anything ran.
    """

    plugin: str
    results: tuple[Result, ...]
    expected: int

    @property
    def counts(self) -> dict[str, int]:
        """Results by outcome, with those that are missing."""
        found = Counter(str(result.outcome) for result in self.results)
        return {**{str(outcome): found[str(outcome)] for outcome in Outcome}, "missing": self.expected - len(self.results)}

    @property
    def problems(self) -> tuple[Result, ...]:
        """Results of required tiers that must not be: failures, and passes that were expected to fail."""
        bad = (Outcome.FAILED, Outcome.UNEXPECTED_PASS)
        return tuple(result for result in self.results if result.outcome in bad and result.tier is not Tier.QUALITY)

    @property
    def ok(self) -> bool:
        """Whether every required check ran and held. A run without a single passed check is none."""
        return not self.problems and self.counts["missing"] == 0 and self.counts[Outcome.PASSED] > 0

    @property
    def governed(self) -> bool:
        """Whether the plugin earns the governed badge: it is ok, and each check of the tier ran and passed."""
        tier = [result for result in self.results if result.tier is Tier.GOVERNANCE]
        return self.ok and bool(tier) and all(result.outcome is Outcome.PASSED for result in tier)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "version": 1,
            "plugin": self.plugin,
            "ok": self.ok,
            "governed": self.governed,
            "expected": self.expected,
            "counts": self.counts,
            "results": [
                {
                    "subject": result.subject,
                    "check": result.check,
                    "tier": str(result.tier),
                    "outcome": str(result.outcome),
                    "message": result.message,
                    "seconds": round(result.seconds, 3),
                }
                for result in self.results
            ],
        }

    def to_junit(self) -> str:
        """The report as JUnit XML, for build servers: an unexpected pass is a failure, an expected failure is skipped."""
        bad, idle = (Outcome.FAILED, Outcome.UNEXPECTED_PASS), (Outcome.SKIPPED, Outcome.EXPECTED_FAILURE)
        suite = ElementTree.Element(
            "testsuite",
            name=self.plugin,
            tests=str(len(self.results)),
            failures=str(sum(result.outcome in bad for result in self.results)),
            skipped=str(sum(result.outcome in idle for result in self.results)),
        )
        for result in self.results:
            case = ElementTree.SubElement(suite, "testcase", classname=result.subject, name=result.check, time=f"{result.seconds:.3f}")
            if result.outcome in bad:
                ElementTree.SubElement(case, "failure", message=result.message)
            elif result.outcome in idle:
                ElementTree.SubElement(case, "skipped", message=result.message)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)

    def __str__(self) -> str:
        lines = [f"{result.outcome}: {result.subject}, {result.check}: {result.message}" for result in _worst_first(self.results)]
        counts = ", ".join(f"{number} {what}" for what, number in self.counts.items() if number)
        badge = "conforms, governed" if self.governed else "conforms" if self.ok else "does not conform"
        return "\n".join([*lines, f"{self.plugin}: {badge} ({counts or 'no check ran'})"])


def _worst_first(results: Sequence[Result]) -> list[Result]:
    """What a reader must know of: everything but passes and skips, failures first."""
    order = [Outcome.FAILED, Outcome.UNEXPECTED_PASS, Outcome.EXPECTED_FAILURE]
    return sorted((result for result in results if result.outcome in order), key=lambda result: order.index(result.outcome))


def _printable(text: str) -> str:
    """Text that XML may hold: a message quotes what a plugin raised."""
    return _NOT_XML.sub("?", text)
