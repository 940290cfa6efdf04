"""Every bundled masking operator and recognizer goes through the conformance kit."""

from __future__ import annotations

from tests.conformance.bundled.reports import results_of

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, RecognizerCase, Tier
from affidavit_governance.masking.conformance import OPERATORS
from affidavit_plugins.text.conformance import CASES


def test_no_bundled_operator_fails_a_check():
    assert [str(result) for result in results_of("masking", "operator") if result.outcome not in (Outcome.PASSED, Outcome.SKIPPED)] == []


def test_every_bundled_operator_is_governed_in_each_case():
    governed = {
        (result.subject, result.check)
        for result in results_of("masking", "operator")
        if (result.tier, result.outcome) == (Tier.GOVERNANCE, Outcome.PASSED)
    }
    subjects = {f"operator {case.name}" + (f" ({case.label})" if case.label else "") for case in OPERATORS}
    assert {subject for subject, _ in governed} == subjects
    assert len(governed) == 3 * len(subjects)


def test_every_bundled_operator_is_tried():
    assert {case.name for case in OPERATORS} == set(bundled_registry().names("operator"))


def test_what_an_operator_claims_is_tried_and_not_skipped():
    """A skip says that nothing is claimed; an operator that claims something is never skipped."""
    skipped = {(result.subject.split()[1], result.check) for result in results_of("masking", "operator") if result.outcome is Outcome.SKIPPED}
    for name in bundled_registry().names("operator"):
        operator = bundled_registry().get("operator", name)
        for claim, check in ((operator.idempotent, "claimed_idempotence_is_true"), (operator.reversible, "only_its_own_values_are_reversed")):
            assert ((name, check) in skipped) is not claim, name


def test_the_bundled_recognizers_pass_every_check():
    found = results_of("masking", "recognizer")
    assert found and {(r.subject, r.check, r.message) for r in found if r.outcome is not Outcome.PASSED} == set()


def test_every_bundled_recognizer_is_checked():
    """That of names goes through the kit with the text model types, whose plugin registers it."""
    checked = {result.subject.removeprefix("recognizer ") for result in results_of("masking", "recognizer")}
    assert checked | {case.name for case in CASES if isinstance(case, RecognizerCase)} == set(bundled_registry().names("recognizer"))
