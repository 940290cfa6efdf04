"""What the kit says of a run: counts, badges, expected failures, hangs, and the forms for machines."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from xml.etree import ElementTree

import pytest

from affidavit.errors import MissingExtra, UsageError
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
    return Result("model x", f"check_{outcome}", tier, outcome, "a <message> & more\x00\ud800\uffff", 0.1)


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
    json.dumps(report.to_json(), ensure_ascii=False).encode()
    str(report).encode()
    suite = ElementTree.fromstring(report.to_junit().encode())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "2")


def test_the_command_checks_an_installed_plugin(affidavit, install_plugin, tmp_path):
    install_plugin("acme_zoo", GOVERNED)
    done = affidavit("check-plugin", "acme_zoo", "--json", "--junit", tmp_path / "junit.xml")
    report = json.loads(done.stdout)
    assert {r["check"] for r in report["results"] if r["outcome"] == "failed"} == {"it_says_which_sdk_it_needs"}
    assert done.returncode == 1 and ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"
    done = affidavit("check-plugin", "acme_zoo", "--expected-failure", "it_says_which_sdk_it_needs=made by a test")
    assert done.returncode == 0 and "conforms, governed" in done.stdout


HOOK = "\nfrom affidavit import hookimpl\n\n@hookimpl\ndef affidavit_register(registry):\n    "
SOUND = 'registry.add("model", "zoo.centroid", "tests.conformance.zoo.models:Centroid", capabilities={"probabilities"})'


@pytest.mark.parametrize(
    ("code", "check", "says"),
    [
        ("raise RuntimeError('broken on import')", "importing_and_registering_come_to_an_end", "RuntimeError: broken on import (acme_bad_module"),
        ("while True:\n    pass", "importing_and_registering_come_to_an_end", "not ended after 1 s, and stood in acme_bad_module"),
        ("import os\nos._exit(0)", "importing_and_registering_come_to_an_end", "ended the process with the code 0"),
        ("print('{]')" + HOOK + "pass", "importing_it_prints_nothing", "printed 3 bytes"),
        (
            "import affidavit.workspace as w\nw.Workspace.train = None" + HOOK + "pass",
            "importing_it_changes_nothing_of_the_sdk",
            "replaced affidavit",
        ),
        ("import random\nrandom.seed(0)" + HOOK + "pass", "importing_it_leaves_the_process_alone", "Python's global random state"),
        ("import sklearn" + HOOK + "pass", "importing_it_is_light", "scipy, sklearn: register paths"),
        (HOOK + "registry.add('model', 'tabular.mlp', 'THIS_MODULE:B')", "it_loads", "registered before"),
        (HOOK + "registry.add('model', 'acme.x', 'THIS_MODULE:Absent')", "it_is_imported", "Absent"),
    ],
)
def test_what_a_plugin_does_wrong_is_named_and_nothing_falls_over_it(install_plugin, capfd, code, check, says):
    module = install_plugin("acme_bad", code)
    report = check_plugin("acme_bad", seconds=2 if "while" in code else 40)
    found = {result.check: result.message for result in report.problems}
    assert says in found[check] and not report.ok, found
    assert "Traceback" not in "".join(capfd.readouterr())
    assert "acme_bad" in found[check] or module in found[check] or check == "it_is_imported"


def test_what_would_harm_this_process_is_not_loaded_into_it(install_plugin):
    from affidavit.workspace import Workspace

    plain = Workspace.train
    module = install_plugin("acme_bad", "import affidavit.workspace as w\nw.Workspace.train = None" + HOOK + "pass")
    report = check_plugin("acme_bad", expected_failures={"importing_it_changes_nothing_of_the_sdk": "made by a test"})
    assert module not in sys.modules and Workspace.train is plain
    told = {result.check: result.message for result in report.problems}
    assert "what it registers was not tried: it changes affidavit" in told["it_loads"] and not report.ok


BROKEN_CLASSES = {
    "hangs": ("while True:\n    pass", "not ended after"),
    "ends": ("import os\nos._exit(3)", "ended the process with the code 3"),
    "raises": ("raise SystemExit('no licence')", "asks to end the process"),
    "patches": ("import affidavit.workspace as w\nw.Workspace.train = None\nclass It: pass", "changed affidavit.workspace.Workspace.train"),
    "seeds": ("import numpy\nnumpy.random.seed(0)\nclass It: pass", "changed NumPy's global random state"),
    "lacks": ("import acme_surely_absent", "acme_surely_absent"),
}


def test_a_class_whose_module_hangs_or_worse_is_named_and_the_others_are_tried(install_plugin, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, (code, _) in BROKEN_CLASSES.items():
        (tmp_path / f"acme_{name}.py").write_text(code)
    registers = [f"registry.add('service', 'acme.{name}', 'acme_{name}:It')" for name in BROKEN_CLASSES]
    install_plugin("acme_bad", HOOK + "\n    ".join([*registers, SOUND]))
    report = check_plugin("acme_bad", seconds=4)
    told = {result.subject: result.message for result in report.problems if result.check == "it_is_imported"}
    assert set(told) == {f"service acme.{name}" for name in BROKEN_CLASSES}
    for name, (_, says) in BROKEN_CLASSES.items():
        assert says in told[f"service acme.{name}"]
    passed = {result.check for result in report.results if result.subject == "model zoo.centroid" and result.outcome is Outcome.PASSED}
    assert {"predict_answers_every_row", "it_is_registered_and_comes_back"} <= passed
    assert report.counts["missing"] == 0


@pytest.mark.parametrize(
    ("code", "says"), [("raise KeyError('gone')", "KeyError"), ("import threading\nthreading.Event().wait()", "longer than 4 s")]
)
def test_cases_that_cannot_be_loaded_are_named(install_plugin, tmp_path, monkeypatch, code, says):
    module = install_plugin("acme_zoo", HOOK + "pass")
    (tmp_path / "acme_cases.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_cases", raising=False)
    (points,) = [path for path in tmp_path.glob("site*/acme_zoo-1.0.dist-info/entry_points.txt") if module in path.read_text()]
    points.write_text(points.read_text() + "[affidavit.conformance.v1]\nacme_zoo = acme_cases:CASES\n")
    told = {result.check: result.message for result in check_plugin("acme_zoo", seconds=4).problems}
    assert says in told["its_cases_load"]


def test_what_hangs_once_is_not_waited_for_again():
    release = threading.Event()
    planned = [
        (make(lambda subject: release.wait(30), name="first"), "a"),
        (make(passes), "a"),
        (make(passes, Tier.GOVERNANCE), "a"),
        (make(passes), "b"),
    ]
    found = run_checks(planned, seconds=0.2)
    release.set()
    assert [result.outcome for result in found] == [Outcome.FAILED, Outcome.SKIPPED, Outcome.SKIPPED, Outcome.PASSED]
    assert all(result.message == "first hung, and what hangs once is not waited for again" for result in found[1:3])


def test_a_model_that_hangs_is_waited_for_once(install_plugin):
    path = "tests.conformance.zoo.models:Sleeps"
    install_plugin("acme_bad", HOOK + SOUND + f"\n    registry.add('model', 'zoo.sleeps', '{path}', capabilities={{'probabilities'}})")
    begin = time.monotonic()
    report = check_plugin("acme_bad", seconds=3)
    found = [result for result in report.results if result.subject == "model zoo.sleeps"]
    assert [result.check for result in found if result.outcome is Outcome.FAILED] == ["fit_learns_and_sets_the_signature"]
    assert time.monotonic() - begin < 60 and len([result for result in found if result.outcome is Outcome.SKIPPED]) > 20
    assert any(result.outcome is Outcome.PASSED for result in report.results if result.subject == "model zoo.centroid")


def test_the_kit_itself_is_light():
    """What the probe has loaded before it looks cannot be noticed as loaded by a plugin."""
    code = "import sys, affidavit.testing.probe; from affidavit.testing.kinds.plugin import HEAVY; print(*{*HEAVY} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr


def model_that(install_plugin, body, distribution="acme_bad"):
    """Install a plugin with a sound model type that does something more whenever it is fitted."""
    code = f"""
from tests.conformance.zoo.models import Centroid

class M(Centroid):
    def fit(self, data, training=None):
        {body}
        return super().fit(data, training)
"""
    registers = SOUND.replace("tests.conformance.zoo.models:Centroid", "THIS_MODULE:M")
    return install_plugin(distribution, code + HOOK + registers)


def test_a_model_that_ends_the_process_passes_nothing(affidavit, install_plugin, tmp_path):
    model_that(install_plugin, "import os; os._exit(0)")
    done = affidavit("check-plugin", "acme_bad", "--json", "--junit", tmp_path / "junit.xml")
    report = json.loads(done.stdout)
    (failed,) = report["results"]
    assert done.returncode == 1 and not report["ok"] and report["counts"]["missing"] == report["expected"] - 1 > 20
    assert (failed["subject"], failed["check"]) == ("model zoo.centroid", "fit_learns_and_sets_the_signature")
    assert "it ended the process with the code 0" in failed["message"]
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"


def test_a_model_that_holds_the_interpreter_is_named_with_the_place(affidavit, install_plugin):
    """No thread can tell the time while one call of C does not end: here a regular expression."""
    module = model_that(install_plugin, "import re; re.match('(a+)+$', 'a' * 60 + 'b')")
    (failed,) = json.loads(affidavit("check-plugin", "acme_bad", "--json", "--seconds", 1).stdout)["results"]
    assert failed["check"] == "fit_learns_and_sets_the_signature" and f"stood in {module}.py, line 6" in failed["message"]


def test_what_a_model_prints_past_python_is_no_part_of_the_json(affidavit, install_plugin):
    model_that(install_plugin, "import os; os.write(1, b'{]'); print('hello')")
    done = affidavit("check-plugin", "acme_bad", "--json")
    assert json.loads(done.stdout)["plugin"] == "acme_bad" and "{]" in done.stderr


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_checked(affidavit, install_plugin, tmp_path):
    model_that(install_plugin, "pass")
    (tmp_path / "file").write_text("")
    done = affidavit("check-plugin", "acme_bad", "--junit", tmp_path / "file" / "junit.xml")
    assert done.returncode != 0 and done.stdout == "" and "junit.xml" in done.stderr


@pytest.mark.parametrize("body", ["import os; os.environ['ZOO'] = '1'", "import warnings; warnings.simplefilter('ignore')", "W.explain = zoo"])
def test_a_change_that_each_fit_makes_anew_is_seen_though_earlier_checks_made_it_too(body):
    from tests.conformance.zoo.models import Centroid

    from affidavit.testing.checks import chosen
    from affidavit.testing.kinds.model.subject import ModelSubject
    from affidavit.workspace import Workspace as W

    def zoo(*args, **kwargs):
        raise RuntimeError

    class M(Centroid):
        def fit(self, data, training=None):
            exec(body, {"W": W, "zoo": zoo})
            return super().fit(data, training)

    plain, subject = W.explain, ModelSubject(M, "zoo.centroid", frozenset({"probabilities"}))
    found = run_checks([(each, subject) for each in chosen("model", subject.claimed) if each.tier is Tier.API])
    assert {result.check for result in found if result.outcome is Outcome.FAILED} == {"global_state_stays_as_it_was"}
    assert W.explain is plain


def test_what_needs_an_absent_extra_in_the_middle_of_a_check_is_skipped():
    def needs(subject):
        raise MissingExtra("It", extra="big", library="absent")

    def wraps(subject):
        try:
            needs(subject)
        except MissingExtra as error:
            raise CheckFailed("wrong type") from error

    for each in (needs, wraps):
        found = run_check(make(each), "x")
        assert found.outcome is Outcome.SKIPPED and "pip install 'affidavit[big]'" in found.message


def test_progress_counts_every_check(install_plugin):
    model_that(install_plugin, "pass")
    told = []
    report = check_plugin("acme_bad", report=lambda done, total, what: told.append((done, total)))
    assert [done for done, _ in told] == list(range(len(report.results))) and told[-1][1] == report.expected


def test_an_expected_failure_of_what_is_not_registered_is_an_error(install_plugin):
    model_that(install_plugin, "pass")
    with pytest.raises(UsageError, match=r"'zoo.centriod', of which no check runs.*'zoo.centroid'"):
        check_plugin("acme_bad", expected_failures={"zoo.centriod:input_is_not_changed": "a typo"})


@pytest.mark.parametrize(
    ("cases", "says"),
    [("[ModelCase(name='zoo.centriod')]", "'zoo.centriod', which the plugin does not register"), ("[{'name': 'x'}]", "holds what is no case")],
)
def test_a_case_that_fits_nothing_is_named(install_plugin, tmp_path, monkeypatch, cases, says):
    module = model_that(install_plugin, "pass")
    (tmp_path / "acme_other_cases.py").write_text(f"from affidavit.testing import ModelCase\nCASES = {cases}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_other_cases", raising=False)
    (points,) = [path for path in tmp_path.glob("site*/acme_bad-1.0.dist-info/entry_points.txt") if module in path.read_text()]
    points.write_text(points.read_text() + "[affidavit.conformance.v1]\nacme_bad = acme_other_cases:CASES\n")
    told = {result.check: result.message for result in check_plugin("acme_bad").problems}
    assert says in told["its_cases_load"]


def test_a_broken_installation_of_another_plugin_harms_none(install_plugin, tmp_path):
    module = install_plugin("acme_torn", HOOK + "pass")
    (metadata,) = [path for path in tmp_path.glob("site*/acme_torn-1.0.dist-info/METADATA") if module]
    metadata.write_text("")
    model_that(install_plugin, "pass")
    assert check_plugin("acme_bad").counts["failed"] == 1  # it_says_which_sdk_it_needs


def test_a_plugin_that_is_not_installed_is_an_error_with_those_that_are():
    with pytest.raises(UsageError, match=r"No plugin 'acme-absent'.*affidavit"):
        check_plugin("acme-absent")


def test_what_needs_an_extra_that_is_not_installed_is_told_and_costs_the_badge(install_plugin):
    more = "registry.add('model', 'acme.big', 'THIS_MODULE_absent_library.models:Big', extra='big')"
    install_plugin("acme_extras", f"{HOOK}{SOUND}; {more}")
    reasons = dict.fromkeys(("it_says_which_sdk_it_needs", "its_code_is_its_own", "its_entry_point_is_its_own"), "made by a test")
    report = check_plugin("acme_extras", expected_failures={name: why for name, why in reasons.items() if name in CHECKS})
    (untried,) = [result for result in report.results if result.check == "it_is_imported"]
    assert untried.outcome is Outcome.SKIPPED and "pip install 'acme_extras[big]'" in untried.message
    assert not report.governed and not [r for r in report.problems if r.check not in reasons], str(report)
