"""Every bundled deployment target goes through the conformance kit."""

from __future__ import annotations

from tests.conformance.bundled.reports import results_of

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, TargetCase
from affidavit.testing.checks import chosen, run_checks
from affidavit.testing.kinds.target.subject import TargetSubject
from affidavit_governance.encryption.conformance import CASES

SERVING, HANDING_OVER = {"in-process", "http"}, {"signed-folder"}


def shown(results):
    return [f"{result.subject}, {result.check}, {result.outcome}: {result.message}" for result in results if result.outcome is not Outcome.PASSED]


def test_the_bundled_targets_conform_and_are_governed():
    results = results_of("targets", "target")
    assert {result.subject.split()[1] for result in results} >= SERVING
    assert shown(results) == []


def test_the_target_that_hands_over_a_signed_folder_conforms_and_is_governed():
    """On its own: the plugin that registers it brings the key providers too, which have tests of theirs."""
    (case,) = [case for case in CASES if isinstance(case, TargetCase)]
    subject = TargetSubject(bundled_registry().get("target", case.name), case.name, case=case)
    assert shown(run_checks([(each, subject) for each in chosen("target")])) == []


def test_every_bundled_target_is_among_those_that_are_checked():
    checked = {result.subject.split()[1] for result in results_of("targets", "target")} | HANDING_OVER
    assert set(bundled_registry().names("target")) == checked
