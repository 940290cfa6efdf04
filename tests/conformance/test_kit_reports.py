"""What the kit says of a run: counts, badges, expected failures, hangs, and the forms for machines."""

from __future__ import annotations

import json
import threading
import time
from xml.etree import ElementTree

import pytest

from affidavit.errors import UsageError
from affidavit.testing import CheckFailed, Outcome, Report, Result, Skip, Tier, check_plugin
from affidavit.testing.checks import CHECKS, Check, known, run_check, run_checks

GOVERNED = """
from affidavit import hookimpl

@hookimpl
def affidavit_register(registry):
    registry.add("model", "zoo.centroid", "tests.conformance.zoo.models:Centroid", capabilities={"probabilities"})
"""


def make(function, tier=Tier.API, name="it"):
    return Check(name, "model", tier, frozenset(), function)


def fails(subject):
    raise CheckFailed("wrong")


def passes(subject):
    return None


def skips(subject):
    raise Skip("not here")


def test_a_check_passes_fails_skips_or_raises_and_the_message_says_which():
    assert run_check(make(passes), "x").outcome is Outcome.PASSED
    assert run_check(make(skips), "x").outcome is Outcome.SKIPPED
    failed = run_check(make(fails), "x")
    assert (failed.outcome, failed.message) == (Outcome.FAILED, "wrong")
    assert "KeyError" in run_check(make(lambda subject: {}["absent"]), "x").message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_plugin_that_ends_the_process_fails_its_check_and_no_more(error):
    def quits(subject):
        raise error

    assert run_check(make(quits), "x").outcome is Outcome.FAILED


def test_a_check_that_hangs_is_left_behind_and_named():
    release = threading.Event()
    begin = time.monotonic()
    result = run_check(make(lambda subject: release.wait(30)), "x", seconds=0.2)
    assert result.outcome is Outcome.FAILED and "longer than 0.2 s" in result.message and time.monotonic() - begin < 10
    release.set()


def test_an_expected_failure_passes_and_an_unexpected_pass_does_not():
    assert run_check(make(fails), "x", expected="a known gap").outcome is Outcome.EXPECTED_FAILURE
    surprising = run_check(make(passes), "x", expected="a known gap")
    assert surprising.outcome is Outcome.UNEXPECTED_PASS and "take the entry out" in surprising.message
    assert not Report("p", (surprising,), 1).ok


def test_an_expected_failure_must_name_a_check_and_a_reason():
    name = next(iter(CHECKS))
    known({name: "because"})
    with pytest.raises(UsageError, match=f"no check '{name}x'.*'{name}'"):
        known({f"{name}x": "because"})
    with pytest.raises(UsageError, match="no reason"):
        known({name: " "})


def test_what_fails_an_api_check_is_put_through_no_other_tier():
    planned = [(make(fails), "a"), (make(passes), "b"), (make(passes, Tier.GOVERNANCE), "a"), (make(passes, Tier.GOVERNANCE), "b")]
    assert [result.outcome for result in run_checks(planned)] == [Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED, Outcome.PASSED]


def result(outcome, tier=Tier.API):
    return Result("model x", f"check_{outcome}", tier, outcome, "a <message> & more\x00", 0.1)


def test_a_run_without_a_passed_check_is_no_conformance():
    assert not Report("p", (), 0).ok
    assert not Report("p", (result(Outcome.SKIPPED),), 1).ok
    assert Report("p", (result(Outcome.PASSED),), 1).ok


def test_a_missing_result_is_counted_and_no_conformance():
    report = Report("p", (result(Outcome.PASSED),), 2)
    assert report.counts["missing"] == 1 and not report.ok and "1 missing" in str(report)


def test_quality_is_told_but_not_required_and_the_badge_needs_every_governance_check():
    good, bad = result(Outcome.PASSED), result(Outcome.FAILED, Tier.QUALITY)
    assert Report("p", (good, bad), 2).ok and not Report("p", (good, bad), 2).governed
    governed = result(Outcome.PASSED, Tier.GOVERNANCE)
    assert Report("p", (good, governed), 2).governed
    assert not Report("p", (good, governed, result(Outcome.SKIPPED, Tier.GOVERNANCE)), 3).governed


def test_the_forms_for_machines_hold_everything_and_are_well_formed():
    report = Report("p", tuple(result(outcome) for outcome in Outcome), len(Outcome))
    value = json.loads(json.dumps(report.to_json()))
    assert value["counts"]["failed"] == 1 and len(value["results"]) == len(Outcome) and not value["ok"]
    suite = ElementTree.fromstring(report.to_junit())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "2")


def test_the_command_checks_an_installed_plugin(affidavit, install_plugin, tmp_path):
    install_plugin("acme_zoo", GOVERNED)
    done = affidavit("check-plugin", "acme_zoo", "--json", "--junit", tmp_path / "junit.xml")
    report = json.loads(done.stdout)
    assert {r["check"] for r in report["results"] if r["outcome"] == "failed"} == {"it_says_which_sdk_it_needs"}
    assert done.returncode == 1 and ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"
    done = affidavit("check-plugin", "acme_zoo", "--expected-failure", "it_says_which_sdk_it_needs=made by a test")
    assert done.returncode == 0 and "conforms, governed" in done.stdout


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('broken on import')", "broken on import"),
        (
            "import affidavit.workspace as w\nw.Workspace.train = lambda self: None\nfrom affidavit import hookimpl\n@hookimpl\ndef affidavit_register(registry): pass",
            "replaced affidavit",
        ),
        ("import sklearn\nfrom affidavit import hookimpl\n@hookimpl\ndef affidavit_register(registry): pass", "imports pandas, scipy, sklearn"),
        (
            "from affidavit import hookimpl\n@hookimpl\ndef affidavit_register(registry):\n    registry.add('model', 'tabular.mlp', 'a:B')",
            "registered before",
        ),
        (
            "from affidavit import hookimpl\n@hookimpl\ndef affidavit_register(registry):\n    registry.add('model', 'acme.x', 'acme_absent:B')",
            "acme_absent",
        ),
    ],
)
def test_a_plugin_that_misbehaves_is_named_with_what_it_did(install_plugin, code, says, monkeypatch):
    from affidavit.workspace import Workspace

    monkeypatch.setattr(Workspace, "train", Workspace.train)  # put back what the plugin changes in this process
    install_plugin("acme_bad", code)
    report = check_plugin("acme_bad")
    assert not report.ok and any(says in result.message for result in report.problems), str(report)


def test_a_plugin_that_is_not_installed_is_an_error_with_those_that_are():
    with pytest.raises(UsageError, match=r"No plugin 'acme-absent'.*affidavit"):
        check_plugin("acme-absent")
