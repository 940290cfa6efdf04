"""The verifier checks the signatures under reveals and destroyed keys again, from the evidence alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from affidavit.approver import Approver
from affidavit.errors import IntegrityError
from affidavit.workspace import Workspace
from affidavit_governance.audit.signers import check_signers

Statements = list[tuple[str, dict[str, Any]]]
POLICY: dict[str, Any] = {
    "masking": {
        "fields": {"who": "keep", "email": {"token": {"subject": "who"}}},
        "reveal": [{"roles": ["fraud"], "purposes": ["fraud"], "until": "2099-12-31"}],
    },
    "approvals": {"shred": {"count": 2}},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Statements:
    """The statements of a workspace in which somebody revealed and two people shredded; and its bundle beside it."""
    folder = tmp_path_factory.mktemp("signers")
    with Workspace(folder / "ws", policy=POLICY, actor="dora") as workspace:
        people = [Approver.create(name, folder / f"{name}.pem") for name in ("fay", "olga")]
        for person in people:
            workspace.enrol(person, roles=["fraud"])
        masked = workspace.load(pa.table({"who": ["a", "b"], "email": ["a@example.org", None]}), name="t")
        workspace.reveal(masked, fields={"email": "EMAIL_ADDRESS"}, purpose="fraud", by=people[0])
        workspace.shred("a", reason="asked", by=people)
        report = workspace.service("verify")(workspace.bundle(folder / "audit.zip"), workspace.verifier_key)
        assert "1 calls of kind 'reveal' and 1 calls of kind 'shred' are signed" in str(report)
        return [(e.kind, copy.deepcopy(dict(e.statement))) for e in workspace.ledger.entries()]


def test_what_was_signed_by_enrolled_people_holds(told: Statements) -> None:
    assert check_signers(told) == {"reveal": 1, "shred": 1}
    assert not check_signers([])


def outcome(statements: Statements, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for k, s in statements if k == kind and s["predicate"].get("status") == "done")["predicate"]
    return found


CHANGES: dict[str, tuple[Callable[[Statements], object], str]] = {
    "purpose": (lambda s: outcome(s, "reveal")["details"].update(purpose="other"), "not that person's"),
    "fields": (lambda s: outcome(s, "reveal")["details"].update(fields=["who"]), "not that person's"),
    "entities": (lambda s: outcome(s, "reveal")["details"].update(entities={}), "not that person's"),
    "rows": (lambda s: outcome(s, "reveal")["inputs"].update(dataset="0" * 64), "not that person's"),
    "call": (lambda s: outcome(s, "shred").update(call="0" * 32), "not that person's"),
    "reason": (lambda s: outcome(s, "shred")["details"].update(reason="other"), "not that person's"),
    "person": (lambda s: outcome(s, "reveal")["stages"]["access"]["people"][0].update(key="0" * 64), "not enrolled before"),
    "roles": (lambda s: outcome(s, "reveal")["stages"]["access"]["people"][0].update(roles=["boss"]), "not enrolled before"),
    "nobody": (lambda s: outcome(s, "shred")["stages"]["access"].update(people=[]), "signed by nobody"),
    "silence": (lambda s: outcome(s, "shred")["stages"].pop("access"), "does not say who"),
    "enrolment": (lambda s: s.__setitem__(slice(None), [e for e in s if e[0] != "enrol"]), "not enrolled before"),
    "order": (lambda s: s.sort(key=lambda entry: entry[0] == "enrol"), "not enrolled before"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_is_found(told: Statements, change: str, tmp_path: Path) -> None:
    changed = copy.deepcopy(told)
    alter, says = CHANGES[change]
    alter(changed)
    with pytest.raises(IntegrityError, match=rf"evidence/\d+\.json .*{says}"):
        check_signers(changed)
