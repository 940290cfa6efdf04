"""Every bundled explainer goes through the conformance kit."""

from __future__ import annotations

import pytest
from tests.conformance.bundled.reports import report, results_of

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, Tier

ROWS = ("deep", "exact", "gradient", "kernel", "leverage", "lime", "linear", "partition", "permutation", "tree")
WITHOUT_INTERVALS = {"explainer deep"}
"""DeepLIFT's rules give no measure of how sure they are; the kit says so."""


def test_the_bundled_explainers_conform_and_are_governed():
    found = report("explain")
    assert found.ok and found.governed, str(found)
    failed = {result.subject for result in found.results if result.outcome is Outcome.FAILED}
    assert failed == WITHOUT_INTERVALS and {result.tier for result in found.results if result.outcome is Outcome.FAILED} == {Tier.QUALITY}


def test_every_bundled_explainer_is_among_those_that_are_checked():
    checked = {result.subject.split()[1] for result in results_of("explain", "explainer")}
    assert checked == set(bundled_registry().names("explainer")) and len(checked) == 16


@pytest.mark.parametrize("name", ROWS)
def test_of_an_explainer_of_rows_only_what_is_about_another_scope_is_skipped(name):
    skipped = {
        result.check for result in results_of("explain", "explainer") if result.subject.split()[1] == name and result.outcome is Outcome.SKIPPED
    }
    unbudgeted = {"the_budget_of_model_rows_is_kept"} if name in ("deep", "linear", "tree") else set()
    assert skipped == {"changes_that_are_given_flip_the_decision"} | unbudgeted
