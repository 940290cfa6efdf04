"""Running the kit over an installed plugin: one call, one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from itertools import count
from typing import Any

from packaging.utils import canonicalize_name

from affidavit.errors import AffidavitError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.plugins import PLUGIN_GROUP, PluginInfo, PluginManager
from affidavit.testing import capability_checks, governance_checks, model_checks, plugin_checks, quality_checks  # they enter their checks
from affidavit.testing.checks import SECONDS, Check, chosen, known, run_checks
from affidavit.testing.model_subject import ModelSubject
from affidavit.testing.plugin_checks import PluginSubject
from affidavit.testing.report import Outcome, Report, Result, Tier

ENTERED = (plugin_checks, model_checks, capability_checks, governance_checks, quality_checks)
"""The modules whose checks the kit knows."""


def check_plugin(
    plugin: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    samples: Mapping[str, Dataset] | None = None,
    seconds: float = SECONDS,
    report: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Report:
    """Put an installed plugin through the kit.

    Parameters
    ----------
    plugin
        The distribution, or one entry point of the group ``affidavit.plugins.v1``.
    expected_failures
        Why a check may fail, by its name. A check that then passes is a problem too.
    params
        With which a model type is made, by its name: what keeps its training short.
    samples
        A data set that a model type learns from, by its name, where none of the kit's own fits.
    seconds
        What one check may take.
    report
        Called before each check with the number done, the number in all, and what comes.

    Raises
    ------
    UsageError
        No such plugin is installed, or an expected failure names no check.
    """
    expected = dict(expected_failures or {})
    known(expected)
    entries = _entries(plugin)
    planned: list[tuple[Check, Any]] = [(each, PluginSubject(entry)) for entry in entries for each in chosen("plugin")]
    failures: list[Result] = []
    for entry in entries:
        manager = PluginManager([str(entry.dist.name)] if entry.dist is not None else [])
        manager.load_plugins()
        info = next((found for found in manager.plugins if found.name == entry.name), None)
        if info is None:
            why = next((failure.reason for failure in manager.failures if failure.name == entry.name), "it was not loaded")
            failures.append(Result(f"plugin {entry.name}", "it_loads", Tier.API, Outcome.FAILED, why, 0.0))
        else:
            planned += _models(manager, info, params or {}, samples or {}, failures)
    done = count()
    results = run_checks(
        planned, expected=expected, seconds=seconds, before=lambda each, subject: report(next(done), len(planned), f"{subject}, {each.name}")
    )
    return Report(plugin, (*failures, *results), len(failures) + len(planned))


def _entries(plugin: str) -> list[metadata.EntryPoint]:
    installed = list(metadata.entry_points(group=PLUGIN_GROUP))
    wanted = canonicalize_name(plugin)
    found = [entry for entry in installed if entry.dist is not None and canonicalize_name(entry.dist.name) == wanted]
    found = found or [entry for entry in installed if entry.name == plugin or entry.module.partition(".")[0] == plugin]
    if not found:
        names = sorted({entry.dist.name for entry in installed if entry.dist is not None})
        raise UsageError(f"No plugin '{plugin}' is installed.", hint=f"Distributions with plugins: {', '.join(names)}.")
    return found


def _models(
    manager: PluginManager, info: PluginInfo, params: Mapping[str, Mapping[str, Any]], samples: Mapping[str, Dataset], failures: list[Result]
) -> list[tuple[Check, Any]]:
    """The checks of each model type that a plugin registers."""
    planned: list[tuple[Check, Any]] = []
    for entry in info.registrations:
        if entry.kind != "model":
            continue
        try:
            model = manager.registry.get("model", entry.name)
        except AffidavitError as error:
            failures.append(Result(f"model {entry.name}", "it_is_imported", Tier.API, Outcome.FAILED, str(error), 0.0))
            continue
        subject = ModelSubject(model, entry.name, entry.capabilities, params.get(entry.name, {}), samples.get(entry.name))
        planned += [(each, subject) for each in chosen("model", entry.capabilities)]
    return planned
