"""The command for plugin authors: ``affidavit check-plugin``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from affidavit.cli.common import Json, print_json, print_table, progress
from affidavit.errors import UsageError


def check_plugin(
    plugin: Annotated[str, typer.Argument(help="An installed distribution with plugins, or one of its entry points.")],
    expected_failure: Annotated[list[str] | None, typer.Option(help="check=reason: a check that may fail, and why; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="What one check may take.")] = 60.0,
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML into this file.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show passed and skipped checks too.")] = False,
    as_json: Json = False,
) -> None:
    """Put an installed plugin through the conformance kit. Exit code 0: every required check ran and held."""
    from affidavit.store import write_atomic
    from affidavit.testing import Outcome
    from affidavit.testing.supervised import check_apart

    expected = {}
    for line in expected_failure or []:
        name, sign, reason = line.partition("=")
        if not sign:
            raise UsageError(f"'{line}' is no expected failure.", hint="Write check=reason.")
        expected[name.strip()] = reason.strip()
    if junit is not None:
        write_atomic(junit, b"")  # where it cannot be written, that is said before the checks and not after them
    with progress(f"Checking {plugin}") as told:
        report = check_apart(plugin, expected_failures=expected, seconds=seconds, report=lambda done, total, what: told(done, total))
    if junit is not None:
        write_atomic(junit, report.to_junit().encode())
    if as_json:
        print_json(report.to_json())
    else:
        quiet = () if everything else (Outcome.PASSED, Outcome.SKIPPED)
        rows = [[r.outcome, r.subject, r.check, r.tier, r.message] for r in report.results if r.outcome not in quiet]
        if rows:
            print_table(f"Checks of {plugin}", ["outcome", "what", "check", "tier", "message"], rows, whole=True)
        typer.echo(str(report).splitlines()[-1])
    sys.exit(0 if report.ok else 1)
