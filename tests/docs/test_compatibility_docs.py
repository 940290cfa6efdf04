"""Each statement of the page on compatibility is so."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import PAGES, blocks, run_page
from tests.e2e.conftest import affidavit as command

import affidavit
from affidavit import artifacts, deprecation
from affidavit.deprecation import AffidavitDeprecationWarning
from affidavit.errors import InvalidInput, MissingExtra, UsageError
from affidavit.plugins import PLUGIN_GROUP, PluginManager, Registry, RegistryWriter
from affidavit.policy import Policy, parse_model
from affidavit.testing import keep_artifact
from affidavit.testing.checks import CHECKS
from affidavit.testing.keeping import Box, read_kept
from affidavit.trust import Allowed

__all__ = ["command"]  # a fixture

PAGE = PAGES["compatibility"].read_text("utf-8")
QUIET = "from affidavit import hookimpl\n@hookimpl\ndef affidavit_register(registry):\n    registry.add('model', 'acme.boost', 'acme_absent:B', extra='boost')\n"
LOUD = "raise RuntimeError('this code must not run')\n"


class Site:
    """A folder on the path with one installed distribution, acme-models."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.info = folder / "site", folder / "site/acme_models-1.2.dist-info"
        self.info.mkdir(parents=True)
        monkeypatch.syspath_prepend(str(self.folder))

    def install(self, code: str, entry_points: str, requires: str = "") -> None:
        """Write the distribution as an installer does, with a record of its files."""
        module = "acme_models_" + hashlib.sha256((code + entry_points).encode()).hexdigest()[:8]  # no test finds another's module imported
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        written = {
            self.folder / module / "__init__.py": "",
            self.folder / module / "plugin.py": code,
            self.info / "METADATA": f"Metadata-Version: 2.1\nName: acme-models\nVersion: 1.2\n{needs}",
            self.info / "entry_points.txt": entry_points.replace("MODULE", module),
        }
        lines = []
        for path, text in written.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{path.relative_to(self.folder).as_posix()},sha256={digest},{len(text)}\n")
        (self.info / "RECORD").write_text("".join(lines) + f"{self.info.name}/RECORD,,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def entry(group: str = PLUGIN_GROUP) -> str:
    return f"[{group}]\nacme = MODULE.plugin\n"


def load(allow: str = "acme-models") -> tuple[PluginManager, str]:
    manager = PluginManager(("affidavit", allow))
    manager.load_plugins()
    return manager, {failure.name: failure.reason for failure in manager.failures}.get("acme", "")


def test_a_plugin_for_another_version_of_the_group_is_named_and_not_imported(site: Site) -> None:
    site.install(LOUD, entry("affidavit.plugins.v2"))
    _, why = load()
    assert why in [block.code.strip() for block in blocks("compatibility", "text")]


def test_a_distribution_may_bring_both_groups(site: Site) -> None:
    site.install(QUIET, entry() + entry("affidavit.plugins.v2"))
    manager, why = load()
    assert why == "" and "acme.boost" in manager.registry.names("model")


def test_the_project_on_the_page_names_the_group_and_fits_this_release() -> None:
    (block,) = blocks("compatibility", "toml")
    project = tomllib.loads(block.code)["project"]
    assert set(project["entry-points"]) == {PLUGIN_GROUP} and set(project["optional-dependencies"]) == {"boost"}
    (needs,) = project["dependencies"]
    assert Allowed.parse(needs).requirement.specifier.contains(affidavit.__version__)


def test_requires_affidavit_is_read_before_the_plugins_code_runs(site: Site) -> None:
    site.install(LOUD, entry(), requires="affidavit>=9")
    manager, why = load()
    assert why == f"it requires affidavit>=9, and this is affidavit {affidavit.__version__}"
    assert why.removesuffix(affidavit.__version__) + "…" in " ".join(PAGE.split())
    assert "tabular.mlp" in manager.registry.names("model")


def test_an_absent_library_is_named_with_the_line_that_installs_it(site: Site) -> None:
    site.install(QUIET, entry())
    with pytest.raises(MissingExtra) as raised:
        load()[0].registry.get("model", "acme.boost")
    assert raised.value.hint is not None and f"`{raised.value.hint}`" in PAGE


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """The names of the page, its code run in a folder of its own with a fitted model and its rows."""
    from tests.conformance.zoo.models import Centroid

    from affidavit.testing.samples import number_table

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deprecation, "_DECLARED", list(deprecation._DECLARED))
    yield run_page("compatibility", {"model": Centroid().fit(number_table()), "rows": number_table().head(4)})


def test_what_the_page_deprecates_warns_and_works(page: dict[str, object]) -> None:
    with pytest.warns(AffidavitDeprecationWarning, match=r"fit_all is deprecated since acme-models 1.2 and goes in 1.4: call fit for each"):
        assert page["fit_all"](3) == 3  # type: ignore[operator]
    with pytest.warns(AffidavitDeprecationWarning, match="give max_depth"):
        assert page["grow"](3, depth=2) == 3  # type: ignore[operator]
    registry = Registry()
    writer = RegistryWriter(registry, "acme", "acme-models")
    page["affidavit_register"](writer)  # type: ignore[operator]
    registry._entries.update({(each.kind, each.name): each for each in writer.added})
    with pytest.warns(AffidavitDeprecationWarning, match="use acme.boost"), pytest.raises(MissingExtra, match=r"acme-models\[boost\]"):
        registry.get("model", "acme.gbm")


def test_the_message_on_the_page_is_what_a_deprecation_says() -> None:
    said = str(deprecation.Deprecation("affidavit.old", "0.2", "0.4", "use affidavit.new"))
    deprecation._DECLARED.pop()
    assert said in [block.code.strip() for block in blocks("compatibility", "text")]


def test_a_deprecation_that_is_too_short_is_refused_and_the_warning_is_one_that_everybody_sees() -> None:
    with pytest.raises(UsageError, match="minor release"):
        deprecation.Deprecation("x", "0.2", "0.2.9", "use y")
    assert issubclass(AffidavitDeprecationWarning, FutureWarning) and not issubclass(AffidavitDeprecationWarning, DeprecationWarning)


def test_every_check_on_the_page_exists() -> None:
    named = {"registering_uses_nothing_deprecated", "it_uses_nothing_deprecated", "a_kept_artifact_still_loads", "its_code_is_its_own"}
    assert named <= set(CHECKS) and all(f"`{name}`" in PAGE for name in named)


def test_an_artifact_of_a_later_format_is_refused(page: dict[str, object]) -> None:
    box = Box()
    artifact = artifacts.package(page["model"], box)  # type: ignore[arg-type]
    later = box.put(artifacts.canonical_json({**artifact.manifest, "format": artifacts.FORMAT + 1}, "it"), purpose="manifest")
    with pytest.raises(InvalidInput, match="has format 2; this Affidavit reads up to 1. pip install -U affidavit") as raised:
        artifacts.read_artifact(later, box)  # type: ignore[arg-type]
    assert re.sub(r"Artifact \w+…", "Artifact …", str(raised.value)) in PAGE


def test_the_kept_artifact_reads_back_and_is_never_written_again(page: dict[str, object]) -> None:
    path = Path(str(page["path"]))
    kept, model = read_kept(path), page["model"]
    assert kept.model_type == "zoo.centroid" and kept.version == affidavit.__version__ and len(kept.rows) == 4
    assert kept.load(type(model)).predict(kept.rows).values.tolist() == list(kept.labels)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is there already"):
        keep_artifact(model, page["rows"], path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda name, data: data.replace(b'"format":1', b'"format":2') if name == "kept.json" else data,
            "has format 2; this Affidavit reads 1. pip install",
        ),
        (lambda name, data: None if name == "answers.json" else data, "is no kept artifact"),
        (lambda name, data: b"{}" if name == "kept.json" else data, "is no kept artifact"),
    ],
)
def test_a_kept_artifact_of_a_later_format_or_with_a_part_missing_is_refused(page: dict[str, object], tmp_path: Path, change, says: str) -> None:  # type: ignore[no-untyped-def]
    with zipfile.ZipFile(str(page["path"])) as archive:
        contents = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        for name, data in contents.items():
            if data is not None:
                archive.writestr(name, data)
    with pytest.raises(InvalidInput, match=re.escape(says)):
        read_kept(tmp_path / "other.zip")


def test_one_model_gives_one_kept_file(page: dict[str, object], tmp_path: Path) -> None:
    again = keep_artifact(page["model"], page["rows"], tmp_path / "again.zip")  # type: ignore[arg-type]
    assert again.read_bytes() == Path(str(page["path"])).read_bytes()


def test_the_policy_on_the_page_is_one() -> None:
    (block,) = blocks("compatibility", "yaml")
    policy = parse_model(Policy, yaml.safe_load(block.code), whose="The page")
    assert [Allowed.parse(line).name for line in policy.plugins.allow] == ["affidavit", "acme-models", "acme-vision"]


def test_the_command_shows_the_digest_that_a_line_takes_and_why_a_plugin_is_not_loaded(site: Site, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    site.install(QUIET, entry())
    listed = json.loads(command("plugins", "--json").stdout)
    assert {"name": "acme", "distribution": "acme-models", "reason": "distribution 'acme-models' is not in the policy's plugins.allow"} in listed[
        "failures"
    ]
    (tmp_path / "policy.yaml").write_text("plugins: {allow: [affidavit, acme-models]}")
    from affidavit import Workspace

    with Workspace(tmp_path / "credit-ws", policy=tmp_path / "policy.yaml", passphrase="compatibility") as workspace:
        (shown,) = [info for info in workspace.plugins.plugins if info.name == "acme"]
        noted = [each.predicate for each in workspace.ledger.entries("plugin")]
    assert shown.version == "1.2" and shown.registrations[0].name == "acme.boost"
    assert any(shown.digest is not None and shown.digest in json.dumps(entry) for entry in noted)
    assert load(f"acme-models==1.2@sha256:{shown.digest}")[1] == ""


def test_a_line_with_a_digest_refuses_a_changed_an_added_and_a_missing_file_by_name(site: Site) -> None:
    site.install(QUIET, entry())
    manager, _ = load()
    (shown,) = [info for info in manager.plugins if info.name == "acme"]
    line = f"acme-models@sha256:{shown.digest}"
    (module,) = site.folder.glob("acme_models_*/plugin.py")
    (module.parent / "extra.py").write_text("")
    assert "extra.py' of distribution 'acme-models' is not what was installed" in load(line)[1]
    (module.parent / "extra.py").unlink()
    assert load(line)[1] == ""
    module.write_text(QUIET + "# changed\n")
    assert "plugin.py' of distribution" in load(line)[1]
    module.unlink()
    assert "plugin.py' of distribution" in load(line)[1]
