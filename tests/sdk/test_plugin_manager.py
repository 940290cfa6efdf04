"""Attacks on the plugin manager: each guard of the design, tried from the outside with real distributions on the path."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from affidavit.errors import IntegrityError, MissingExtra, PluginError, Refused, UsageError
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.governance import Stage
from affidavit.pipeline import Pipeline
from affidavit.plugins import GOVERNANCE_GROUP, PLUGIN_GROUP, PluginManager, Registry, RegistryWriter
from affidavit.tampering import sdk_changes, sdk_state
from affidavit.trust import Trust, installed_entry_points

Install = Callable[..., None]
numbers = itertools.count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write a real distribution (module and dist-info) into a folder on the path."""

    def write(distribution: str, code: str, *, entry: str = "", group: str = PLUGIN_GROUP, attribute: str = "") -> None:
        site = tmp_path / f"site{next(numbers)}"
        module = f"planted_{next(numbers)}"
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        target = f"{module}:{attribute}" if attribute else module
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry or distribution} = {target}\n")
        (site / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))

    return write


HOOKIMPL = "from affidavit.hookspecs import hookimpl\n"
GOOD = HOOKIMPL + (
    "@hookimpl\ndef affidavit_register(registry):\n    registry.add('model', 'acme.mean', 'acme_missing:Mean', capabilities={'probabilities'}, extra='acme')\n"
)


def manager_with(*allow: str) -> PluginManager:
    manager = PluginManager(("affidavit", *allow))
    manager.load_plugins()
    return manager


def reasons(manager: PluginManager) -> dict[str, str]:
    return {failure.name: failure.reason for failure in manager.failures}


class TestLoading:
    @pytest.mark.parametrize("code", ["raise SystemExit(3)", HOOKIMPL + "@hookimpl\ndef affidavit_register(registry):\n    raise SystemExit(3)\n"])
    def test_a_plugin_that_ends_the_process_takes_nobody_down(self, install: Install, code: str) -> None:
        install("quitter", code)
        manager = manager_with("quitter")
        assert reasons(manager) == {"quitter": "SystemExit: 3"}
        assert manager.registry.names("model")

    @pytest.mark.parametrize("code", ["raise SystemExit(3)", "raise RuntimeError('no')"])
    def test_a_model_module_that_raises_anything_is_an_error_of_its_plugin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        (tmp_path / "raises_on_import.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        registry = Registry()
        writer = RegistryWriter(registry, "acme")
        writer.add("model", "acme.raises", "raises_on_import:Model")
        registry._entries.update({(entry.kind, entry.name): entry for entry in writer.added})
        with pytest.raises(PluginError, match="Plugin 'acme'"):
            registry.get("model", "acme.raises")

    def test_bundled_plugins_all_load(self) -> None:
        manager = manager_with()
        assert reasons(manager) == {}
        assert {"tabular.logistic", "tabular.mlp", "vision.cnn", "text.classifier"} <= set(manager.registry.names("model"))

    def test_an_allowed_plugin_adds_its_names(self, install: Install) -> None:
        install("acme", GOOD)
        manager = manager_with("acme")
        assert "acme.mean" in manager.registry.names("model", capability="probabilities")
        assert "acme.mean" not in manager.registry.names("model", capability="linear")

    def test_a_distribution_that_the_policy_does_not_name_is_refused_before_it_is_imported(self, install: Install, tmp_path: Path) -> None:
        trace = tmp_path / "imported"
        install("stranger", f"open({str(trace)!r}, 'w').close()\n" + GOOD)
        manager = manager_with()
        assert "plugins.allow" in reasons(manager)["stranger"]
        assert not trace.exists()

    @pytest.mark.parametrize("code", ["import a_module_that_does_not_exist\n", "raise RuntimeError('at import')\n", "this is no python\n"])
    def test_a_plugin_that_cannot_be_imported_takes_nothing_down(self, install: Install, code: str) -> None:
        install("broken", code)
        install("acme", GOOD)
        manager = manager_with("acme", "broken")
        assert "broken" in reasons(manager)
        assert "acme.mean" in manager.registry.names("model")
        assert "tabular.logistic" in manager.registry.names("model")

    @pytest.mark.parametrize(
        ("code", "what"),
        [
            ("from affidavit.pipeline import Pipeline\nPipeline.run = lambda self, *a, **k: None\n" + GOOD, "affidavit.pipeline.Pipeline.run"),
            ("import affidavit.plugins\naffidavit.plugins.LIFECYCLE = ()\n" + GOOD, "affidavit.plugins.LIFECYCLE"),
            (GOOD + "    import affidavit.errors\n    del affidavit.errors.nearest\n", "affidavit.errors.nearest"),
        ],
    )
    def test_a_plugin_that_replaces_part_of_the_sdk_is_refused_and_the_part_put_back(self, install: Install, code: str, what: str) -> None:
        plain = sdk_state()
        install("acme", code)
        install("other", HOOKIMPL + "@hookimpl\ndef affidavit_register(registry):\n    registry.add('model', 'other.mean', 'a:B')\n")
        for _ in range(2):  # every manager tells of it, not only the first one in a process
            manager = manager_with("acme", "other")
            assert reasons(manager)["acme"] == f"PluginError: it replaced {what}: a plugin may add, not change"
            assert sdk_changes(plain) == [] and "acme.mean" not in manager.registry.names("model")
            assert {"other.mean", "tabular.mlp"} <= set(manager.registry.names("model"))

    def test_two_plugins_with_one_entry_point_name_are_both_refused(self, install: Install) -> None:
        install("acme", GOOD, entry="twin")
        install("emca", GOOD.replace("acme.mean", "emca.mean"), entry="twin")
        manager = manager_with("acme", "emca")
        assert {failure.distribution for failure in manager.failures} == {"acme", "emca"}
        assert not {"acme.mean", "emca.mean"} & set(manager.registry.names("model"))

    def test_a_plugin_cannot_take_the_place_of_a_bundled_one_by_its_name(self, install: Install) -> None:
        install("acme", GOOD, entry="tabular")
        manager = manager_with("acme")
        assert "more than one distribution" in reasons(manager)["tabular"]
        assert "tabular.logistic" in manager.registry.names("model")

    def test_a_registered_name_cannot_be_taken_twice_and_nothing_of_the_second_plugin_stays(self, install: Install) -> None:
        code = HOOKIMPL + (
            "@hookimpl\ndef affidavit_register(registry):\n"
            "    registry.add('model', 'acme.new', 'acme:New')\n    registry.add('model', 'tabular.logistic', 'acme:Fake')\n"
        )
        install("acme", code)
        manager = manager_with("acme")
        assert "registered before" in reasons(manager)["acme"]
        assert "acme.new" not in manager.registry.names("model")

    def test_a_missing_library_of_an_extra_gives_the_pip_line_of_the_plugins_own_distribution(self, install: Install) -> None:
        install("acme-models", GOOD, entry="acme")
        with pytest.raises(MissingExtra, match=r"pip install 'acme-models\[acme\]'"):
            manager_with("acme-models").registry.get("model", "acme.mean")

    def test_a_missing_library_of_a_bundled_extra_gives_the_pip_line_of_affidavit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn", None)
        for name in [name for name in sys.modules if name.startswith(("affidavit_plugins.tabular", "sklearn."))]:
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(MissingExtra, match=r"pip install 'affidavit\[tabular\]'"):
            manager_with().registry.get("model", "tabular.forest")

    def test_an_unknown_name_lists_the_known_ones_and_the_nearest(self) -> None:
        with pytest.raises(UsageError, match=r"Did you mean 'tabular.logistic'.*tabular.mlp"):
            manager_with().registry.get("model", "tabular.logistics")


LIFECYCLE_ATTACKS = {
    "tryfirst": "@hookimpl(wrapper=True, tryfirst=True)\ndef affidavit_predict(call):\n    return (yield)\n",
    "old-style": "@hookimpl(hookwrapper=True)\ndef affidavit_predict(call):\n    yield\n",
    "asynchronous": "@hookimpl\nasync def affidavit_predict(call):\n    return 1\n",
    "core's own": "@hookimpl\ndef affidavit_predict(call):\n    return 1\n",
}


class TestHookImplementations:
    @pytest.mark.parametrize("word", LIFECYCLE_ATTACKS)
    def test_an_implementation_that_would_escape_governance_is_refused(self, install: Install, word: str) -> None:
        install("acme", GOOD + LIFECYCLE_ATTACKS[word])
        manager = manager_with("acme")
        assert word in reasons(manager)["acme"]
        assert "acme.mean" not in manager.registry.names("model")


def governance_code(stage: str, body: str = "") -> str:
    return HOOKIMPL + (
        f"from affidavit.interfaces.governance import Stage\nclass Module:\n    stage = Stage.{stage}\n"
        "    def __init__(self, trail):\n        self.trail = trail\n"
        f"    @hookimpl(wrapper=True)\n    def affidavit_predict(self, call):\n        self.trail.append('{stage}')\n{body or '        return (yield)'}\n"
        + "".join(
            f"    @hookimpl(wrapper=True)\n    def {name}(self, call):\n        return (yield)\n"
            for name in (
                "affidavit_load",
                "affidavit_train",
                "affidavit_evaluate",
                "affidavit_explain",
                "affidavit_package",
                "affidavit_register_version",
                "affidavit_approve",
                "affidavit_promote",
                "affidavit_deploy",
                "affidavit_reveal",
                "affidavit_shred",
            )
        )
    )


class CoreOfTest:
    """An innermost implementation for every hook; `predict` gives what the test says."""

    def __init__(self, answer: Callable[[], object]) -> None:
        self._answer = answer

    @hookimpl
    def affidavit_predict(self, call: object) -> object:
        return self._answer()

    @hookimpl
    def affidavit_load(self, call: object) -> object:
        return 1

    affidavit_train = affidavit_evaluate = affidavit_explain = affidavit_package = affidavit_load
    affidavit_register_version = affidavit_approve = affidavit_promote = affidavit_deploy = affidavit_load
    affidavit_reveal = affidavit_shred = affidavit_load


class Governed:
    """A manager with the core and six governance modules from distributions on the path."""

    def __init__(
        self, install: Install, answer: Callable[[], object] = lambda: 1, bodies: dict[str, str] | None = None, extra_plugin: str = ""
    ) -> None:
        for number, stage in enumerate(Stage):
            install(f"gov{number}", governance_code(stage.name, (bodies or {}).get(stage.name, "")), group=GOVERNANCE_GROUP, attribute="Module")
        if extra_plugin:
            install("acme", GOOD + extra_plugin)
        self.trail: list[str] = []
        self.manager = PluginManager(["acme", *[f"gov{number}" for number in range(6)]])
        self.manager.load_plugins([entry for entry in metadata.entry_points(group=PLUGIN_GROUP) if entry.name == "acme"])
        self.manager.register(CoreOfTest(answer), name="core")

    def entries(self) -> list[metadata.EntryPoint]:
        return [entry for entry in metadata.entry_points(group=GOVERNANCE_GROUP) if entry.name.startswith("gov")]

    def seal(self) -> Pipeline:
        self.manager.load_governance(self.trail, self.entries())
        self.manager.seal()
        return Pipeline(self.manager, SimpleNamespace(has_outcome=lambda call: True))  # type: ignore[arg-type]


CALL = SimpleNamespace(kind="predict")


class TestGovernance:
    def test_stages_run_from_the_outside_in_whatever_order_they_are_found_in(self, install: Install) -> None:
        governed = Governed(install)
        assert governed.seal().run(CALL) == 1  # type: ignore[arg-type]
        assert governed.trail == ["AUDIT", "ACCESS", "POLICY", "MASKING", "PRIVACY", "EXPLAIN"]

    def test_a_wrapper_of_an_allowed_plugin_stands_inside_governance(self, install: Install) -> None:
        plugin = "@hookimpl(wrapper=True)\ndef affidavit_predict(call):\n    try:\n        return (yield)\n    except Exception:\n        return 'swallowed'\n"
        denial = "        raise __import__('affidavit.errors').errors.Refused('no', by='privacy', line='x')\n        yield"
        governed = Governed(install, bodies={"PRIVACY": denial}, extra_plugin=plugin)
        with pytest.raises(Refused):
            governed.seal().run(CALL)  # type: ignore[arg-type]

    def test_a_module_that_fails_to_load_stops_everything(self, install: Install) -> None:
        governed = Governed(install)
        install("gov9", "raise RuntimeError('broken')\n", group=GOVERNANCE_GROUP, attribute="Module")
        governed.manager._trust = Trust({"affidavit", *(f"gov{number}" for number in range(10))})
        with pytest.raises(PluginError, match="gov9.*failed to load"):
            governed.seal()

    def test_a_missing_stage_stops_everything(self, install: Install) -> None:
        governed = Governed(install)
        with pytest.raises(PluginError, match="No governance module for stage MASKING"):
            governed.manager.load_governance([], [entry for entry in governed.entries() if entry.name != "gov3"])

    def test_two_modules_cannot_claim_one_stage(self, install: Install) -> None:
        governed = Governed(install)
        install("gov9", governance_code("AUDIT"), group=GOVERNANCE_GROUP, attribute="Module")
        governed.manager._trust = Trust({"affidavit", *(f"gov{number}" for number in range(10))})
        with pytest.raises(PluginError, match="both claim stage AUDIT"):
            governed.seal()

    def test_a_governance_module_of_a_distribution_that_is_not_allowed_is_not_loaded(self, install: Install) -> None:
        governed = Governed(install)
        install("gov9", "raise RuntimeError('imported')\n", group=GOVERNANCE_GROUP, attribute="Module")
        governed.seal()
        assert "plugins.allow" in reasons(governed.manager)["gov9"]


class Late:
    """A wrapper that wants to stand outside everything."""

    @hookimpl(wrapper=True, tryfirst=True)
    def affidavit_predict(self, call: object):  # type: ignore[no-untyped-def]
        try:
            return (yield)
        except Exception:
            return "swallowed"


class TestSeal:
    def test_a_wrapper_outside_governance_prevents_the_seal(self, install: Install) -> None:
        governed = Governed(install)
        governed.manager.load_governance([], governed.entries())
        governed.manager.register(Late(), name="late")
        with pytest.raises(PluginError, match="outside governance"):
            governed.manager.seal()

    @pytest.mark.parametrize(
        "change",
        [
            lambda manager: manager.register(Late()),
            lambda manager: manager.unregister(name="governance:gov0"),
            lambda manager: manager.set_blocked("governance:gov0"),
            lambda manager: manager.subset_hook_caller("affidavit_predict", []),
        ],
    )
    def test_nothing_changes_after_the_seal(self, install: Install, change: Callable[[PluginManager], object]) -> None:
        governed = Governed(install)
        governed.seal()
        with pytest.raises(PluginError):
            change(governed.manager)

    def test_a_hook_changed_behind_the_managers_back_answers_no_more(self, install: Install) -> None:
        governed = Governed(install)
        pipeline = governed.seal()
        governed.manager.hook.affidavit_predict._hookimpls.pop()
        with pytest.raises(PluginError, match="changed after the seal"):
            pipeline.run(CALL)  # type: ignore[arg-type]


class TestPipeline:
    def test_no_answer_is_an_error(self, install: Install) -> None:
        with pytest.raises(PluginError, match="No implementation answered"):
            Governed(install, answer=lambda: None).seal().run(CALL)  # type: ignore[arg-type]

    def test_an_answer_whose_outcome_is_not_in_the_ledger_is_withheld(self, install: Install) -> None:
        governed = Governed(install)
        governed.seal()
        pipeline = Pipeline(governed.manager, SimpleNamespace(has_outcome=lambda call: False))  # type: ignore[arg-type]
        with pytest.raises(IntegrityError, match="not in the ledger"):
            pipeline.run(CALL)  # type: ignore[arg-type]

    def test_a_swallowed_refusal_leaves_no_outcome_and_no_answer(self, install: Install) -> None:
        """A governance module that is replaced by one that swallows still cannot fake the ledger's outcome."""
        swallow = "        try:\n            return (yield)\n        except Exception:\n            return 'swallowed'"
        denial = "        raise __import__('affidavit.errors').errors.Refused('no', by='policy', line='x')\n        yield"
        governed = Governed(install, bodies={"ACCESS": swallow, "POLICY": denial})
        governed.seal()
        recorded: list[object] = []
        pipeline = Pipeline(governed.manager, SimpleNamespace(has_outcome=lambda call: call in recorded))  # type: ignore[arg-type]
        with pytest.raises(IntegrityError):
            pipeline.run(CALL)  # type: ignore[arg-type]


def test_what_is_installed_is_read_once_and_again_after_an_installation(install, tmp_path, monkeypatch):
    PluginManager().load_plugins()
    read = []
    monkeypatch.setattr(metadata, "entry_points", lambda entry_points=metadata.entry_points: read.append(1) or entry_points())
    PluginManager().load_plugins()
    assert not read
    install("acme", GOOD)
    (site,) = tmp_path.glob("site*")
    assert manager_with("acme").registry.names("model").count("acme.mean") == 1 and len(read) == 1
    shutil.move(next(site.glob("*.dist-info")), tmp_path / "elsewhere")
    assert "acme.mean" not in manager_with("acme").registry.names("model")


def test_a_distribution_s_metadata_are_not_parsed_again_for_each_entry_point(monkeypatch):
    """They are long, and were most of the time in which a workspace opens."""
    installed_entry_points.cache_clear()
    parsed = []
    read = metadata.PathDistribution.read_text
    monkeypatch.setattr(metadata.PathDistribution, "read_text", lambda self, name: parsed.append(name) or read(self, name))
    manager = PluginManager()
    manager.load_plugins()
    bundled = {plugin.distribution for plugin in manager.plugins}
    assert bundled == {"affidavit"} and len(manager.plugins) > 9
    assert 0 < parsed.count("METADATA") <= 8
