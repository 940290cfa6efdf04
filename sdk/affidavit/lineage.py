"""Which data set a fingerprint names, by the evidence of a workspace."""

from __future__ import annotations

from affidavit.errors import UsageError
from affidavit.interfaces.governance import Ledger

SHORTEST = 12
"""Digits of a fingerprint that are enough to name a data set."""


def named_roots(ledger: Ledger, fingerprint: str) -> frozenset[str]:
    """The roots of the data set whose fingerprint begins with `fingerprint`.

    Raises
    ------
    UsageError
        It names no data set that was loaded here, or more than one.
    """
    found: dict[str, frozenset[str]] = {}
    for evidence in (*ledger.entries("load"), *ledger.entries("train")):
        if evidence.predicate["status"] == "done":
            roots = frozenset(evidence.predicate["details"]["roots"])
            declared = frozenset(evidence.predicate["details"].get("derived_from", ()))
            loaded = {subject["digest"]["sha256"] for subject in evidence.statement["subject"]} | (roots - declared)
            for digest in loaded if evidence.kind == "load" else ():
                found[digest] = found.get(digest, frozenset()) | roots
            for root in roots:
                found.setdefault(root, frozenset({root}))
    matching = {roots for digest, roots in found.items() if digest.startswith(fingerprint)} if len(fingerprint) >= SHORTEST else set()
    if len(matching) != 1:
        number = "no" if not matching else "more than one"
        raise UsageError(
            f"The fingerprint '{fingerprint[:64]}' names {number} data set of this workspace.",
            hint="Load the data set that these rows were made from first, and give its fingerprint: Dataset.fingerprint, or 'affidavit budget'.",
        )
    return matching.pop()
