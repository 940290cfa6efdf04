"""One report for each bundled plugin: plugins register things of several kinds, and each kind's tests read the same report."""

from __future__ import annotations

from functools import cache

from affidavit.testing import Report, Result, check_plugin

report = cache(check_plugin)


def results_of(plugin: str, kind: str) -> list[Result]:
    """The results for what a plugin registers of one kind, in words: ``key provider``."""
    found: Report = report(plugin)
    return [result for result in found.results if result.subject.startswith(f"{kind} ")]
