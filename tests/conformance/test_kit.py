"""The conformance kit tests itself: each broken specimen is caught by the check that names its fault, and the sound ones raise no alarm."""

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
SOUND = [pytest.param(make, id=f"{pen.subject.kind}-{name}") for pen in PENS for name, make in pen.sound]
BROKEN = [pytest.param(check, make, id=f"{pen.subject.kind}-{name}") for pen in PENS for check, kept in pen.broken.items() for name, make in kept]


def results(subject):
    return {result.check: result for result in run_checks([(each, subject) for each in chosen(subject.kind, subject.claimed)], seconds=30)}


@cache
def of_sound(make):
    return results(make())


@pytest.mark.parametrize("make", SOUND)
def test_a_sound_specimen_fails_no_check(make):
    found = of_sound(make)
    assert {name: result.message for name, result in found.items() if result.outcome is Outcome.FAILED} == {}
    assert any(result.outcome is Outcome.PASSED for result in found.values())


@pytest.mark.parametrize(("check", "make"), BROKEN)
def test_a_broken_specimen_is_caught_by_the_check_that_names_its_fault_and_by_no_other(check, make):
    found = {name: result for name, result in results(make()).items() if result.outcome is Outcome.FAILED}
    assert set(found) == {check}, {name: result.message for name, result in found.items()}
    assert found[check].message


def test_every_check_has_a_specimen():
    assert set(CHECKS) == {check for pen in PENS for check in pen.broken}


def test_every_kind_has_a_sound_specimen_that_passes_each_of_its_checks():
    """A check that is skipped wherever nothing is wrong would prove nothing."""
    passed: dict[str, set[str]] = {kind: set() for kind in ("plugin", *SUBJECTS)}
    for pen in PENS:
        for _, make in pen.sound:
            passed[pen.subject.kind] |= {name for name, result in of_sound(make).items() if result.outcome is Outcome.PASSED}
    for kind, names in passed.items():
        assert names == {each.name for each in CHECKS.values() if each.kind == kind}, kind
