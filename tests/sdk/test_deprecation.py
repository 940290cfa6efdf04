"""Deprecations: they say what, since when, until when and what to do, once for each place, and none outlives its time."""

from __future__ import annotations

import pkgutil
import warnings
from abc import ABC
from importlib import import_module

import pytest

import affidavit
from affidavit import deprecation
from affidavit.deprecation import AffidavitDeprecationWarning, Deprecation, declared, deprecated, deprecated_parameter
from affidavit.errors import UsageError
from affidavit.plugins import Registry, RegistryWriter, bundled_registry

SAYS = r"^{} is deprecated since affidavit 0\.1 and goes in 9\.0: use another\.$"
TERMS = {"since": "0.1", "removal": "9.0", "instead": "use another"}


@pytest.fixture(autouse=True)
def _nothing_of_these_tests_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecation, "_DECLARED", list(deprecation._DECLARED))


def test_a_function_warns_where_it_is_called_and_does_what_it_did() -> None:
    @deprecated("old", **TERMS)
    def old(value: int) -> int:
        return value + 1

    with pytest.warns(AffidavitDeprecationWarning, match=SAYS.format("old")) as told:
        assert old(1) == 2
    assert told[0].filename == __file__ and old.__name__ == "old"


def test_it_is_shown_once_for_each_place_without_anybody_asking_for_it() -> None:
    @deprecated("old", **TERMS)
    def old() -> None: ...

    with warnings.catch_warnings(record=True) as told:
        warnings.resetwarnings()  # the filters that Python itself begins with show it too: it is no DeprecationWarning
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        for _ in range(3):
            old()
        old()
    assert len(told) == 2


@pytest.mark.parametrize("base", [object, ABC])
def test_a_class_warns_of_its_objects_and_of_its_subclasses(base: type) -> None:
    @deprecated("Old", **TERMS)
    class Old(base):  # type: ignore[misc]
        def __init__(self, value: int) -> None:
            self.value = value

    with pytest.warns(AffidavitDeprecationWarning, match=SAYS.format("Old")) as told:
        assert Old(3).value == 3
    assert told[0].filename == __file__
    with pytest.warns(AffidavitDeprecationWarning, match=SAYS.format("Old")) as told:

        class Younger(Old): ...

    assert told[0].filename == __file__ and len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Younger(4).value == 4  # it was told of when the class was made


def test_a_parameter_warns_whoever_gives_it_and_nobody_else() -> None:
    @deprecated_parameter("rows", **TERMS)
    def read(path: str, rows: int = 5) -> int:
        return rows

    said = SAYS.format(r"the parameter 'rows' of .*read")
    with pytest.warns(AffidavitDeprecationWarning, match=said):
        assert read("x", rows=2) == 2
    with pytest.warns(AffidavitDeprecationWarning, match=said):
        assert read("x", 3) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read("x") == 5
    with pytest.raises(UsageError, match="no parameter 'row'"):
        deprecated_parameter("row", **TERMS)(read)


def test_a_registered_name_warns_whoever_asks_for_it_each_time() -> None:
    registry = Registry()
    writer = RegistryWriter(registry, "acme", "acme-models")
    writer.add(
        "model", "acme.old", "collections:OrderedDict", deprecated=Deprecation("model type 'acme.old'", "1.0", "1.2", "use acme.new", "acme-models")
    )
    writer.add("model", "acme.new", "collections:OrderedDict")
    registry._entries.update({(entry.kind, entry.name): entry for entry in writer.added})
    for _ in range(2):
        with pytest.warns(AffidavitDeprecationWarning, match=r"'acme.old' is deprecated since acme-models 1.0 and goes in 1.2: use acme.new"):
            registry.get("model", "acme.old")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.get("model", "acme.new")


@pytest.mark.parametrize(("since", "removal"), [("0.2", "0.2"), ("0.2.0", "0.2.5"), ("1.0", "0.9")])
def test_a_deprecation_lives_for_one_minor_release_at_least(since: str, removal: str) -> None:
    with pytest.raises(UsageError, match="one minor release"):
        Deprecation("old", since, removal, "use another")


def test_a_deprecation_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="what to do instead"):
        Deprecation("old", "0.1", "0.2", " ")


def test_one_whose_time_is_over_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    notice = Deprecation("old", "0.1", "0.3", "use another")
    for version, over in (("0.1.9", False), ("0.2.4", False), ("0.3", True), ("1.0", True)):
        monkeypatch.setattr("importlib.metadata.version", lambda name, version=version: version)
        assert notice.overdue is over
    assert notice in declared()


def test_nothing_of_the_sdk_outlives_its_removal() -> None:
    """Fails in the release that a deprecation names as its removal, until the thing is gone."""
    for module in pkgutil.walk_packages(affidavit.__path__, "affidavit."):
        if not module.name.endswith(("__main__", ".suites")):
            import_module(module.name)
    registered = [entry.deprecated for entry in bundled_registry().entries.values() if entry.deprecated is not None]
    assert [str(notice) for notice in {*declared(), *registered} if notice.overdue] == []
