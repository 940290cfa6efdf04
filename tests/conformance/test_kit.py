"""The conformance kit tests itself: each broken specimen is caught by the check that names its fault, and the sound ones raise no alarm."""

from __future__ import annotations

import pytest
from tests.conformance.zoo import SPECIMENS, Centroid

from affidavit.testing.checks import CHECKS, chosen, run_checks
from affidavit.testing.model_subject import ModelSubject
from affidavit.testing.report import Outcome

CASES = [(check, model, claimed) for check, specimens in SPECIMENS.items() for model, claimed in specimens]


def results(model, claimed):
    subject = ModelSubject(model, "zoo.centroid", claimed)
    return {result.check: result for result in run_checks([(each, subject) for each in chosen("model", claimed)], seconds=20)}


def test_the_sound_model_passes_every_check():
    found = results(Centroid, frozenset({"probabilities"}))
    assert {name: result.message for name, result in found.items() if result.outcome is not Outcome.PASSED} == {}


@pytest.mark.parametrize(("check", "model", "claimed"), CASES, ids=[f"{model.__name__}" for _, model, _ in CASES])
def test_a_broken_model_is_caught_by_the_check_that_names_its_fault_and_by_no_other(check, model, claimed):
    found = {name: result for name, result in results(model, claimed).items() if result.outcome is Outcome.FAILED}
    assert set(found) == {check}, {name: result.message for name, result in found.items()}
    assert found[check].message


def test_every_check_of_a_model_has_a_specimen():
    assert {each.name for each in CHECKS.values() if each.kind == "model"} == set(SPECIMENS)
