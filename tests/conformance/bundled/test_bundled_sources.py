"""Every bundled source goes through the conformance kit."""

from __future__ import annotations

from tests.conformance.bundled.reports import report

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, Tier


def test_the_bundled_sources_conform_and_are_governed():
    found = report("sources")
    assert found.ok and found.governed, str(found)
    assert found.counts["missing"] == 0


def test_every_bundled_source_is_checked_in_a_case_of_its_own():
    checked = {result.subject.removeprefix("source ").partition(" ")[0] for result in report("sources").results if result.tier is Tier.GOVERNANCE}
    assert checked == set(bundled_registry().names("source"))


def test_only_what_has_no_file_skips_checks_of_files_and_streams():
    skipped = [result for result in report("sources").results if result.outcome is Outcome.SKIPPED]
    assert {result.subject.partition(" (")[0] for result in skipped} == {"source memory"}
