"""Running the kit over an installed plugin: one call, one report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from itertools import count
from typing import Any

from packaging.utils import canonicalize_name

from affidavit.errors import AffidavitError, MissingExtra, PluginError, UsageError, nearest
from affidavit.plugins import PLUGIN_GROUP, PluginInfo, PluginManager, Registration
from affidavit.testing.catalogue import SUBJECTS
from affidavit.testing.checks import SECONDS, Check, chosen, known, run_checks, within
from affidavit.testing.isolation import prepare
from affidavit.testing.kinds.plugin import SECONDS as IMPORT_SECONDS
from affidavit.testing.kinds.plugin import PluginCase, PluginSubject
from affidavit.testing.process_state import put_back
from affidavit.testing.report import Outcome, Report, Result, Tier
from affidavit.testing.subjects import Case, spoken
from affidavit.trust import name_of

CASES_GROUP = "affidavit.conformance.v1"
"""Entry points by the name of a plugin, for how it is tried: a list of cases, or a function that gives one. Read by the kit alone."""


def check_plugin(
    plugin: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    cases: Iterable[Case] = (),
    seconds: float = SECONDS,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """Put an installed plugin through the kit.

    Parameters
    ----------
    plugin
        The distribution, or one entry point of the group ``affidavit.plugins.v1``.
    expected_failures
        Why a check may fail, by its name, or by ``registration:check`` for one registration alone. A check that then passes is a problem too.
    cases
        How registrations are tried, in the place of the cases that the plugin itself brings under ``affidavit.conformance.v1``.
    seconds
        What one check may take.
    report
        Called before each check with the number done, the number in all so far, and what comes.

    Raises
    ------
    UsageError
        No such plugin is installed, an expected failure names no check, or a case no registration.
    """
    expected = dict(expected_failures or {})
    known(expected)
    entries = _entries(plugin)
    given = list(cases)
    results: list[Result] = []

    def run(planned: Sequence[tuple[Check, Any]], total: int) -> None:
        numbers = count(len(results))

        def before(each: Check, subject: Any) -> None:
            report(next(numbers), total, f"{subject}, {each.name}")

        results.extend(run_checks(planned, expected=expected, seconds=seconds, before=before))

    prepare()
    limit = PluginCase(seconds=min(IMPORT_SECONDS, seconds / 2))
    modules = [PluginSubject(entry, entry.name, case=limit) for entry in entries]
    first = [(each, subject) for subject in modules for each in chosen("plugin")]
    run(first, len(first))
    failures, planned = _registrations(modules, given, seconds)
    if not failures:  # what was not loaded may have the name
        _all_meant(expected, [*entries, *(subject for _, subject in planned)])
    total = len(first) + len(planned)
    run(planned, total)
    return Report(plugin, (*failures, *results), len(failures) + total)


def _entries(plugin: str) -> list[metadata.EntryPoint]:
    installed = list(metadata.entry_points(group=PLUGIN_GROUP))
    wanted = canonicalize_name(plugin)
    found = [entry for entry in installed if entry.dist is not None and canonicalize_name(name_of(entry.dist)) == wanted]
    found = found or [entry for entry in installed if entry.name == plugin or entry.module.partition(".")[0] == plugin]
    if not found:
        names = sorted({name_of(entry.dist) for entry in installed if entry.dist is not None})
        raise UsageError(f"No plugin '{plugin}' is installed.", hint=f"Distributions with plugins: {', '.join(names)}.")
    return found


def _registrations(modules: Sequence[PluginSubject], given: Sequence[Case], seconds: float) -> tuple[list[Result], list[tuple[Check, Any]]]:
    """What could not be loaded, and the checks of everything that the plugins register."""
    failures: list[Result] = []
    loaded: list[tuple[PluginSubject, PluginManager, PluginInfo]] = []
    brought: list[Case] = []
    for subject in modules:
        manager, info, why = _loaded(subject)
        if info is None:
            failures.append(_failed(str(subject), "it_loads", f"what it registers was not tried: {why}"))
            continue
        loaded.append((subject, manager, info))
        try:
            brought += within(seconds, partial(_brought, subject.entry))
        except Exception as error:  # the plugin's own code
            failures.append(_failed(str(subject), "its_cases_load", f"{type(error).__name__}: {error}"))
    entries = [entry for _, _, info in loaded for entry in info.registrations]
    _all_known(given, entries)
    try:
        _all_known(brought, entries)
    except UsageError as error:
        failures.append(_failed(str(modules[0]), "its_cases_load", str(error)))
    planned: list[tuple[Check, Any]] = []
    for subject, manager, info in loaded:
        faults = subject.faults_of_paths(seconds=seconds)
        for entry in info.registrations:
            planned += _checks(manager, entry, _cases_of(entry, given) or _cases_of(entry, brought), faults.get(entry.path), failures)
    return failures, planned


def _loaded(subject: PluginSubject) -> tuple[PluginManager, PluginInfo | None, str]:
    """A manager that has loaded the plugin, and what it says of it or why it has not. What would harm this process is not loaded."""
    distribution, name = subject.entry.dist, subject.entry.name
    manager = PluginManager([str(distribution.name)] if distribution is not None else [])
    if subject.unfit:
        return manager, None, subject.unfit
    with put_back():
        manager.load_plugins()
    info = next((found for found in manager.plugins if found.name == name), None)
    return manager, info, next((failure.reason for failure in manager.failures if failure.name == name), "it was not loaded")


def _checks(manager: PluginManager, entry: Registration, cases: Sequence[Case], fault: str | None, failures: list[Result]) -> list[tuple[Check, Any]]:
    """The checks of one registration in each of its cases; none, and a failure more, where it cannot be imported."""
    try:
        if fault is not None:
            raise PluginError(fault)
        value = manager.registry.get(entry.kind, entry.name)
    except MissingExtra as error:
        # Not tried is no fault, but no badge either.
        failures.append(Result(spoken(entry.kind, entry.name), "it_is_imported", Tier.GOVERNANCE, Outcome.SKIPPED, str(error), 0.0))
        return []
    except AffidavitError as error:
        failures.append(_failed(spoken(entry.kind, entry.name), "it_is_imported", str(error)))
        return []
    kind = SUBJECTS.get(entry.kind)
    if kind is None:
        return []
    tried: Sequence[Case | None] = cases or [None]
    subjects = [kind(value, entry.name, entry.capabilities, case) for case in tried]
    return [(each, subject) for subject in subjects for each in chosen(entry.kind, entry.capabilities)]


def _failed(subject: str, check: str, why: str) -> Result:
    return Result(subject, check, Tier.API, Outcome.FAILED, why, 0.0)


def _brought(plugin: metadata.EntryPoint) -> list[Case]:
    """The cases that a plugin brings along: those of the entry point of its own name in its own distribution."""
    for entry in plugin.dist.entry_points if plugin.dist is not None else ():
        if entry.group == CASES_GROUP and entry.name == plugin.name:
            value = entry.load()
            cases = list(value() if callable(value) else value)
            if not all(isinstance(case, Case) for case in cases):
                raise PluginError(f"{entry.value} holds what is no case.", hint="Bring ModelCase(name=…) and its like.")
            return cases
    return []


def _cases_of(entry: Registration, cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if (case.kind, case.name) == (entry.kind, entry.name)]


def _all_meant(expected: Mapping[str, str], subjects: Iterable[Any]) -> None:
    """Raise UsageError for an expected failure of a registration that there is none of."""
    names = {subject.name for subject in subjects}
    for key in expected:
        name = key.rpartition(":")[0]
        if name and name not in names:
            raise UsageError(f"There is an expected failure of '{name}', of which no check runs.{nearest(name, names)}")


def _all_known(cases: Iterable[Case], entries: Sequence[Registration]) -> None:
    for case in cases:
        if (case.kind, case.name) not in {(entry.kind, entry.name) for entry in entries}:
            names = [entry.name for entry in entries if entry.kind == case.kind]
            hint = f"Registered: {', '.join(names) or 'none'}."
            raise UsageError(
                f"There is a case for {case.kind} '{case.name}', which the plugin does not register.{nearest(case.name, names)}", hint=hint
            )
