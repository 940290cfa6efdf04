"""Every bundled model type goes through the conformance kit, with what earlier releases wrote of it."""

from __future__ import annotations

import pytest
from tests.conformance.keep import cases, kept

from affidavit.plugins import bundled_registry
from affidavit.testing import Outcome, Tier, check_plugin


@pytest.mark.parametrize("plugin", ["tabular", "vision", "text"])
def test_a_bundled_plugin_conforms_and_is_governed(plugin):
    own = [case for case in cases() if case.name.startswith(f"{plugin}.")]
    report = check_plugin(plugin, cases=own)
    assert report.ok and report.governed, str(report)
    assert report.counts["missing"] == 0 and {result.tier for result in report.results} == set(Tier)
    read = [result.outcome for result in report.results if result.check == "a_kept_artifact_still_loads"]
    assert len(read) == len(own) and set(read) == {Outcome.PASSED}


def test_every_bundled_model_type_belongs_to_a_plugin_that_is_checked():
    assert {name.partition(".")[0] for name in bundled_registry().names("model")} == {"tabular", "vision", "text"}


def test_an_artifact_of_every_bundled_model_type_is_kept():
    assert [name for name in bundled_registry().names("model") if not kept(name)] == []
