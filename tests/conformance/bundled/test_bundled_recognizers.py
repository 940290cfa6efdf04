"""Every bundled recognizer goes through the conformance kit."""

from __future__ import annotations

from tests.conformance.bundled.reports import results_of

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, RecognizerCase
from affidavit_plugins.text.conformance import CASES


def test_the_bundled_recognizers_pass_every_check():
    found = results_of("masking", "recognizer")
    assert found and {(r.subject, r.check, r.message) for r in found if r.outcome is not Outcome.PASSED} == set()


def test_every_bundled_recognizer_is_checked():
    """That of names goes through the kit with the text model types, whose plugin registers it."""
    checked = {result.subject.removeprefix("recognizer ") for result in results_of("masking", "recognizer")}
    assert checked | {case.name for case in CASES if isinstance(case, RecognizerCase)} == set(bundled_registry().names("recognizer"))
