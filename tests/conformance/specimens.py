"""The specimens of the zoo and what the kit finds in each: its tests stand in two files, so that two workers share them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from affidavit.testing.catalogue import SUBJECTS
from affidavit.testing.checks import CHECKS, chosen, run_checks
from affidavit.testing.report import Outcome

PENS = [
    import_module(f"tests.conformance.zoo.{path.stem}").PEN for path in sorted((Path(__file__).parent / "zoo").glob("*.py")) if path.stem != "pen"
]
KINDS = frozenset({"plugin", *SUBJECTS})
MODELS = frozenset({"plugin", "model"})
"""The kinds of test_kit_models.py, which take about as long as all others together."""


def sound(kinds):
    return [pytest.param(make, id=f"{pen.subject.kind}-{name}") for pen in PENS if pen.subject.kind in kinds for name, make in pen.sound]


def broken(kinds):
    pens = [pen for pen in PENS if pen.subject.kind in kinds]
    return [pytest.param(check, make, id=f"{pen.subject.kind}-{name}") for pen in pens for check, kept in pen.broken.items() for name, make in kept]


def results(subject):
    return {result.check: result for result in run_checks([(each, subject) for each in chosen(subject.kind, subject.claimed)])}


@cache
def of_sound(make):
    return results(make())


def fails_no_check(make):
    found = of_sound(make)
    assert {name: result.message for name, result in found.items() if result.outcome is Outcome.FAILED} == {}
    assert any(result.outcome is Outcome.PASSED for result in found.values())


def is_caught_by(check, make):
    """By the check that names its fault, and by no other."""
    found = {name: result for name, result in results(make()).items() if result.outcome is Outcome.FAILED}
    assert set(found) == {check}, {name: result.message for name, result in found.items()}
    assert found[check].message


def each_check_passes_somewhere(kinds):
    """A check that is skipped wherever nothing is wrong would prove nothing."""
    passed: dict[str, set[str]] = {kind: set() for kind in kinds}
    for pen in PENS:
        for _, make in pen.sound if pen.subject.kind in kinds else ():
            passed[pen.subject.kind] |= {name for name, result in of_sound(make).items() if result.outcome is Outcome.PASSED}
    for kind, names in passed.items():
        assert names == {each.name for each in CHECKS.values() if each.kind == kind}, kind
