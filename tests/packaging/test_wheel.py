"""The wheel: what is in it, and that an auditor's machine with the core install alone can verify a bundle."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from tests.packaging.conftest import built, pip

from affidavit.workspace import Workspace

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_three_packages_typed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"affidavit", "affidavit_governance", "affidavit_plugins"}
    assert {"affidavit/py.typed", "affidavit_governance/py.typed", "affidavit_plugins/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_what_new_plugin_writes_from(wheel: Path) -> None:
    folder = "affidavit/scaffold/templates"
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith(f"{folder}/")}
    there = {path.relative_to(ROOT / "sdk").as_posix() for path in (ROOT / "sdk" / folder).rglob("*") if path.is_file()}
    assert held == there
    assert f"{folder}/shared/pyproject.toml.tmpl" in held


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
