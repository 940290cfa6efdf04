"""Deleting prediction lines when the policy's retention ends. Their evidence stays: it holds digests and counts, and every proof stays valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from affidavit_governance.audit.evidence import rfc3339
from affidavit_governance.audit.recovery import SEGMENTS


def present() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def delete_expired(workspace: Any, *, now: datetime | None = None) -> int:
    """Delete the stored lines of every journal segment that ended before ``retention.predictions``.

    Parameters
    ----------
    now
        The time to count from, in UTC; default: the present.

    Returns
    -------
    int
        Segments deleted.
    """
    files = workspace.store.files
    stored = {name.removeprefix(SEGMENTS) for name in files.list(SEGMENTS)}
    if not stored:
        return 0
    days = int(workspace.policy.retention.predictions.removesuffix("d"))
    limit = rfc3339((now or present()) - timedelta(days=days))
    deleted = 0
    for evidence in workspace.ledger.entries("predict"):
        digest = evidence.statement["subject"][0]["digest"]["sha256"]
        if digest in stored and evidence.predicate["journal"]["finished"] < limit:
            with workspace.store.write():  # held too by who replaces the file when keys are rotated, so that it does not come back
                files.delete(f"{SEGMENTS}{digest}")
            deleted += 1
    return deleted
