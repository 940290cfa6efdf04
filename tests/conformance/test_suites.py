"""The pytest suites that an author subclasses: every check one test, with the same verdicts as the kit's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from affidavit.testing import suites
from affidavit.testing.catalogue import SUBJECTS
from affidavit.testing.checks import CHECKS

ROOT = Path(__file__).parents[2]
HEAD = "import pytest\nfrom affidavit.testing import ModelCase\nfrom affidavit.testing.suites import ModelSuite\nfrom tests.conformance.zoo import models as zoo\n\n"


def run(tmp_path, code):
    """Run pytest over `code` as an author would; gives its outcomes by test, and what it printed."""
    (tmp_path / "test_author.py").write_text(HEAD + code)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_author.py", "-rA"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=_environment())
    found = dict(re.findall(r"::test_(\w+) (PASSED|FAILED|SKIPPED|XFAIL|ERROR)", done.stdout))
    return found, done.stdout


def _environment():
    # The suites need no plugin of pytest, and an author has few: those of this environment take longer to load than most checks to run.
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


SUITES = {
    value.kind: value for value in vars(suites).values() if isinstance(value, type) and issubclass(value, suites.Suite) and value is not suites.Suite
}


def test_there_is_a_suite_for_each_kind_with_a_test_for_each_check():
    assert set(SUITES) == set(SUBJECTS)
    for kind, suite in SUITES.items():
        tests = {name.removeprefix("test_") for name in vars(suite) if name.startswith("test_")}
        assert tests == {each.name for each in CHECKS.values() if each.kind == kind}
        assert tests


def test_a_sound_model_passes_and_what_it_does_not_claim_is_skipped(tmp_path):
    found, printed = run(tmp_path, "class TestCentroid(ModelSuite):\n    @pytest.fixture\n    def model(self): return zoo.Centroid\n")
    assert set(found) == {each.name for each in CHECKS.values() if each.kind == "model"}, printed
    assert set(found.values()) == {"PASSED", "SKIPPED"}
    assert {name for name, outcome in found.items() if outcome == "PASSED"} >= {"predict_answers_every_row", "it_is_registered_and_comes_back"}
    assert found["linear_structure_reproduces_predict"] == "SKIPPED" and "only for linear" in printed


def test_a_broken_model_fails_with_the_check_s_words_and_later_tiers_are_skipped(tmp_path):
    found, printed = run(tmp_path, "class TestNeighbours(ModelSuite):\n    @pytest.fixture\n    def model(self): return zoo.LooksAtNeighbours\n")
    assert {name for name, outcome in found.items() if outcome == "FAILED"} == {"a_row_alone_is_answered_as_in_a_batch"}
    assert "model zoo.centroid, a_row_alone_is_answered_as_in_a_batch: " in printed and "Traceback" not in printed
    assert found["it_is_registered_and_comes_back"] == "SKIPPED"


def test_an_expected_failure_is_an_xfail_and_an_unexpected_pass_fails(tmp_path):
    code = (
        "class TestNeighbours(ModelSuite):\n"
        "    expected_failures = {'a_row_alone_is_answered_as_in_a_batch': 'it normalises by batch', 'input_is_not_changed': 'it once did'}\n"
        "    @pytest.fixture\n    def model(self): return zoo.LooksAtNeighbours\n"
    )
    found, printed = run(tmp_path, code)
    assert found["a_row_alone_is_answered_as_in_a_batch"] == "XFAIL" and "it normalises by batch" in printed
    assert found["input_is_not_changed"] == "FAILED" and "take the entry out" in printed


def test_a_case_says_how_it_is_tried(tmp_path):
    code = (
        "class TestCentroid(ModelSuite):\n    @pytest.fixture\n    def model(self): return zoo.Centroid\n"
        "    @pytest.fixture\n    def case(self): return ModelCase(name='zoo.centroid', params={'sharpness': 2.0})\n"
        "    def test_params_reach_the_model(self, subject): assert subject.fitted.params.sharpness == 2.0\n"
    )
    found, printed = run(tmp_path, code)
    assert found["params_reach_the_model"] == "PASSED", printed


def test_a_suite_without_its_fixture_says_which_one(tmp_path):
    found, printed = run(tmp_path, "class TestNothing(ModelSuite):\n    pass\n")
    assert set(found.values()) == {"ERROR"} and "Give it a fixture 'model' that returns the class" in printed


def test_a_misspelt_expected_failure_is_an_error_at_once():
    with pytest.raises(Exception, match=r"no check 'input_is_not_change'.*'input_is_not_changed'"):
        type("TestIt", (suites.ModelSuite,), {"expected_failures": {"input_is_not_change": "typo"}})
