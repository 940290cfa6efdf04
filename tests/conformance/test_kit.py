"""The conformance kit tests itself: each broken specimen is caught by the check that names its fault, and the sound ones raise no alarm."""

from __future__ import annotations

import pytest
from tests.conformance.specimens import KINDS, MODELS, PENS, broken, each_check_passes_somewhere, fails_no_check, is_caught_by, sound

from affidavit.testing.checks import CHECKS


@pytest.mark.parametrize("make", sound(KINDS - MODELS))
def test_a_sound_specimen_fails_no_check(make):
    fails_no_check(make)


@pytest.mark.parametrize(("check", "make"), broken(KINDS - MODELS))
def test_a_broken_specimen_is_caught_by_the_check_that_names_its_fault_and_by_no_other(check, make):
    is_caught_by(check, make)


def test_every_kind_has_a_sound_specimen_that_passes_each_of_its_checks():
    each_check_passes_somewhere(KINDS - MODELS)


def test_every_check_has_a_specimen():
    assert set(CHECKS) == {check for pen in PENS for check in pen.broken}
