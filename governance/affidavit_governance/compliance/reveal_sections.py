"""The section about originals: who saw them again and what for, and which subjects' keys were destroyed."""

from __future__ import annotations

from affidavit.interfaces.governance import Evidence
from affidavit_governance.compliance.book import Book, details, moment, stage
from affidavit_governance.compliance.figures import digest, figure, none, section, table
from affidavit_governance.compliance.markup import Child, Markup, tag


def reveal_section(book: Book) -> Markup:
    """Who saw originals again, column by column, and whose keys were destroyed."""
    reveals = [row for evidence in book.done("reveal") for row in _reveal(evidence)]
    shreds = [_shred(evidence) for evidence in book.done("shred")]
    seen = ("Time", "Who", "Roles", "Purpose", "Data set", "Column", "Entity", "Values", "Key destroyed", "Policy line")
    destroyed = ("Time", "Asked by", "Subject (keyed hash)", "Vault rows emptied", "Reason")
    return section(
        "originals",
        "Originals revealed and keys destroyed",
        table(seen, reveals, class_="log") or none("Nobody has seen originals again."),
        tag("h3", "Destroyed keys") if shreds else None,
        table(destroyed, shreds, class_="log"),
    )


def _reveal(evidence: Evidence) -> list[list[Child]]:
    said, people = details(evidence), stage(evidence, "access").get("people") or []
    start: list[Child] = [moment(evidence), _names(people), ", ".join(role for person in people for role in person["roles"]), said["purpose"]]
    rows = said["revealed"] or [{"field": "", "entity": None, "values": 0, "unreadable": 0, "line": "–"}]
    return [
        [
            *start,
            said["table"] or "a text",
            each["field"] or "–",
            each["entity"] or "–",
            figure(each["values"], evidence),
            figure(each["unreadable"], evidence),
            tag("code", each["line"]),
        ]
        for each in rows
    ]


def _shred(evidence: Evidence) -> list[Child]:
    said = details(evidence)
    subject = evidence.statement["subject"][0]["digest"]["sha256"]
    when = f"{moment(evidence)} (again)" if said["already"] else moment(evidence)
    return [when, _names(stage(evidence, "access").get("people") or []), digest(subject), figure(said["vault_rows"], evidence), said["reason"]]


def _names(people: list[dict[str, str]]) -> str:
    return ", ".join(person["name"] for person in people)
