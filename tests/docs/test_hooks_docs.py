"""The page of the hooks: its plugin is installed and loaded, its examples run, and what it says of each hook is what there is."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import DOCS, run_page, write_files

from affidavit import calls, hookspecs, reveal
from affidavit.errors import PluginError
from affidavit.interfaces.governance import Stage
from affidavit.pipeline import _HOOK
from affidavit.plugins import LIFECYCLE, PluginManager

PAGE = (DOCS / "hooks.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))
CALLS = {call.kind: call for module in (calls, reveal) for call in vars(module).values() if isinstance(call, type) and "kind" in vars(call)}


def attributes(text: str) -> set[str]:
    """What the table of a section names in its first column."""
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def slots(call: type) -> set[str]:
    return {name for kind in call.__mro__ for name in getattr(kind, "__slots__", ())}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names after the page has run, with its plugin installed and its workspace open again."""
    folder = tmp_path_factory.mktemp("hooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("AFFIDAVIT_HOME", str(folder / "home"))
        write_files("hooks", folder)
        install(folder)
        patch.syspath_prepend(str(folder))
        names = run_page("hooks")
        with names["af"].Workspace("ws", policy=names["policy"]) as ws:
            yield {**names, "ws": ws}


def install(folder: Path) -> None:
    """Make the module and its pyproject a distribution on the path, as an installer would."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{needs}")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups))
    importlib.invalidate_caches()


def test_every_hook_has_its_section() -> None:
    assert set(SECTIONS) == {"affidavit_register", *LIFECYCLE}


def test_every_attribute_that_all_calls_have_is_on_the_page() -> None:
    shared = PAGE.split("## What every call carries")[1].split("\n## ")[0]
    assert attributes(shared) == {*slots(calls.Call), "kind", "replaceable"}


@pytest.mark.parametrize("kind", calls.KINDS)
def test_every_attribute_of_a_call_is_on_the_page_and_no_other(kind: str) -> None:
    assert attributes(SECTIONS[_HOOK[kind]]) == slots(CALLS[kind]) - slots(calls.Call)


@pytest.mark.parametrize("kind", calls.KINDS)
def test_what_governance_replaces_is_said_with_the_stage(kind: str) -> None:
    for name, stages in CALLS[kind].replaceable.items():
        (line,) = re.findall(rf"^\| `{name}` \| (.*) \|$", SECTIONS[_HOOK[kind]], re.M)
        assert all(stage.name in line for stage in (stages if isinstance(stages, tuple) else (stages,)))


@pytest.mark.parametrize("kind", calls.KINDS)
def test_each_example_is_run_and_seen_by_the_plugin(kind: str, ran: dict[str, Any]) -> None:
    """The page has popped everything that its wrappers saw, so each one ran exactly as often as the page shows."""
    assert f"def {_HOOK[kind]}(call):" in SECTIONS[_HOOK[kind]] and "seen.pop()" in SECTIONS[_HOOK[kind]]
    assert ran["seen"] == []
    assert "acme_watch" in {impl.plugin_name for impl in getattr(ran["ws"].plugins.hook, _HOOK[kind]).get_hookimpls()}


@pytest.mark.parametrize("hook", LIFECYCLE)
def test_who_stands_around_a_hook_is_what_the_page_and_the_specification_say(hook: str, ran: dict[str, Any]) -> None:
    (line,) = re.findall(r"^- \*\*Around it:\*\* (.*)$", SECTIONS[hook], re.M)
    implementations = getattr(ran["ws"].plugins.hook, hook).get_hookimpls()
    around = [impl.plugin.stage.name for impl in reversed(implementations) if isinstance(getattr(impl.plugin, "stage", None), Stage)]
    always, _, sometimes = line.partition(", and ")
    assert re.findall(r"[A-Z]{5,}", always) == around
    said = re.findall(r"\b(?:" + "|".join(stage.name for stage in Stage) + r")\b", getattr(hookspecs, hook).__doc__)
    assert said == around + re.findall(r"[A-Z]{5,}", sometimes)


@pytest.mark.parametrize("kind", [kind for kind in calls.KINDS if kind != "predict"])
def test_the_evidence_of_a_call_is_what_the_page_says(kind: str, ran: dict[str, Any]) -> None:
    *_, outcome = (entry for entry in ran["ws"].ledger.entries(kind) if entry.predicate["status"] == "done")
    (line,) = re.findall(r"^- \*\*Evidence:\*\* (.*)$", SECTIONS[_HOOK[kind]], re.M)
    subject = re.search(r"subject `([^`]+)`", line)
    assert subject is not None
    (name,) = (each["name"] for each in outcome.statement["subject"])
    assert re.fullmatch(re.sub("<[a-z]+>", "[^:]+", subject[1]), name)
    always, _, sometimes = line.partition("details")[2].partition("sometimes")
    details, optional = (set(re.findall(r"`(\w+)`", text)) for text in (always, sometimes))
    found = set(outcome.predicate["details"])
    assert details <= found and (found <= details | optional or "the record's summary" in line)


FORMS = re.findall(r"^\| `([^`]+)`[^|]*\| (?:refused: )?(.*) \|$", PAGE.split("## What a wrapper may do")[1].split("\n## ")[0], re.M)


@pytest.mark.parametrize(("form", "said"), FORMS, ids=[form for form, _ in FORMS])
def test_the_forms_of_a_wrapper_load_or_are_refused_as_the_page_says(form: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, define = ("@hookimpl(wrapper=True)", form) if form == "async def" else (form, "def")
    number = FORMS.index((form, said))
    (tmp_path / f"acme_form{number}.py").write_text(
        f"from affidavit import hookimpl\n{mark}\n{define} affidavit_predict(call):\n    {'return 1' if mark == '@hookimpl' or define != 'def' else 'return (yield)'}\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "acme-form{number}"\nversion = "1.0"\ndependencies = ["affidavit>=0.1"]\n'
        f'[project.entry-points."affidavit.plugins.v1"]\nacme_form = "acme_form{number}"\n'
    )
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    manager = PluginManager([f"acme-form{number}"])
    manager.load_plugins()
    reasons = {failure.name: failure.reason for failure in manager.failures}
    if said == "the plugin loads":
        assert "acme_form" in {plugin.name for plugin in manager.plugins}
    else:
        words = max(re.findall(r"[a-z' -]{8,}", said), key=len).removeprefix("it ").removesuffix(" can swallow a refusal")
        assert words.strip() in reasons["acme_form"]


def test_a_wrapper_that_changes_the_call_is_told_so() -> None:
    call = calls.PromoteCall(None, None, version=None, alias="x")  # type: ignore[arg-type]  # a call alone
    with pytest.raises(PluginError, match="frozen"):
        call.alias = "production"
