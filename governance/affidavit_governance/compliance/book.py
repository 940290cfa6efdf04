"""The ledger as the report reads it: outcomes by kind, and the one model that the report is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from affidavit.interfaces.governance import Evidence

JsonObject = Mapping[str, Any]


@dataclass(slots=True)
class Book:
    """All evidence of one workspace, in order.

    Attributes
    ----------
    entries
        Everything in the ledger.
    model
        Digest of the model in focus: the latest promoted one, else the latest registered, else the latest trained; None where none was.
    """

    entries: list[Evidence]
    model: str | None = None
    _subjects: dict[int, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, entries: Iterable[Evidence]) -> Book:
        """Read a ledger's entries."""
        book = cls(list(entries))
        for kind in ("promote", "register", "train"):
            done = book.done(kind)
            if done:
                book.model = next(iter(book.subjects(done[-1]).values()), None)
                break
        return book

    def done(self, kind: str) -> list[Evidence]:
        """Successful outcomes of one kind."""
        return [e for e in self.entries if e.kind == kind and e.predicate.get("phase") == "outcome" and e.predicate.get("status") == "done"]

    def stopped(self) -> list[Evidence]:
        """Outcomes of calls that were refused, failed or interrupted."""
        return [e for e in self.entries if e.predicate.get("phase") == "outcome" and e.predicate.get("status") != "done"]

    def journals(self) -> list[Evidence]:
        """Sealed journals of predictions."""
        return [e for e in self.entries if "journal" in e.predicate]

    def subjects(self, evidence: Evidence) -> dict[str, str]:
        """What the evidence is about: names to digests."""
        if evidence.index not in self._subjects:
            self._subjects[evidence.index] = {item["name"]: item["digest"]["sha256"] for item in evidence.statement["subject"]}
        return self._subjects[evidence.index]

    def about(self, kind: str, digest: str | None = None) -> Evidence | None:
        """The latest successful evidence of `kind` about a digest (default: the model in focus)."""
        wanted = self.model if digest is None else digest
        found = [e for e in self.done(kind) if wanted in self.subjects(e).values() or wanted in e.predicate.get("inputs", {}).values()]
        if kind == "explain":  # of rows: a description of the whole model explains no prediction
            found = [e for e in found if details(e).get("scope", "rows") == "rows"]
        return found[-1] if found else None

    def version(self) -> str | None:
        """The registered name and number of the model in focus."""
        registered = self.about("register")
        return next(iter(self.subjects(registered)), None) if registered else None


def details(evidence: Evidence) -> JsonObject:
    """What the evidence says of its outcome."""
    value: JsonObject = evidence.predicate.get("details") or {}
    return value


def stage(evidence: Evidence | None, name: str) -> JsonObject:
    """What one governance stage says in the evidence."""
    value: JsonObject = (evidence.predicate.get("stages") or {}).get(name) or {} if evidence else {}
    return value


def moment(evidence: Evidence) -> str:
    """When it was recorded."""
    predicate = evidence.predicate
    text = str(predicate.get("finished") or predicate.get("recorded") or predicate.get("started") or "")
    return f"{text[:10]} {text[11:19]} UTC" if len(text) >= 19 else text
