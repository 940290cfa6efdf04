"""The commands around personal data: masking a file or a query into another place, and saying what stands where."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from affidavit.cli.common import Json, open_workspace, print_json, print_table, progress
from affidavit.errors import UsageError
from affidavit.policy import MaskingPolicy, Policy

PolicyFile = Annotated[Path | None, typer.Option("--policy", help="The policy file; default: the workspace's policy, else detect and redact.")]
Query = Annotated[str | None, typer.Option("--query", help="What to read, where the source is a database: one SELECT statement.")]


def add_commands(app: typer.Typer) -> None:
    """Add ``mask`` and ``scan``."""
    app.command()(mask)
    app.command()(scan)


def mask(
    source: Annotated[str, typer.Argument(help="A file (CSV, Parquet, JSON lines, Arrow, .txt) or a database's URL.")],
    target: Annotated[str, typer.Argument(help="The masked file (.parquet, .csv, .jsonl, .arrow, .txt) or a database's URL.")],
    policy: PolicyFile = None,
    workspace: Annotated[str | None, typer.Option("--workspace", "-w", help="Take keys, and a policy where none is named, from here.")] = None,
    query: Query = None,
    table: Annotated[str | None, typer.Option("--table", help="The table to write, where the target is a database.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Let it take the place of a table that is there.")] = False,
    anonymise: Annotated[bool, typer.Option("--anonymise", help="Make quasi-identifiers coarser until the policy's release rule holds.")] = False,
    as_json: Json = False,
) -> None:
    """Find and mask personal data on the way from one place to another."""
    from affidavit.plugins import bundled_registry

    section = Policy.read(policy).masking if policy else None
    options: dict[str, Any] = {"query": query, "table": table, "replace": replace, "anonymise": anonymise}
    if workspace is None:
        sys.stderr.write("Pseudonyms use a key of this run only; name a --workspace to get the same ones again.\n")
        service = bundled_registry().get("service", "mask_file")
        with progress(_label(source)) as told:
            report = service(source, target, policy=section or MaskingPolicy(), key=secrets.token_bytes(32), progress=told, **options)
    else:
        with open_workspace(workspace) as opened, progress(_label(source)) as told:
            section = section or opened.policy.masking
            tools = opened.service("masking_tools")(opened, section)
            key = opened.keyring.derive("pseudonym")
            options |= {"tools": tools, "registry": opened.registry, "progress": told}
            report = opened.service("mask_file")(source, target, policy=section, key=key, **options)
    if as_json:
        print_json(report)
        return
    place = _place(target) if table is None else f"table {table}"
    if "findings" in report:
        print_table(f"{report['lines']} lines written to {place}", ["entity", "found"], [list(item) for item in report["findings"].items()])
        return
    rows = [
        [name, entry.get("entity") or "", entry.get("operator") or "found cells only", entry.get("cells", "")]
        for name, entry in report["columns"].items()
    ]
    if rows:
        print_table(f"{report['rows']} rows written to {place}", ["column", "entity", "operator", "cells masked"], rows)
    else:
        typer.echo(f"{report['rows']} rows written to {place}; no personal data were found in them.")
    if "release" in report:
        measured = [[name.replace("_", " "), _shown(value)] for name, value in report["release"].items()]
        print_table("Measured over the quasi-identifiers, for the policy's release rule", ["measure", "value"], measured)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def scan(
    source: Annotated[str, typer.Argument(help="A file (CSV, Parquet, JSON lines, Arrow, .txt) or a database's URL.")],
    threshold: Annotated[float | None, typer.Option(help="Score from which a finding counts, between 0 and 1; default: the policy's.")] = None,
    policy: PolicyFile = None,
    query: Query = None,
    fail_on_found: Annotated[bool, typer.Option("--fail-on-found", help="End with exit code 1 where anything is found.")] = False,
    as_json: Json = False,
) -> None:
    """Say what personal data stand where, without showing them."""
    from affidavit.plugins import load_service

    section = Policy.read(policy).masking if policy else MaskingPolicy()
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"A threshold lies between 0 and 1, and {threshold:g} does not.")
        section = section.model_copy(update={"threshold": threshold})
    with progress(_label(source)) as told:
        report = load_service("scan_source")(source, policy=section, query=query, progress=told).to_json()
    if as_json:
        print_json(report)
    else:
        _show(report)
    if fail_on_found and report["found"]:
        sys.exit(1)


def _show(report: dict[str, Any]) -> None:
    size = f"{report['rows']} rows" if "rows" in report else f"{report['characters']} characters"
    if not report["found"]:
        typer.echo(f"{report['source']}: nothing found in {size}.")
        return
    table = "rows" in report
    rows = [
        [
            *([found["column"]] if table else []),
            found["entity"],
            found["count"],
            *([f"{found['share']:.1%}"] if table else []),
            f"{found['score']:.2f}",
            "; ".join(found["evidence"]),
            "\n".join(found["examples"]),
        ]
        for found in report["found"]
    ]
    columns = [*(["column"] if table else []), "entity", "count", *(["share"] if table else []), "score", "evidence", "looks like"]
    print_table(f"{report['source']}: found in {size}", columns, rows)
    typer.echo("In all: " + ", ".join(f"{entity} {count}" for entity, count in report["totals"].items()))


def _place(target: str) -> str:
    return "the database" if "://" in target else target  # a URL may hold a password


def _label(source: str) -> str:
    return "database" if "://" in source else Path(source).name
