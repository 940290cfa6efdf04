"""A fresh environment, no source tree in sight: what the core install does alone, and with the third-party example's wheel beside it.

They stand in one file because unpacking the core install takes as long as most of these tests together: loaded by file, one worker does it once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.packaging.conftest import ROOT, built, install, pip

from affidavit.workspace import Workspace

EXAMPLE = ROOT / "examples/third_party_plugin"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(core_install: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the core install, with the plugin's wheel and pytest beside it from here on."""
    install(core_install, f"{built(EXAMPLE, tmp_path_factory.mktemp('plugin'))}[test]")
    return core_install


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the job: its files and the data, without the plugin's source."""
    folder = tmp_path_factory.mktemp("job") / "third_party_plugin"
    folder.mkdir()
    for name in ("project.yaml", "policy.yaml"):
        shutil.copy(EXAMPLE / name, folder)
    (folder.parent / "credit").mkdir()
    shutil.copy(ROOT / "examples/credit/german_credit.csv", folder.parent / "credit")
    return folder


@pytest.fixture(scope="module")
def run(home: Path, job: Path) -> Run:
    """Runs a program of the environment in the job's folder, with nothing of this process's environment."""
    clean = {"PATH": str(home / "bin"), "HOME": str(job), "AFFIDAVIT_HOME": str(job / "home")}

    def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(home / "bin" / program), *map(str, arguments)]
        return subprocess.run(command, cwd=job, env=clean, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def done(run: Run) -> dict[str, Any]:
    """What ``affidavit run`` gives as JSON."""
    for name in ("rita-risk", "carl-compliance"):
        assert run("affidavit", "approver", "new", name, "--out", f"out/keys/{name}.pem").returncode == 0
    ran = run("affidavit", "run", "project.yaml", "--json")
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def test_a_bundle_verifies_on_a_core_install(core_install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    with Workspace(tmp_path / "ws", actor="auditee") as workspace:
        data = workspace.load(pa.table({"x": [float(n % 7) for n in range(60)], "y": ["n", "p", "p"] * 20}), target="y")
        workspace.train("tabular.logistic", data)
        bundle, key = workspace.bundle(tmp_path / "audit.zip"), workspace.verifier_key
    clean = {"PATH": str(core_install / "bin"), "HOME": str(tmp_path / "nobody")}
    listing = pip(core_install, "list").stdout
    assert "affidavit" in listing
    assert "torch" not in listing
    assert "scikit-learn" not in listing
    good = subprocess.run(
        [str(core_install / "bin/affidavit"), "verify", str(bundle), "--key", key], capture_output=True, text=True, check=False, env=clean
    )
    assert good.returncode == 0, good.stdout + good.stderr
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(bytes(content))
    bad = subprocess.run(
        [str(core_install / "bin/affidavit"), "verify", str(bundle), "--key", key], capture_output=True, text=True, check=False, env=clean
    )
    assert bad.returncode == 1
    assert "Traceback" not in bad.stderr


def test_what_a_core_install_writes_as_a_new_plugin_conforms_there(core_install: Path, tmp_path: Path) -> None:
    clean = {"PATH": str(core_install / "bin"), "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "site")}

    def run(*arguments: str) -> str:
        command = [str(core_install / "bin/affidavit"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("new-plugin", "acme-models", "--kind", "model")
    with zipfile.ZipFile(built(tmp_path / "acme-models", tmp_path)) as archive:
        archive.extractall(tmp_path / "site")  # as installing a wheel of pure Python does
    assert "acme-models: conforms, governed" in run("check-plugin", "acme-models")


def test_the_core_install_says_which_extra_a_model_type_needs(core_install: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x,y\n" + "1,a\n2,b\n" * 20)
    (tmp_path / "p.yaml").write_text("name: t\ndataset: {source: data.csv, target: y}\nmodel: {type: tabular.forest}\n")
    clean = {"PATH": str(core_install / "bin"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(core_install / "bin/affidavit"), "run", str(tmp_path / "p.yaml")], capture_output=True, text=True, check=False, env=clean
    )
    assert done.returncode == 1
    assert "pip install 'affidavit[tabular]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


# -- with the example beside it -------------------------------------------------------------------------------------------------------


def test_the_example_stays_under_120_lines_of_python() -> None:
    files = [path for path in EXAMPLE.rglob("*.py") if "out" not in path.relative_to(EXAMPLE).parts]
    assert len(files) >= 5
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) < 120


def test_nothing_of_the_source_tree_is_on_the_path(run: Run, home: Path) -> None:
    code = "import sys, affidavit, affidavit_governance, affidavit_plugins, acme_credit as a; print(*sys.path[1:], *(sys.modules[m].__file__ for m in sys.modules if m.split('_')[0] in ('affidavit', 'acme')), sep='\\n')"
    shown = run("python", "-P", "-c", code).stdout.splitlines()
    assert {Path(line).name for line in shown} >= {"site-packages", "__init__.py"}
    assert not [line for line in shown if str(ROOT) in line]
    assert all(str(home) in line for line in shown if line.endswith(".py"))
    assert run("python", "-c", "import sklearn").returncode == run("python", "-c", "import torch").returncode == 1


def test_the_credit_job_runs_with_the_plugins_model_and_recognizer(done: dict[str, Any]) -> None:
    steps = {step["step"]: step["result"] for step in done["steps"]}
    assert list(steps) == [
        "load and mask",
        "split",
        "train",
        "evaluate",
        "explain",
        "package and register",
        "approve",
        "promote",
        "deploy and predict",
        "report",
        "bundle",
        "verify",
    ]
    assert "national_id (pseudonym)" in steps["load and mask"]
    assert steps["train"] == "acme.centroid, without privacy"
    assert done["metrics"]["roc_auc"] > 0.7


def test_the_bundle_verifies_and_names_the_plugin_with_its_digest(done: dict[str, Any], run: Run) -> None:
    good = run("affidavit", "verify", done["bundle"], "--key", done["key"])
    assert good.returncode == 0, good.stdout + good.stderr
    loaded = json.loads(run("affidavit", "plugins", "-w", "out/workspace", "--json").stdout)
    (plugin,) = [each for each in loaded["plugins"] if each["distribution"] == "acme-credit"]
    assert (plugin["version"], plugin["altered"]) == ("1.0", None)
    assert plugin["digest"] in "".join(statements(Path(done["bundle"])))


def test_what_the_plugins_recognizer_found_is_in_no_file_of_the_job(done: dict[str, Any], job: Path) -> None:
    rows = (job.parent / "credit/german_credit.csv").read_text("utf-8").splitlines()[1:]
    numbers = {row.split(",")[4].encode() for row in rows[::9]}
    assert all(number.startswith(b"L") and len(number) == 9 for number in numbers)
    files = [path for path in (job / "out").rglob("*") if path.is_file() and "keys" not in path.parts]
    assert len(files) >= 10
    assert not [path.name for path in files if any(number in path.read_bytes() for number in numbers)]


@pytest.mark.parametrize(
    ("name", "line", "changed", "reason"),
    [
        ("private", "retention:", "privacy: {epsilon: 3.0}\nretention:", "Model type 'acme.centroid' cannot be trained privately"),
        ("unlisted", ', "acme-credit>=1,<2"', "", "no recognizer 'DE_ID_CARD'"),
        ("other-version", "acme-credit>=1,<2", "acme-credit>=2", "no recognizer 'DE_ID_CARD'"),
    ],
)
def test_the_job_is_refused_where_the_policy_asks_for_privacy_or_does_not_list_the_plugin(
    run: Run, job: Path, name: str, line: str, changed: str, reason: str
) -> None:
    policy = (job / "policy.yaml").read_text()
    assert line in policy
    (job / f"{name}.yaml").write_text(policy.replace(line, changed))
    (job / f"project-{name}.yaml").write_text((job / "project.yaml").read_text().replace("policy.yaml", f"{name}.yaml"))
    ran = run("affidavit", "run", f"project-{name}.yaml", "--out", name)
    assert ran.returncode != 0
    assert reason in " ".join(ran.stderr.split()), ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_plugin_conforms_and_is_governed(run: Run) -> None:
    checked = run("affidavit", "check-plugin", "acme-credit", "--json")
    report = json.loads(checked.stdout)
    assert checked.returncode == 0 and report["ok"] and report["governed"], checked.stdout
    assert {result["subject"] for result in report["results"]} >= {"model acme.centroid", "recognizer DE_ID_CARD"}


def test_its_own_tests_pass(run: Run, job: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", job / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    passed = run("python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert passed.returncode == 0, passed.stdout
    assert " passed" in passed.stdout


def statements(bundle: Path) -> list[str]:
    """The payloads of all evidence in a bundle."""
    with zipfile.ZipFile(bundle) as archive:
        envelopes = [json.loads(archive.read(name)) for name in archive.namelist() if name.startswith("evidence/")]
    return [b64decode(envelope["payload"]).decode() for envelope in envelopes]
