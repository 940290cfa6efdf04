"""Checks of a source inside a workspace: that governance sees, masks and records what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from affidavit.errors import AffidavitError
from affidavit.plugins import source_for
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.source.subject import SourceSubject
from affidavit.testing.report import Tier
from affidavit.testing.within import PLANTED, governed, in_the_clear
from affidavit.workspace import Workspace


@check("source", Tier.GOVERNANCE)
def a_load_leaves_one_intent_and_one_outcome(subject: SourceSubject) -> None:
    """A load leaves an intent and an outcome in the ledger, and so does one that fails for an unknown option."""
    with _loading(subject, subject.table) as (workspace, source):
        workspace.load(source, **subject.case.options)
        try:
            workspace.load(source, **subject.case.options, surely_no_such_option=1)
        except AffidavitError:
            pass
        else:
            raise CheckFailed("a load with an unknown option went through: refuse it with UsageError inside a workspace as well.")
        entries = [entry.predicate for entry in workspace.ledger.entries("load")]
    intents = [entry["call"] for entry in entries if entry["phase"] == "intent"]
    status = {entry["call"]: entry["status"] for entry in entries if entry["phase"] == "outcome"}
    if len(intents) != 2 or [status.get(call) for call in intents] != ["done", "failed"]:
        raise CheckFailed(f"a load and a failing one left {len(intents)} intents, and the outcomes {', '.join(status.values()) or 'none'}.")


@check("source", Tier.GOVERNANCE)
def personal_data_are_masked_as_they_are_loaded(subject: SourceSubject) -> None:
    """Planted personal data are found and masked however it reads, and stand neither in the data set nor in the workspace's folder."""
    rows = subject.table.num_rows
    contact = pa.array([PLANTED[row % len(PLANTED)] for row in range(rows)])
    note = pa.array([f"ask {PLANTED[row % len(PLANTED)]} about the rest of it" for row in range(rows)])
    table = subject.table.append_column("contact", contact).append_column("note", note)
    with _loading(subject, table) as (workspace, source):
        expected = workspace.load(table).table.select(["contact", "note"])
        for way in subject.ways:
            try:
                data = workspace.load(source, **way)
            except AffidavitError as error:
                raise CheckFailed(f"a load of rows with personal data raised {type(error).__name__}: {error}") from error
            if any(value in str(data.table.to_pydict()) or value in str(data.table.schema) for value in PLANTED):
                raise CheckFailed("planted values stand in the loaded rows.")
            if data.table.select(["contact", "note"]).to_pydict() != expected.to_pydict():
                raise CheckFailed("personal data are masked otherwise than those of the same rows in memory: give text as it was written.")
        if in_the_clear(workspace, PLANTED):
            raise CheckFailed("planted values stand in the workspace's folder.")


@check("source", Tier.GOVERNANCE)
def rows_have_the_same_root_as_from_memory(subject: SourceSubject) -> None:
    """Numbers and text have the fingerprint that they have as a frame, so that a privacy budget follows them whatever they are read from."""
    kept = [name for name in subject.table.column_names if not pa.types.is_boolean(subject.table.column(name).type)]
    table = subject.table.select(kept)
    with _loading(subject, table) as (workspace, source):
        expected = workspace.load(table).roots
        for way in subject.ways:
            data = workspace.load(source, **way)
            if data.roots != expected:
                types = ", ".join(f"{name} {kind}" for name, kind in zip(data.table.schema.names, data.table.schema.types, strict=True))
                raise CheckFailed(f"the rows have another fingerprint than the same rows in memory, and so another budget. Read as: {types}.")
            if [step.operation for step in data.lineage] != ["mask"]:
                raise CheckFailed("the lineage of loaded rows is not the one step of masking.")


@contextmanager
def _loading(subject: SourceSubject, table: pa.Table) -> Iterator[tuple[Workspace, Any]]:
    """A workspace and what to load in it."""
    with subject.written(table) as (source, _), governed(subject) as workspace:
        if type(source_for(source, workspace.registry)) is not subject.value:
            raise Skip("another source reads the same: see the check 'no_bundled_source_reads_the_same'")
        yield workspace, source
