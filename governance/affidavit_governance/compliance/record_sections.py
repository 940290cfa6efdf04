"""The sections about what people and the system did: approvals, deployments, refusals, policy, evidence, verification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from affidavit.interfaces.governance import Evidence
from affidavit.policy import Policy
from affidavit_governance.compliance.book import Book, details, moment, stage
from affidavit_governance.compliance.figures import counted, digest, figure, none, prose, section, table, written
from affidavit_governance.compliance.markup import Child, Markup, tag


def approval_section(book: Book) -> Markup:
    """Who approved what, and which gates a promotion passed."""
    approvals = [
        [
            moment(e),
            details(e)["version"],
            details(e)["alias"],
            stage(e, "access").get("approver", e.predicate["actor"]["name"]),
            ", ".join(stage(e, "access").get("roles", ())),
            digest(e.predicate["actor"].get("key")),
            figure("signed", e),
        ]
        for e in book.done("approve")
    ]
    promotions: list[Child] = []
    for evidence in book.done("promote"):
        said = details(evidence)
        gates = stage(evidence, "policy").get("gates") or []
        promotions.append(
            prose(
                tag("strong", said["version"]),
                " → ",
                tag("strong", said["alias"]),
                f" at {moment(evidence)}, by {evidence.predicate['actor']['name']}, with ",
                figure(len(gates), evidence),
                " gates passed.",
            )
        )
        promotions.append(table(("Policy line", "Figure", "Measured", "Bound", ""), [_gate(gate, evidence) for gate in gates]))
    return section(
        "approvals",
        "Approvals and promotions",
        table(("Time", "Version", "Alias", "Approved by", "Roles", "Key", ""), approvals) or none("Nobody has approved anything yet."),
        tag("h3", "Promotions") if promotions else None,
        promotions or none("No version was promoted."),
    )


def _gate(gate: Mapping[str, Any], evidence: Evidence) -> list[Child]:
    bounds = [f"{sign} {written(gate[key])}" for key, sign in (("min", "≥"), ("max", "≤"), ("bound", "≤")) if gate.get(key) is not None]
    return [
        tag("code", gate["line"]),
        gate.get("metric", "epsilon"),
        figure(gate.get("measured"), evidence),
        " ".join(bounds),
        tag("span", "✓ holds", class_="good"),
    ]


def deployment_section(book: Book) -> Markup:
    """Where versions answer, and how often they did."""
    deployments = [
        [moment(e), details(e)["version"], details(e)["target"], e.predicate["actor"]["name"], figure("started", e)] for e in book.done("deploy")
    ]
    journals = [_journal(e) for e in book.journals()]
    return section(
        "deployments",
        "Deployments and predictions",
        table(("Time", "Version", "Target", "By", ""), deployments) or none("Nothing was deployed."),
        tag("h3", "Predictions") if journals else None,
        table(("From", "To", "Versions", "Calls", "Rows", "Outcomes"), journals) or none("No predictions are sealed in the ledger yet."),
    )


def _journal(evidence: Evidence) -> list[Child]:
    said = evidence.predicate["journal"]
    outcomes = ", ".join(f"{written(count)} {status}" for status, count in sorted(said["outcomes"].items()))
    versions = ", ".join(f"{name or 'unregistered'} ({written(count)})" for name, count in sorted(said["versions"].items()))
    calls = sum(said["outcomes"].values())
    return [_time(said["started"]), _time(said["finished"]), versions, figure(calls, evidence), figure(said["rows"], evidence), outcomes]


def _time(text: str) -> str:
    return f"{text[:10]} {text[11:19]}"


def refusal_section(book: Book) -> Markup:
    """What governance refused, with the line of the policy, and what failed."""
    rows = []
    for evidence in book.stopped():
        predicate = evidence.predicate
        refusal = predicate.get("refusal") or {}
        rows.append(
            [
                moment(evidence),
                predicate["actor"]["name"],
                evidence.kind,
                tag("span", predicate["status"], class_="bad" if predicate["status"] == "refused" else "warn"),
                tag("code", refusal["line"]) if refusal.get("line") else (predicate.get("error") or "–"),
                figure(refusal.get("measured"), evidence),
                written(refusal.get("bound")),
                refusal.get("satisfy") or "",
            ]
        )
    head = ("Time", "Who", "Call", "Outcome", "Policy line or error", "Measured", "Bound", "What would satisfy it")
    return section("refusals", "Refusals and failures", table(head, rows, class_="log") or none("Nothing was refused, and nothing failed."))


def policy_section(book: Book, policy: Policy) -> Markup:
    """The policy in force, and under which policies the evidence was made."""
    made = Counter(e.predicate["policy"] for e in book.entries if "policy" in e.predicate)
    others = {name: count for name, count in made.items() if name != policy.digest}
    text = yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return section(
        "policy",
        "Policy in force",
        prose("Digest ", digest(policy.digest), ". "),
        tag(
            "p",
            f"Made under another policy: {counted(sum(others.values()), 'statement')}, under {', '.join(name[:12] for name in others)}.",
            class_="warning",
        )
        if others
        else None,
        tag("pre", text),
    )


def evidence_section(book: Book) -> Markup:
    """The rows that numbers point to."""
    announced = [e for e in book.entries if e.predicate.get("phase") == "intent"]
    rows = [_entry(e, book) for e in book.entries if e.predicate.get("phase") != "intent"]
    body = [tag("tr", [tag("td", cell) for cell in cells], id=name) for name, cells in rows]
    head = tag("thead", tag("tr", [tag("th", cell) for cell in ("Entry", "Kind", "Outcome", "Time", "Subject", "Leaf hash (RFC 6962)")]))
    return section(
        "evidence",
        "Evidence",
        prose(
            "Each statement is signed with the workspace's key and stands as one leaf in an append-only Merkle tree of "
            f"{written(len(book.entries))} entries. "
            f"{written(len(announced))} entries announce a call before it runs and are not listed."
        ),
        tag("div", tag("table", head, tag("tbody", body), class_="evidence"), class_="scroll") if rows else none("The ledger is empty."),
    )


def _entry(evidence: Evidence, book: Book) -> tuple[str, list[Child]]:
    subject = ", ".join(name for name in book.subjects(evidence) if not name.startswith("call:"))
    status = evidence.predicate.get("status") or "recorded"
    cells: list[Child] = [f"E{evidence.index}", evidence.kind, status, moment(evidence), subject or "–", tag("code", evidence.leaf_hash)]
    return f"E{evidence.index}", cells


def verify_section(verifier_key: str) -> Markup:
    """How an outsider checks all this."""
    return section(
        "verify",
        "How to verify",
        tag(
            "ol",
            tag(
                "li",
                "Ask the owner of the workspace for the bundle and, by another road, for the verifier key. It must be this one: ",
                tag("code", verifier_key, class_="key"),
            ),
            tag("li", "On any machine, without the data and without a network: ", tag("code", "pip install affidavit")),
            tag("li", tag("code", f'affidavit verify audit.zip --key "{verifier_key}"', class_="key")),
            tag(
                "li",
                "The command checks every signature and every leaf hash in the table above against the signed tree. ",
                "One changed byte makes it fail and name the file.",
            ),
        ),
        tag(
            "p",
            "This report is written from the ledger's evidence alone. What it says is as true as the statements that it cites; ",
            "the bundle proves that nobody changed them since.",
            class_="note",
        ),
    )
