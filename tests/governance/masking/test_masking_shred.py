"""Crypto-shredding: what was sealed with a destroyed key is unreadable, every proof stays valid, and a receipt says what was done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from affidavit.approver import Approver
from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.workspace import Workspace
from affidavit_governance.access.roster import signature_holds
from affidavit_governance.masking.reveal.tables import subject_keys, vault

PURPOSE = "care"
POLICY: dict[str, Any] = {
    "masking": {
        "fields": {
            "patient": "keep",
            "diagnosis": {"vault": {"subject": "patient"}},
            "phone": {"token": {"subject": "patient"}},
            "email": "token",
        },
        "reveal": [{"roles": ["doctor"], "purposes": [PURPOSE], "until": "2099-12-31"}],
    },
    "approvals": {"shred": {"count": 1, "roles": ["privacy"]}},
}
ROWS = {
    "patient": ["p1", "p2", "p1", "p3"],
    "diagnosis": ["planted asthma", "planted asthma", "planted gout", None],
    "phone": ["+49 30 23125771", "+49 30 23125772", "+49 30 23125771", "+49 30 23125773"],
    "email": ["a@planted.example", "b@planted.example", "a@planted.example", None],
}


class Clinic:
    def __init__(self, location: str | Path, folder: Path, policy: dict[str, Any] = POLICY) -> None:
        self.workspace = Workspace(location, policy=policy, actor="dora")
        self.doctor, self.officer = (Approver.create(name, folder / f"{name}.pem") for name in ("dan", "olga"))
        self.workspace.enrol(self.doctor, roles=["doctor"])
        self.workspace.enrol(self.officer, roles=["privacy"])
        self.masked: Dataset = self.workspace.load(pa.table(ROWS), name="patients")

    def reveal(self) -> dict[str, list[Any]]:
        shown: Dataset = self.workspace.reveal(self.masked, purpose=PURPOSE, by=self.doctor)
        return {name: shown.to_list(name) for name in ROWS}

    def shred(self, subject: str = "p1", reason: str = "erasure request 2031", **options: Any) -> Any:
        return self.workspace.shred(subject, reason=reason, **{"by": self.officer, **options})

    def last(self) -> dict[str, Any]:
        return dict([e for e in self.workspace.ledger.entries("shred") if e.predicate["phase"] == "outcome"][-1].predicate)


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(tmp_path / "ws", tmp_path)
    yield made
    made.workspace.close()


def test_what_was_sealed_for_the_subject_is_gone_and_all_else_stays(store_location: str, tmp_path: Path) -> None:
    clinic = Clinic(store_location, tmp_path)
    assert clinic.reveal() == ROWS
    receipt = clinic.shred()
    assert (receipt.already, receipt.vault_rows) == (False, 2)
    shown = clinic.reveal()
    assert shown["diagnosis"] == [None, "planted asthma", None, None]
    assert shown["phone"] == [None, "+49 30 23125772", None, "+49 30 23125773"]
    assert shown["email"] == ROWS["email"], "a token without a subject does not know whose it is"
    outcome = [e.predicate for e in clinic.workspace.ledger.entries("reveal") if e.predicate["phase"] == "outcome"][-1]
    assert {each["field"]: each["unreadable"] for each in outcome["details"]["revealed"]} == {"email": 0, "diagnosis": 2, "phone": 2}
    clinic.workspace.close()


def test_nothing_new_is_sealed_for_a_shredded_subject(clinic: Clinic) -> None:
    clinic.shred()
    with pytest.raises(Refused, match="key of a subject was destroyed"):
        clinic.workspace.load(pa.table(ROWS), name="patients")


def test_every_proof_holds_before_and_after(clinic: Clinic, tmp_path: Path) -> None:
    verify, key = clinic.workspace.service("verify"), clinic.workspace.verifier_key
    assert verify(clinic.workspace.bundle(tmp_path / "before.zip"), key).ok
    clinic.shred()
    after = verify(clinic.workspace.bundle(tmp_path / "after.zip"), key)
    assert after.ok
    assert verify(tmp_path / "before.zip", key).ok
    assert after.counts["kinds"]["shred"] == 2


def test_the_receipt_names_the_subject_by_a_keyed_hash_and_the_evidence_says_the_same(clinic: Clinic, tmp_path: Path) -> None:
    receipt = clinic.shred()
    written = json.loads(receipt.write(tmp_path / "receipt.json").read_text())
    assert written == {"version": 1, **{name: getattr(receipt, name) for name in written if name != "version"}}
    said = clinic.last()
    assert said["call"] == receipt.call
    assert said["details"] == {
        "destroyed": receipt.destroyed,
        "already": False,
        "vault_rows": 2,
        "storage": "overwritten",
        "reason": "erasure request 2031",
    }
    (evidence,) = [e for e in clinic.workspace.ledger.entries("shred") if e.predicate["status"] == "done"]
    assert evidence.statement["subject"] == [{"name": "subject", "digest": {"sha256": receipt.subject}}]
    (person,) = said["stages"]["access"]["people"]
    message = b"affidavit shred v1\n" + json.dumps([said["workspace"], said["call"], receipt.subject, said["details"]["reason"]]).encode() + b"\n"
    assert signature_holds(clinic.officer.public_key, bytes.fromhex(person["signature"]), message)
    assert '"p1"' not in json.dumps([e.statement for e in clinic.workspace.ledger.entries("shred")])


def test_shredding_twice_says_so_and_keeps_the_first_time(clinic: Clinic) -> None:
    first, second = clinic.shred(), clinic.shred()
    assert (second.already, second.vault_rows, second.destroyed, second.subject) == (True, 0, first.destroyed, first.subject)


def test_a_shred_that_was_cut_short_is_finished_by_the_next(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    import affidavit_governance.masking.reveal.shredding as shredding

    def die(store: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shredding, "erase", die)
        with pytest.raises(KeyboardInterrupt):
            clinic.shred()
    assert clinic.last()["status"] == "interrupted"
    assert clinic.reveal()["phone"][0] is None
    assert clinic.shred().already


def test_an_unknown_subject_is_said_without_the_id_or_others(clinic: Clinic) -> None:
    with pytest.raises(UsageError, match="no key in this workspace") as caught:
        clinic.shred("jana.planted")
    assert "jana" not in str(caught.value)
    assert "p1" not in str(caught.value)
    assert clinic.last()["status"] == "failed"
    assert "jana" not in json.dumps([e.statement for e in clinic.workspace.ledger.entries()])


@pytest.mark.parametrize(("subject", "reason"), [("", "x"), ("p1", " ")])
def test_a_subject_and_a_reason_are_needed(clinic: Clinic, subject: str, reason: str) -> None:
    with pytest.raises(UsageError, match="subject to shred|needs a reason"):
        clinic.shred(subject, reason)


def test_a_reason_with_personal_data_is_refused_before_anything_is_destroyed(clinic: Clinic) -> None:
    with pytest.raises(InvalidInput, match="reason holds personal data"):
        clinic.shred(reason="asked by jana.planted@example.org")
    assert clinic.reveal() == ROWS
    assert "jana" not in json.dumps([e.statement for e in clinic.workspace.ledger.entries()])


# -- who may --------------------------------------------------------------------------------------------------------------------------------


def refused(clinic: Clinic, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        clinic.shred(**options)
    outcome = clinic.last()
    assert (outcome["status"], outcome["refusal"]["line"]) == ("refused", "approvals.shred")
    assert clinic.reveal() == ROWS, "something was destroyed"
    return caught.value


def test_without_a_line_in_the_policy_nobody_destroys_a_key(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path / "ws", tmp_path, {"masking": POLICY["masking"]})
    assert "lets nobody destroy" in refused(clinic).message
    clinic.workspace.close()


def test_the_role_and_a_signature_are_needed(clinic: Clinic, tmp_path: Path) -> None:
    assert refused(clinic, by=None).measured == 0
    assert "roles privacy" in str(refused(clinic, by=clinic.doctor).satisfy)
    assert "not enrolled" in refused(clinic, by=Approver.create("olga", tmp_path / "stranger.pem")).message


def test_a_count_of_two_takes_two_people(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path / "ws", tmp_path, {**POLICY, "approvals": {"shred": {"count": 2, "roles": ["privacy"]}}})
    assert refused(clinic).measured == 1
    assert refused(clinic, by=[clinic.officer, clinic.officer]).measured == 1
    assert not clinic.shred(by=[clinic.officer, clinic.doctor]).already
    clinic.workspace.close()


def test_the_line_for_shredding_guards_no_alias(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path / "ws", tmp_path, {**POLICY, "explain": {"required": False}})
    table = pa.table({**{name: values * 10 for name, values in ROWS.items()}, "x": [float(n % 7) for n in range(40)], "y": ["a", "b"] * 20})
    model = clinic.workspace.train("tabular.logistic", clinic.workspace.load(table, target="y", name="tiny").select(["x", "y"]))
    with clinic.workspace.deploy(clinic.workspace.register(model, "tiny")) as endpoint:
        assert endpoint is not None
    clinic.workspace.close()


def test_the_service_behind_the_call_answers_to_nobody(clinic: Clinic) -> None:
    from affidavit.reveal import ShredCall

    call = ShredCall(clinic.workspace, clinic.workspace.actor, subject="p1", name="0" * 64, reason="none", people=[clinic.officer])
    with pytest.raises(Refused, match="outside a governed call"):
        clinic.workspace.service("shred")(call)
    assert clinic.reveal() == ROWS


# -- the files ------------------------------------------------------------------------------------------------------------------------------


def test_the_destroyed_key_and_values_are_in_no_file_of_the_workspace(clinic: Clinic, tmp_path: Path) -> None:
    with clinic.workspace.store.read() as connection:
        sealed = {bytes(row.sealed) for row in connection.execute(sa.select(subject_keys.c.sealed))}
        values = {bytes(row.sealed) for row in connection.execute(sa.select(vault.c.sealed))}
    assert clinic.shred().storage == "overwritten"
    content = b"".join(path.read_bytes() for path in (tmp_path / "ws").rglob("*") if path.is_file())
    assert sorted(key in content for key in sealed) == [False, True, True]
    assert sorted(value in content for value in values) == [False, False, True]
    assert b"planted" not in content
