"""``affidavit new-plugin``: what it writes passes the conformance kit, its own tests, ruff and mypy; nothing is overwritten."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

import affidavit as af
from affidavit.errors import AffidavitError, UsageError
from affidavit.plugins import PluginManager
from affidavit.scaffold import KINDS, Project, new_plugin
from affidavit.scaffold.names import MOST_LETTERS

ROOT = Path(__file__).parents[2]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """One project of each kind."""
    folder = tmp_path_factory.mktemp("projects")
    return {kind: new_plugin(f"scaffolded-{kind}", kind, folder / kind.replace("-", "_")) for kind in KINDS}


@pytest.fixture(scope="module")
def site(written: dict[str, Project], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheels of all projects are installed."""
    site, wheels = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("wheels")
    for project in written.values():
        assert len([*WheelBuilder(str(project.folder)).build(directory=str(wheels))]) == 1
    files = sorted(map(str, wheels.glob("*.whl")))
    assert len(files) == len(KINDS)
    done = ran([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), *files])
    assert done.returncode == 0, done.stderr
    return site


def ran(command: list[str], *, cwd: Path | None = None, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own; `path` is importable there. Pytest does without the plugins that this environment happens to have."""
    own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {**os.environ, **own, **({} if path is None else {"PYTHONPATH": str(path)})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_project_conforms_and_is_governed(
    kind: str, written: dict[str, Project], site: Path, affidavit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    done = affidavit("check-plugin", written[kind].name, "--json")
    report = json.loads(done.stdout)
    wrong = [f"{each['check']}: {each['message']}" for each in report["results"] if each["outcome"] not in ("passed", "skipped")]
    assert wrong == []
    assert done.returncode == 0
    assert report["ok"]
    assert report["governed"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_registers_one_name_of_its_kind(kind: str, written: dict[str, Project], site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    manager = PluginManager([written[kind].name])
    manager.load_plugins()
    (info,) = [info for info in manager.plugins if info.distribution == written[kind].name]
    (entry,) = info.registrations
    assert (entry.kind, entry.name) == (KINDS[kind].registry, written[kind].registered)
    assert manager.registry.get(entry.kind, entry.name).__name__ == KINDS[kind].cls


@pytest.mark.parametrize("kind", ["recognizer", "dataset"])
def test_its_own_tests_pass_and_run_the_governance_checks(kind: str, written: dict[str, Project], site: Path) -> None:
    done = ran([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=written[kind].folder, path=site)
    assert done.returncode == 0, done.stdout[-3000:]
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 10


def test_a_plugin_that_is_spoilt_fails_its_own_tests(tmp_path: Path) -> None:
    project = new_plugin("scaffolded-spoilt", "recognizer", tmp_path / "spoilt")
    source = project.folder / "src/scaffolded_spoilt/recognizer.py"
    source.write_text(source.read_text().replace("% 97 == 1", "% 97 == 2"))
    done = ran([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=project.folder, path=project.folder / "src")
    assert done.returncode == 1, done.stdout


def test_a_mistake_is_told_whole_and_with_its_place_in_the_authors_file(affidavit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a place in the SDK, where it was noticed; and names are not cut off, also in a narrow terminal."""
    project = new_plugin("scaffolded-mistaken", "model", tmp_path / "mistaken")
    source = project.folder / "src/scaffolded_mistaken/plugin.py"
    source.write_text(source.read_text().replace('capabilities=["probabilities"]', 'capabilities=["probabilties"]'))
    line = next(number for number, text in enumerate(source.read_text().splitlines(), 1) if "registry.add(" in text)
    done = ran([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=project.folder)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("COLUMNS", "72")
    done = affidavit("check-plugin", project.name)
    assert done.returncode == 1
    told = re.sub(r"\W", "", "".join(row.split("│")[5] for row in done.stdout.splitlines() if row.startswith("│")))
    assert f"Didyoumeanprobabilitiespluginpyline{line}" in told
    names = "".join(row.split("│")[3].strip() for row in done.stdout.splitlines() if row.startswith("│"))
    assert "importing_and_registering_come_to_an_end" in names


def test_what_is_written_is_clean_for_ruff_and_mypy(written: dict[str, Project], tmp_path: Path) -> None:
    """Also under the rules of this project, and where a long name makes long lines."""
    root = written["model"].folder.parent
    for kind in KINDS:
        new_plugin(kind.ljust(MOST_LETTERS, "x"), kind, root / f"long_{kind.replace('-', '_')}")
    house = re.search(r"^select = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert house is not None
    for rules in ([], ["--select", house[1].replace('"', "").replace(" ", "")]):
        done = ran([sys.executable, "-m", "ruff", "check", "--no-cache", *rules, str(root)])
        assert done.returncode == 0, done.stdout
    done = ran([sys.executable, "-m", "ruff", "format", "--no-cache", "--diff", str(root)])
    assert done.returncode == 0, done.stdout
    # One run over all of them: the settings that stand in each pyproject, for seven packages at once.
    sources = ":".join([str(root), *(str(project.folder / "src") for project in written.values())])
    strict = "[mypy]\nstrict = True\nexplicit_package_bases = True\nnamespace_packages = True\n"
    settings = tmp_path / "mypy.ini"
    settings.write_text(f"{strict}mypy_path = {sources}\n[mypy-pyarrow.*]\nignore_missing_imports = True\n")
    folders = [str(project.folder / part) for project in written.values() for part in ("src", "tests")]
    done = ran([sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(tmp_path / "cache"), *folders], cwd=root)
    assert done.returncode == 0, done.stdout


def test_the_wheel_asks_for_this_sdk_and_what_the_code_imports(written: dict[str, Project], site: Path) -> None:
    """Nothing is imported at the top of a module that the distribution does not ask for."""
    for kind, project in written.items():
        metadata = (site / f"{project.package}-0.1.0.dist-info/METADATA").read_text()
        needs = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)]
        asked = {need.name: str(need.specifier) for need in needs if need.marker is None}
        assert asked["affidavit"] == f">={af.__version__}"
        assert all(asked.values()), f"{kind}: a dependency without a lower bound"
        code = "\n".join(path.read_text() for path in (site / project.package).glob("*.py"))
        imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.M)) - set(sys.stdlib_module_names) - {project.package}
        assert imported == set(asked), kind


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "no name of a distribution"),
        ("-acme", "no name of a distribution"),
        ("acme plugin", "no name of a distribution"),
        ("../acme", "no name of a distribution"),
        ("acme/plugin", "no name of a distribution"),
        ("acmé", "no name of a distribution"),
        ("a" * (MOST_LETTERS + 1), "no name of a distribution"),
        ("3d-models", "Python cannot import"),
        ("lambda", "Python cannot import"),
        ("json", "'json' can be imported"),
        ("Email", "'email' can be imported"),
        ("NumPy", "numpy .* is installed"),
        ("affidavit", "affidavit .* is installed"),
        ("affidavit-plugins", "'affidavit_plugins' can be imported"),
        ("tabular", "'affidavit' brings a plugin of that name"),
    ],
)
def test_a_name_that_cannot_be_or_is_taken_is_refused(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        new_plugin(name, "model", tmp_path / "new")
    assert refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_package_is_the_name_in_the_form_of_an_identifier(tmp_path: Path) -> None:
    project = new_plugin("Acme.Risk--Models", "target", tmp_path / "new")
    assert (project.package, project.registered) == ("acme_risk_models", "acme_risk_models.bounded")
    assert 'name = "Acme.Risk--Models"' in (project.folder / "pyproject.toml").read_text()
    assert (project.folder / "src/acme_risk_models/plugin.py").exists()


def test_without_a_folder_it_is_written_here_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = new_plugin("acme-models", "model")
    assert [path.name for path in tmp_path.iterdir()] == ["acme-models"]
    there = sorted(path.relative_to(tmp_path / "acme-models").as_posix() for path in (tmp_path / "acme-models").rglob("*") if path.is_file())
    assert tuple(there) == project.files


@pytest.mark.parametrize("made", ["folder", "full folder", "file", "link to nothing"])
def test_nothing_is_overwritten(made: str, tmp_path: Path) -> None:
    place = tmp_path / "acme"
    if made == "file":
        place.write_text("mine")
    elif made == "link to nothing":
        place.symlink_to(tmp_path / "nothing")
    else:
        place.mkdir()
    if made == "full folder":
        (place / "README.md").write_text("mine")
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(UsageError, match="nothing is overwritten"):
        new_plugin("acme-models", "model", place)
    assert sorted(map(str, tmp_path.rglob("*"))) == before
    assert not (place / "README.md").exists() or (place / "README.md").read_text() == "mine"


def test_where_writing_fails_nothing_is_left(tmp_path: Path) -> None:
    """The name is longer than a file system takes, so that the last step fails, when all files are there."""
    with pytest.raises(AffidavitError, match="cannot be written"):
        new_plugin("acme-models", "model", tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


def test_the_folder_above_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        new_plugin("acme-models", "model", tmp_path / "no" / "acme")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote_and_what_comes_next(affidavit: Command, tmp_path: Path) -> None:
    done = affidavit("new-plugin", "acme-models", "--kind", "model", "--folder", tmp_path / "a b")
    assert done.returncode == 0
    assert "acme_models.centroid" in done.stdout
    assert f"cd '{tmp_path / 'a b'}'" in done.stdout
    assert "affidavit check-plugin acme-models" in done.stdout


def test_the_command_speaks_json(affidavit: Command, tmp_path: Path) -> None:
    done = affidavit("new-plugin", "acme-keys", "--kind", "key-provider", "--folder", tmp_path / "keys", "--json")
    said = json.loads(done.stdout)
    assert (said["name"], said["package"], said["kind"], said["registered"]) == ("acme-keys", "acme_keys", "key-provider", "acme_keys.key_file")
    assert all((Path(said["folder"]) / path).is_file() for path in said["files"])


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["acme-models", "--kind", "modle"], "Did you mean 'model'?"),
        (["acme-keys", "--kind", "key_provider"], "Did you mean 'key-provider'?"),
        (["acme-models", "--kind", "source"], "Kinds: model, dataset"),
        (["tabular", "--kind", "model"], "For example my-tabular."),
    ],
)
def test_wrong_usage_has_exit_code_two_and_a_next_step(arguments: list[str], suggestion: str, affidavit: Command, tmp_path: Path) -> None:
    done = affidavit("new-plugin", *arguments, "--folder", tmp_path / "new")
    assert done.returncode == 2
    assert suggestion in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_needs_a_kind(affidavit: Command, tmp_path: Path) -> None:
    assert affidavit("new-plugin", "acme-models", "--folder", tmp_path / "new").returncode == 2


def test_every_template_is_used() -> None:
    folder = ROOT / "sdk/affidavit/scaffold/templates"
    own = {f"{kind}/{name}.tmpl" for kind, about in KINDS.items() for name in (f"{about.module}.py", "conformance.py", "change.md")}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {path for path in found if not path.startswith("shared/")} == own
