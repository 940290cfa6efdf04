"""Which distributions may provide plugins: decided from versions, digests and requirements, before any of their code runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import affidavit
from affidavit import Workspace
from affidavit.errors import InvalidInput, UsageError
from affidavit.plugins import PLUGIN_GROUP, PluginManager
from affidavit.policy import Policy, parse_model
from affidavit.trust import Allowed, Provenance, Trust

LOUD = "raise RuntimeError('this code must not run')\n"
QUIET = """from affidavit.hookspecs import hookimpl
@hookimpl
def affidavit_register(registry):
    registry.add('model', 'acme.mean', 'acme_missing:Mean')
"""


class Site:
    """A folder on the path with one installed distribution, as a wheel's installer leaves it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = monkeypatch

    def install(
        self,
        code: str = QUIET,
        *,
        name: str = "acme-models",
        version: str = "1.2",
        requires: str = "",
        record: bool = True,
        group: str = PLUGIN_GROUP,
    ) -> None:
        package, info = self.folder / "acme_models", self.folder / f"acme_models-{version}.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").write_text("")
        (package / "plugin.py").write_text(code)
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        (info / "entry_points.txt").write_text(f"[{group}]\nacme = acme_models.plugin\n")
        (info / "INSTALLER").write_text("pip\n")
        if record:
            lines = []
            for path in sorted([*package.iterdir(), *info.iterdir()]):
                digest = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
                lines.append(f"{path.relative_to(self.folder).as_posix()},sha256={digest},{path.stat().st_size}\n")
            (info / "RECORD").write_text("".join(lines) + f"{info.name}/RECORD,,\n")
        self._patch.syspath_prepend(str(self.folder))
        for module in [module for module in sys.modules if module.startswith("acme_models")]:
            self._patch.delitem(sys.modules, module)

    @property
    def digest(self) -> str:
        found = Provenance.of(metadata.distribution("acme-models")).digest
        assert found is not None
        return found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder, monkeypatch)


def loaded(*allow: str) -> tuple[bool, str]:
    """Whether the planted plugin was loaded, and why not."""
    manager = PluginManager(("affidavit", *allow))
    manager.load_plugins()
    why = {failure.name: failure.reason for failure in manager.failures}
    return "acme.mean" in manager.registry.names("model"), why.get("acme", "")


@pytest.mark.parametrize("line", ["acme-models", "Acme_Models", "acme-models==1.2", "acme-models>=1,<2", "acme.models ~= 1.0"])
def test_a_distribution_is_allowed_by_name_and_by_versions(site: Site, line: str) -> None:
    site.install()
    assert loaded(line) == (True, "")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("acme", "not in the policy's plugins.allow"),
        ("acme-models==1.3", "is installed in version 1.2, and the policy's plugins.allow wants 'acme-models==1.3'"),
        ("acme-models<1", "is installed in version 1.2"),
        (f"acme-models@sha256:{'0' * 64}", "which is not the one in the policy's plugins.allow"),
    ],
)
def test_another_distribution_version_or_digest_is_refused_before_its_code_runs(site: Site, line: str, why: str) -> None:
    site.install(LOUD)
    was_loaded, reason = loaded(line)
    assert not was_loaded and why in reason and "must not run" not in reason
    assert "acme_models" not in sys.modules


def test_two_lines_for_one_distribution_allow_either(site: Site) -> None:
    site.install()
    assert loaded("acme-models==1.1", "acme-models==1.2")[0]


def test_a_distribution_is_pinned_by_the_digest_of_its_files(site: Site) -> None:
    site.install()
    line = f"acme-models==1.2@sha256:{site.digest}"
    assert loaded(line) == (True, "")


@pytest.mark.parametrize("content", [QUIET + "# changed\n", "", LOUD])
def test_a_changed_file_is_refused_by_name_where_the_digest_is_pinned(site: Site, content: str) -> None:
    site.install()
    line = f"acme-models@sha256:{site.digest}"
    (site.folder / "acme_models/plugin.py").write_text(content)
    assert loaded(line) == (False, "'acme_models/plugin.py' of distribution 'acme-models' is not what was installed")


def test_a_file_that_was_put_beside_the_installed_ones_and_one_that_is_gone_are_refused(site: Site) -> None:
    site.install()
    line = f"acme-models@sha256:{site.digest}"
    (site.folder / "acme_models/extra.py").write_text("")
    assert "'acme_models/extra.py'" in loaded(line)[1]
    (site.folder / "acme_models/extra.py").unlink()
    (site.folder / "acme_models/__init__.py").unlink()
    assert "'acme_models/__init__.py'" in loaded(line)[1]


def test_a_file_changed_together_with_its_record_changes_the_digest(site: Site) -> None:
    site.install()
    before = site.digest
    (site.folder / "acme_models/plugin.py").write_text(QUIET + "# changed\n")
    record = next(site.folder.glob("*.dist-info/RECORD"))
    digest = urlsafe_b64encode(hashlib.sha256((QUIET + "# changed\n").encode()).digest()).rstrip(b"=").decode()
    lines = [
        f"acme_models/plugin.py,sha256={digest},0" if line.startswith("acme_models/plugin.py") else line for line in record.read_text().splitlines()
    ]
    record.write_text("\n".join(lines) + "\n")
    assert site.digest != before
    assert "which is not the one" in loaded(f"acme-models@sha256:{before}")[1]


def test_an_installation_without_a_record_cannot_be_pinned_but_can_be_named(site: Site) -> None:
    site.install(record=False)
    assert loaded("acme-models")[0]
    assert "has no record of its files" in loaded(f"acme-models@sha256:{'0' * 64}")[1]


@pytest.mark.parametrize(
    ("requires", "fits"),
    [("affidavit>=0.1", True), ("affidavit", True), ("Affidavit>=99", False), ("affidavit<0.1", False), ("affidavit>=99; extra == 'dev'", True)],
)
def test_the_sdk_that_a_plugin_requires_is_read_before_its_code_runs(site: Site, requires: str, fits: bool) -> None:
    site.install(QUIET if fits else LOUD, requires=requires)
    was_loaded, reason = loaded("acme-models")
    assert was_loaded is fits
    assert fits or reason.endswith(f"and this is affidavit {affidavit.__version__}")


@pytest.mark.parametrize("group", ["affidavit.plugins.v0", "affidavit.plugins.v2"])
def test_a_plugin_for_another_version_of_the_interface_is_named_and_not_imported(site: Site, group: str) -> None:
    site.install(LOUD, group=group)
    assert loaded("acme-models") == (
        False,
        f"it is a plugin for '{group}', and this Affidavit loads '{PLUGIN_GROUP}'; install a version of it for that",
    )


def test_the_ledger_says_which_files_were_loaded(site: Site, tmp_path: Path) -> None:
    site.install()
    with Workspace(tmp_path / "ws", policy={"plugins": {"allow": ["affidavit", "acme-models"]}}, actor="tester") as workspace:
        (evidence,) = workspace.ledger.entries("plugin")
        assert workspace.plugins.failures == []
    (row,) = [row for row in evidence.predicate["plugins"] if row["name"] == "acme"]
    assert row == {"name": "acme", "distribution": "acme-models", "version": "1.2", "digest": site.digest, "altered": None}
    (site.folder / "acme_models/__init__.py").write_text("# changed\n")
    with Workspace(tmp_path / "ws", actor="tester") as workspace:
        rows = [row for row in list(workspace.ledger.entries("plugin"))[-1].predicate["plugins"] if row["name"] == "acme"]
    assert rows[0]["altered"] == "acme_models/__init__.py" and rows[0]["digest"] != row["digest"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "acme models",
        "acme @ https://example.org/x.whl",
        "acme[extra]",
        "acme; python_version > '3'",
        "acme@sha256:12",
        "acme@sha256:",
        "acme==x y",
    ],
)
def test_a_line_that_names_no_distribution_is_an_error_of_the_policy(line: str) -> None:
    with pytest.raises(UsageError, match="names no distribution"):
        Allowed.parse(line)
    with pytest.raises(InvalidInput, match=r"plugins\.allow.*names no distribution"):
        parse_model(Policy, {"plugins": {"allow": [line]}}, whose="The policy")


@given(st.text(max_size=40))
def test_any_text_is_a_line_or_one_clear_error(line: str) -> None:
    try:
        assert Allowed.parse(line).name
    except UsageError as error:
        assert "names no distribution" in str(error)


def test_the_digest_is_that_of_the_wheel_s_files_on_any_machine(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "acme_wheel").mkdir(parents=True)
    (project / "acme_wheel/__init__.py").write_text("VALUE = 1\n")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "acme-wheel"\nversion = "0.3"\n'
        '[project.scripts]\nacme-wheel = "acme_wheel:VALUE"\n'
    )
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", tmp_path, project], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", tmp_path / "there", wheel], check=True, capture_output=True)
    (distribution,) = metadata.distributions(path=[str(tmp_path / "there")])
    with zipfile.ZipFile(wheel) as archive:
        lines = sorted(f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}\n" for name in archive.namelist() if not name.endswith("/RECORD"))
    found = Provenance.of(distribution)
    assert found.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (found.name, found.version, found.altered) == ("acme-wheel", "0.3", None)


def test_what_has_no_distribution_is_refused() -> None:
    assert "not in the policy's plugins.allow" in str(Trust(["affidavit"]).refusal(None))
