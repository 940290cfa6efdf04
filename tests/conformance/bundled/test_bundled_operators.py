"""Every bundled masking operator goes through the conformance kit."""

from __future__ import annotations

from tests.conformance.bundled.reports import report

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, Tier
from affidavit_governance.masking.conformance import OPERATORS


def of_operators():
    return [result for result in report("masking").results if result.subject.startswith("operator ")]


def test_no_bundled_operator_fails_a_check():
    assert [str(result) for result in of_operators() if result.outcome not in (Outcome.PASSED, Outcome.SKIPPED)] == []


def test_every_bundled_operator_is_governed_in_each_case():
    governed = {(result.subject, result.check) for result in of_operators() if (result.tier, result.outcome) == (Tier.GOVERNANCE, Outcome.PASSED)}
    subjects = {f"operator {case.name}" + (f" ({case.label})" if case.label else "") for case in OPERATORS}
    assert {subject for subject, _ in governed} == subjects
    assert len(governed) == 3 * len(subjects)


def test_every_bundled_operator_is_tried():
    assert {case.name for case in OPERATORS} == set(bundled_registry().names("operator"))


def test_what_an_operator_claims_is_tried_and_not_skipped():
    """A skip says that nothing is claimed; an operator that claims something is never skipped."""
    skipped = {(result.subject.split()[1], result.check) for result in of_operators() if result.outcome is Outcome.SKIPPED}
    for name in bundled_registry().names("operator"):
        operator = bundled_registry().get("operator", name)
        for claim, check in ((operator.idempotent, "claimed_idempotence_is_true"), (operator.reversible, "only_its_own_values_are_reversed")):
            assert ((name, check) in skipped) is not claim, name
