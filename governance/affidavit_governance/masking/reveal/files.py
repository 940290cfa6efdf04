"""Revealing one file into another, as `affidavit reveal` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.plugins import source_for
from affidavit_governance.masking.operators.format_preserving import FormatPreserving
from affidavit_governance.masking.reveal.origins import History
from affidavit_governance.masking.surfaces.writers import check_target, file_writer

if TYPE_CHECKING:
    from affidavit.approver import Approver
    from affidavit.workspace import Workspace

MODE = 0o600
"""The new file holds personal data, so only its owner may read it."""


def reveal_file(
    workspace: Workspace,
    source: Path,
    target: Path,
    *,
    purpose: str,
    by: Approver,
    fields: Mapping[str, str] | None = None,
    table: str | None = None,
) -> dict[str, Any]:
    """Write `source` with originals to `target`, which appears whole or not at all.

    Parameters
    ----------
    fields
        Columns, each with its entity where the ledger does not know the rows, else with an empty text; None for all that can be revealed.
    table
        The name of the data set that the rows were masked in; default: the file's name.

    Returns
    -------
    dict
        ``rows``, ``columns`` and ``unreadable``: values whose subject's key was destroyed, by column.

    Raises
    ------
    UsageError
        `target` has an ending that cannot be written, or is the source itself.
    AffidavitError
        As `Workspace.reveal`.
    """
    check_target(target)
    if target.exists() and target.resolve() == source.resolve():
        raise UsageError("The revealed file would replace its source.", hint="Name another file.")
    name = table or source.name.split(".")[0]
    data = Dataset.from_arrow(source_for(source, workspace.registry).read(source), name=name)
    if table is None:
        _refuse_a_guess(workspace, data, fields)
    revealed: Dataset = workspace.reveal(data, purpose=purpose, by=by, fields=fields, table=name)
    with file_writer(target, "zstd", mode=MODE) as writer:
        writer.write(revealed.table)
    step = revealed.lineage[-1].parameters
    return {"rows": len(revealed), "columns": list(step["columns"]), "unreadable": dict(step["unreadable"])}


def _refuse_a_guess(workspace: Workspace, data: Dataset, fields: Mapping[str, str] | None) -> None:
    """What `ff1` bound to the name of the masked data set gives wrong values under the name of another file, and nobody would notice."""
    history = History.read(workspace.ledger, data.name)
    for column in () if history.columns else fields or data.schema.names:
        lines = [policy.fields[column] for policy in history.policies.values() if column in policy.fields]
        if any(line.name == FormatPreserving.name and not line.settings.get("namespace") for line in lines):
            raise UsageError(
                f"What 'ff1' made of column '{column}' is bound to the name of the data set that was masked, and nothing says that this was "
                f"'{data.name}'.",
                hint="Name it with table=, on the command line --table: of a masked file the name of its source, without the ending.",
            )
