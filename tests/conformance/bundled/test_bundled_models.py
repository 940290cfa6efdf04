"""Every bundled model type goes through the conformance kit."""

from __future__ import annotations

import pytest

from affidavit.plugins import bundled_registry
from affidavit.testing import Tier, check_plugin


@pytest.mark.parametrize("plugin", ["tabular", "vision", "text"])
def test_a_bundled_plugin_conforms_and_is_governed(plugin):
    report = check_plugin(plugin)
    assert report.ok and report.governed, str(report)
    assert report.counts["missing"] == 0 and {result.tier for result in report.results} == set(Tier)


def test_every_bundled_model_type_belongs_to_a_plugin_that_is_checked():
    assert {name.partition(".")[0] for name in bundled_registry().names("model")} == {"tabular", "vision", "text"}
