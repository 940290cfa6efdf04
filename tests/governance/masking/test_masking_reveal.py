"""Revealing: refused unless a rule covers role, purpose, day, column and entity; recorded without plaintext; never silently passed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affidavit.approver import Approver
from affidavit.errors import IntegrityError, InvalidInput, PluginError, Refused, UsageError
from affidavit.interfaces.dataset import Dataset, Lineage
from affidavit.reveal import RevealCall
from affidavit.workspace import Workspace
from affidavit_governance.access.roster import signature_holds

FIELDS: dict[str, Any] = {"email": "token", "ssn": "vault", "account": "ff1", "city": "pseudonym"}
RULE: dict[str, Any] = {"roles": ["fraud"], "purposes": ["fraud-investigation"], "until": "2099-12-31"}
PURPOSE = "fraud-investigation"
ROWS = {
    "email": ["jana.planted@example.org", "piet.planted@example.org", None, "jana.planted@example.org"],
    "ssn": ["078-05-1120", "219-09-9999", "078-05-1121", None],
    "account": ["0034567890", "9934567891", "1134567892", "2234567893"],
    "city": ["Berlin", "Ulm", "Bonn", "Ulm"],
    "note": ["write to jana.planted@example.org", "nothing", "call +49 30 23125777 or piet.planted@example.org!", None],
    "amount": [1.0, 2.0, 3.0, 4.0],
}


def policy(*rules: dict[str, Any], **masking: Any) -> dict[str, Any]:
    return {"masking": {"fields": FIELDS, "entities": {"EMAIL_ADDRESS": "token"}, "reveal": list(rules), **masking}}


class Desk:
    """A workspace with customers in it, and Fay, who investigates fraud."""

    def __init__(self, folder: Path, rules: dict[str, Any]) -> None:
        self.folder = folder
        self.workspace = Workspace(folder / "ws", policy=rules, actor="dora")
        key = folder / "fay.pem"
        self.fay = Approver.read("fay", key) if key.exists() else Approver.create("fay", key)
        self.workspace.enrol(self.fay, roles=["fraud", "staff"])

    def load(self, **columns: Any) -> Dataset:
        return self.workspace.load(pa.table(columns or ROWS), name="customers")

    def reveal(self, data: Any, **options: Any) -> Any:
        return self.workspace.reveal(data, **{"purpose": PURPOSE, "by": self.fay, **options})

    def under(self, rules: dict[str, Any]) -> Desk:
        self.workspace.close()
        return Desk(self.folder, rules)

    def last(self) -> dict[str, Any]:
        return dict([e for e in self.workspace.ledger.entries("reveal") if e.predicate["phase"] == "outcome"][-1].predicate)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, policy(RULE))
    yield made
    made.workspace.close()


# -- what comes back ------------------------------------------------------------------------------------------------------------------------


def test_a_table_comes_back_as_it_was(desk: Desk) -> None:
    masked = desk.load()
    revealed = desk.reveal(masked, fields=["email", "ssn", "account"])
    for name in ("email", "ssn", "account"):
        assert masked.to_list(name) != ROWS[name]
        assert revealed.to_list(name) == ROWS[name]
        assert revealed.schema[name].masked is None
    assert revealed.to_list("city") == masked.to_list("city")
    assert revealed.schema["city"].masked == "pseudonym"


def test_without_fields_everything_that_can_be_undone_is(desk: Desk) -> None:
    revealed = desk.reveal(desk.load())
    assert {name for name in ROWS if revealed.to_list(name) == ROWS[name]} == {"email", "ssn", "account", "amount"}
    assert revealed.to_list("note")[0] == "write to jana.planted@example.org"
    assert revealed.to_list("note")[2] == "call <PHONE_NUMBER> or piet.planted@example.org!"


def test_rows_keep_their_originals_through_filters_and_selections(desk: Desk) -> None:
    part = desk.load().filter([False, True, True, False]).select(["amount", "account", "email"])
    assert desk.reveal(part).to_list("account") == ROWS["account"][1:3]


def test_values_without_their_table_need_only_its_name(desk: Desk) -> None:
    masked = desk.load()
    for name in ("email", "ssn", "account"):
        assert desk.reveal(masked.to_list(name), fields=name, table="customers") == ROWS[name]
    assert desk.reveal(masked.column("email"), fields="email", table="customers") == ROWS["email"]
    assert desk.reveal(masked.to_pandas(), fields=["account"], table="customers").to_list("account") == ROWS["account"]
    with pytest.raises(UsageError, match="need the name of their column"):
        desk.reveal(["tok1_x"])


def test_tokens_inside_a_text_come_back_and_all_else_stays(desk: Desk) -> None:
    note = desk.load().to_list("note")[2]
    strange = f"({note}) tok1_aaaaaaaaaaaaaaaaaaaaaaaaaa vlt1_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa tok1_short"
    assert desk.workspace.reveal_text(strange, purpose=PURPOSE, by=desk.fay) == strange.replace(note, str(ROWS["note"][2])).replace(
        "+49 30 23125777", "<PHONE_NUMBER>"
    )
    assert desk.workspace.reveal_text("nothing here", purpose=PURPOSE, by=desk.fay) == "nothing here"
    assert desk.last()["details"]["revealed"] == []


def test_a_streamed_data_set_is_revealed(desk: Desk, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table(ROWS), tmp_path / "customers.parquet")
    masked = desk.workspace.load(tmp_path / "customers.parquet", stream=True)
    assert masked.streamed
    assert desk.reveal(masked, fields="email").to_list("email") == ROWS["email"]


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(texts | st.none(), texts | st.none(), st.from_regex(r"[0-9]{6,20}", fullmatch=True) | st.none()), min_size=1, max_size=8))
def test_revealing_what_was_masked_gives_the_same_table(desk: Desk, rows: list[tuple[Any, ...]]) -> None:
    columns = {name: pa.array(values, pa.string()) for name, values in zip(("email", "ssn", "account"), zip(*rows, strict=True), strict=True)}
    whole = pa.table({**columns, "city": [str(number) for number in range(len(rows))]})
    masked = desk.workspace.load(whole, name="any", fields={name: {"type": "text"} for name in columns})
    revealed = desk.reveal(masked, fields=list(columns))
    assert revealed.table.select(list(columns)).to_pydict() == whole.select(list(columns)).to_pydict()


def test_older_data_are_revealed_as_the_policy_masked_them_then(desk: Desk) -> None:
    masked = desk.load()
    changed = desk.under({"masking": {"fields": {"email": "redact", "account": {"ff1": {"alphabet": "0123456789abcdef"}}}, "reveal": [RULE]}})
    revealed = changed.reveal(masked, fields=["email", "account"])
    assert revealed.to_list("email") == ROWS["email"]
    assert revealed.to_list("account") == ROWS["account"]
    changed.workspace.close()


def test_a_column_masked_in_two_ways_needs_the_data_that_say_which(desk: Desk) -> None:
    masked = desk.load()
    changed = desk.under(policy(RULE, fields={"account": {"ff1": {"namespace": "accounts"}}}))
    again = changed.load()
    assert changed.reveal(masked, fields="account").to_list("account") == ROWS["account"]
    assert changed.reveal(again, fields="account").to_list("account") == ROWS["account"]
    with pytest.raises(UsageError, match="masked in 2 ways"):
        changed.reveal(again.to_list("account"), fields="account", table="customers")
    changed.workspace.close()


# -- who may --------------------------------------------------------------------------------------------------------------------------------


def refused(desk: Desk, data: Any, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        desk.reveal(data, **options)
    outcome = desk.last()
    assert outcome["status"] == "refused"
    assert outcome["refusal"]["line"] == caught.value.line
    assert outcome["details"] == {}
    return caught.value


def test_without_a_rule_nobody_reveals(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy())
    error = refused(desk, desk.load(), fields="email")
    assert error.line == "masking.reveal"
    assert "'fay' may not reveal column 'email'" in error.message
    assert error.satisfy is not None
    desk.workspace.close()


@pytest.mark.parametrize(
    ("rule", "line", "says"),
    [
        ({"roles": ["auditor", "court"]}, "masking.reveal[0].roles", "their roles are fraud, staff"),
        ({"purposes": ["audit"]}, "masking.reveal[0].purposes", "'fraud-investigation' is no purpose of the rule"),
        ({"until": (datetime.now(UTC).date() - timedelta(days=1)).isoformat()}, "masking.reveal[0].until", "the rule held until"),
        ({"fields": ["ssn"]}, "masking.reveal[0].fields", "the rule does not name that column"),
        ({"entities": ["US_SSN", "PERSON"]}, "masking.reveal[0].entities", "they hold EMAIL_ADDRESS"),
    ],
)
def test_a_rule_that_does_not_fit_refuses_with_its_line(tmp_path: Path, rule: dict[str, Any], line: str, says: str) -> None:
    desk = Desk(tmp_path, policy({**RULE, **rule}))
    error = refused(desk, desk.load(), fields="email")
    assert error.line == line
    assert says in error.message
    assert error.satisfy is not None
    assert all(bound in str(error.bound) for bound in rule.get(line.rpartition(".")[2], [])) or error.bound == rule["until"]
    desk.workspace.close()


def test_the_last_day_of_a_rule_still_counts(tmp_path: Path) -> None:
    today = datetime.now(UTC).date().isoformat()
    desk = Desk(tmp_path, policy({**RULE, "until": today}))
    assert desk.reveal(desk.load(), fields="email").to_list("email") == ROWS["email"]
    desk.workspace.close()


def test_the_rule_that_comes_nearest_is_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy({**RULE, "roles": ["court"]}, {**RULE, "fields": ["ssn"]}, {**RULE, "purposes": ["audit"]}))
    assert refused(desk, desk.load(), fields="email").line == "masking.reveal[1].fields"
    assert desk.reveal(desk.load(), fields="ssn").to_list("ssn") == ROWS["ssn"]
    assert refused(desk, desk.load(), fields=["ssn", "email"]).line == "masking.reveal[1].fields"
    desk.workspace.close()


def test_a_claim_is_no_proof(desk: Desk) -> None:
    from affidavit.interfaces.governance import Actor

    masked = desk.load()
    desk.workspace.actor = Actor("fay", ("fraud",), desk.fay.fingerprint)
    assert refused(desk, masked, by=None).by == "access"


def test_a_key_that_is_not_enrolled_or_lost_its_role_does_not_count(desk: Desk, tmp_path: Path) -> None:
    masked = desk.load()
    stranger = Approver.create("fay", tmp_path / "stranger.pem")
    assert "not enrolled" in refused(desk, masked, by=stranger).message
    desk.workspace.enrol(desk.fay, roles=["staff"])
    assert refused(desk, masked, fields="email").line == "masking.reveal[0].roles"


def test_a_signature_counts_for_one_call_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    masked = desk.load()
    desk.reveal(masked, fields="email")
    old = desk.fay.sign(b"something else")
    monkeypatch.setattr(Approver, "sign", lambda self, message: old)
    assert "does not match" in refused(desk, masked, fields="email").message


def test_of_a_text_only_the_entities_that_a_rule_covers(tmp_path: Path) -> None:
    entities = {"EMAIL_ADDRESS": "token", "PHONE_NUMBER": "token"}
    desk = Desk(tmp_path, policy({**RULE, "entities": ["PHONE_NUMBER"]}, entities=entities))
    note = desk.load().to_list("note")[2]
    shown = desk.workspace.reveal_text(note, purpose=PURPOSE, by=desk.fay)
    assert "+49 30 23125777" in shown
    assert "planted" not in shown
    with pytest.raises(Refused, match="no purpose of the rule"):
        desk.workspace.reveal_text(note, purpose="audit", by=desk.fay)
    desk.workspace.close()


def test_a_rule_for_columns_opens_no_texts_without_their_table(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy({**RULE, "fields": ["note"]}))
    masked = desk.load()
    assert "planted" in desk.reveal(masked, fields="note").to_list("note")[0]
    with pytest.raises(Refused, match="EMAIL_ADDRESS in a text"):
        desk.workspace.reveal_text(masked.to_list("note")[0], purpose=PURPOSE, by=desk.fay)
    desk.workspace.close()


def test_what_turns_back_any_number_is_not_tried_on_the_tokens_of_a_text(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy(RULE, entities={"EMAIL_ADDRESS": "token", "PHONE_NUMBER": "ff1", "CREDIT_CARD": "ff1"}))
    masked = desk.load()
    opened = desk.reveal(masked, fields="note").to_list("note")
    assert opened[0] == ROWS["note"][0]
    # A number that ff1 made looks like any other, so it stays.
    assert opened[2] == str(masked.to_list("note")[2]).split(" or ")[0] + " or piet.planted@example.org!"
    assert desk.workspace.reveal_text(masked.to_list("note")[0], purpose=PURPOSE, by=desk.fay) == ROWS["note"][0]
    desk.workspace.close()


# -- attacks --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Desk]:
    """Fay may see e-mail addresses of customers, and nothing else."""
    made = Desk(tmp_path, policy({**RULE, "fields": ["email"], "entities": ["EMAIL_ADDRESS"]}, fields={**FIELDS, "ssn": "token"}))
    yield made
    made.workspace.close()


def test_values_of_another_column_under_an_allowed_name(narrow: Desk) -> None:
    masked = narrow.load()
    swapped = Dataset(pa.table({"email": masked.column("ssn")}), masked.select(["email"]).schema, name="customers", lineage=masked.lineage)
    with pytest.raises(IntegrityError, match="email") as caught:
        narrow.reveal(swapped)
    assert "078-05" not in str(caught.value)
    with pytest.raises(IntegrityError):
        narrow.reveal(masked.to_list("ssn"), fields="email", table="customers")


def test_a_forged_schema_and_lineage_change_nothing(narrow: Desk) -> None:
    masked = narrow.load()
    schema = masked.schema.change("ssn", entity="EMAIL_ADDRESS")
    forged = Dataset(masked.table, schema, name="customers", lineage=masked.lineage)
    assert refused(narrow, forged, fields="ssn").line == "masking.reveal[0].fields"
    said = {"columns": {"email": {"operator": "token", "settings": {"namespace": "ssn"}, "bound": {"table": "", "field": "ssn"}}}}
    renamed = Dataset(
        pa.table({"email": masked.column("ssn")}), masked.select(["email"]).schema, name="customers", lineage=[Lineage("mask", (), said)]
    )
    with pytest.raises(IntegrityError):
        narrow.reveal(renamed, fields="email")


def test_declaring_another_entity_later_does_not_open_a_column(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy({**RULE, "entities": ["EMAIL_ADDRESS"]}))
    masked = desk.load()
    desk.workspace.load(pa.table({**ROWS, "ssn": ["a@example.org"] * 4}), name="customers", fields={"ssn": {"entity": "EMAIL_ADDRESS"}})
    assert refused(desk, masked, fields="ssn").measured == "EMAIL_ADDRESS, US_SSN"
    desk.workspace.close()


def test_lines_that_share_a_namespace_are_revealed_only_together(tmp_path: Path) -> None:
    shared = {"email": {"token": {"namespace": "people"}}, "ssn": {"token": {"namespace": "people"}}}
    desk = Desk(tmp_path, policy({**RULE, "fields": ["email"]}, fields=shared))
    error = refused(desk, desk.load(), fields="email")
    assert "share a namespace with masking.fields.ssn" in error.message
    both = desk.under(policy({**RULE, "fields": ["email", "ssn"]}, fields=shared))
    assert both.reveal(both.load(), fields="email").to_list("email") == ROWS["email"]
    both.workspace.close()


def test_the_callers_word_for_an_entity_is_proved_by_cryptography(tmp_path: Path) -> None:
    entities = {"EMAIL_ADDRESS": "token", "US_SSN": "token"}
    desk = Desk(tmp_path, {"masking": {"entities": entities, "reveal": [{**RULE, "entities": ["EMAIL_ADDRESS"]}]}})
    masked = desk.load()
    given = {"fields": {"some_column": "EMAIL_ADDRESS"}, "table": "elsewhere"}
    assert desk.reveal(masked.to_list("email"), **given) == ROWS["email"]
    with pytest.raises(IntegrityError):
        desk.reveal(masked.to_list("ssn"), **given)
    assert refused(desk, masked.to_list("ssn"), fields={"some_column": "US_SSN"}, table="elsewhere").measured == "US_SSN"
    assert "Nothing in the ledger" in refused(desk, masked.to_list("email"), fields="some_column", table="elsewhere").message
    desk.workspace.close()


def test_an_entity_that_the_caller_names_satisfies_no_rule_for_a_column_with_its_own_line(tmp_path: Path) -> None:
    desk = Desk(tmp_path, policy({**RULE, "entities": ["EMAIL_ADDRESS"]}))
    values = desk.load().to_list("ssn")
    assert refused(desk, values, fields={"ssn": "EMAIL_ADDRESS"}, table="elsewhere").measured == "no known entity"
    assert refused(desk, values, fields={"ssn": "EMAIL_ADDRESS"}, table="customers").measured == "US_SSN"
    desk.workspace.close()


def test_a_rule_for_a_column_covers_no_values_that_nothing_says_are_of_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {"masking": {"entities": {"EMAIL_ADDRESS": "token"}, "reveal": [{**RULE, "fields": ["email", "contact"]}]}})
    values = desk.load().to_list("email")
    assert desk.reveal(values, fields="email", table="customers") == ROWS["email"]
    assert "nothing in the ledger says" in refused(desk, values, fields={"contact": "EMAIL_ADDRESS"}, table="customers").message
    desk.workspace.close()


def test_tokens_of_another_workspace_and_changed_tokens_are_refused(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Desk(tmp_path / "other", policy(RULE))
    theirs = other.load()
    other.workspace.close()
    desk.load()
    for name in ("email", "ssn"):
        with pytest.raises(IntegrityError):
            desk.reveal(theirs, fields=name)
        value = desk.load().to_list(name)[0]
        with pytest.raises(IntegrityError):
            desk.reveal([value[:-3] + ("a" if value[-3] != "a" else "b") + value[-2:]], fields=name, table="customers")


def test_the_service_behind_the_call_answers_to_nobody(desk: Desk) -> None:
    call = RevealCall(
        desk.workspace,
        desk.workspace.actor,
        data=desk.load(),
        as_text=False,
        table="customers",
        fields={"email": ""},
        purpose=PURPOSE,
        people=[desk.fay],
    )
    with pytest.raises(Refused, match="outside a governed call"):
        desk.workspace.service("reveal")(call)
    with pytest.raises(PluginError, match="frozen"):
        call.grants = ()  # type: ignore[misc]


def test_what_cannot_be_undone_and_unknown_columns_are_said(desk: Desk) -> None:
    masked = desk.load()
    with pytest.raises(UsageError, match="masked by 'pseudonym', which nobody can undo"):
        desk.reveal(masked, fields="city")
    with pytest.raises(UsageError, match="no column 'emial'"):
        desk.reveal(masked, fields="emial")
    with pytest.raises(UsageError, match="No column here"):
        desk.reveal(masked.select(["amount", "city"]))
    with pytest.raises(InvalidInput, match="holds personal data"):
        desk.reveal(["x"], fields="jana.planted@example.org", table="customers")


# -- what is left behind --------------------------------------------------------------------------------------------------------------------


def test_evidence_says_who_saw_what_and_why_and_an_auditor_can_check_the_signature(desk: Desk) -> None:
    masked = desk.load()
    desk.reveal(masked, fields=["email", "ssn"])
    said = desk.last()
    assert said["inputs"] == {"dataset": masked.fingerprint}
    assert said["actor"] == {"name": "fay", "roles": [], "key": desk.fay.fingerprint}
    details = said["details"]
    assert (details["purpose"], details["table"], details["rows"]) == (PURPOSE, "customers", 4)
    assert [(each["field"], each["entity"], each["operator"], each["line"], each["values"]) for each in details["revealed"]] == [
        ("email", "EMAIL_ADDRESS", "token", "masking.reveal[0]", 3),
        ("ssn", "US_SSN", "vault", "masking.reveal[0]", 3),
    ]
    (person,) = said["stages"]["access"]["people"]
    assert (person["name"], person["roles"], person["key"]) == ("fay", ["fraud", "staff"], desk.fay.fingerprint)
    signed = [said["workspace"], said["call"], details["purpose"], details["table"], details["fields"], details["entities"], said["inputs"]]
    message = b"affidavit reveal v1\n" + json.dumps(signed, sort_keys=True).encode() + b"\n"
    assert signature_holds(desk.fay.public_key, bytes.fromhex(person["signature"]), message)


def test_no_original_and_no_digest_of_one_stays_anywhere(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masked = desk.load()
    revealed = desk.reveal(masked)
    note = desk.workspace.reveal_text(masked.to_list("note")[2], purpose=PURPOSE, by=desk.fay)
    with pytest.raises(Refused):
        desk.reveal(masked, purpose="because jana.planted@example.org asked")
    for table in (revealed, desk.reveal(masked, fields="email")):
        assert table.fingerprint not in str([e.statement for e in desk.workspace.ledger.entries()])
    desk.workspace.report(tmp_path / "report.html")
    desk.workspace.bundle(tmp_path / "audit.zip")
    planted = [b"planted", b"078-05-1120", b"219-09-9999", b"0034567890", b"23125777"]
    assert any(value in note.encode() for value in planted)
    evidence = json.dumps([e.statement for e in desk.workspace.ledger.entries()]).encode()
    for value in planted:
        assert value not in evidence
        assert value.decode() not in caplog.text
        for path in [*(tmp_path / "ws").rglob("*"), tmp_path / "report.html", tmp_path / "audit.zip"]:
            if path.is_file():
                assert value not in path.read_bytes(), f"{path.name} holds {value!r}"
    assert desk.workspace.service("verify")(tmp_path / "audit.zip", desk.workspace.verifier_key).ok
    assert "jana" not in repr(revealed) + repr(revealed.schema) + repr(revealed.lineage)


def test_what_is_revealed_is_marked_and_masked_again_before_training(desk: Desk) -> None:
    rows = {"email": [f"p{n}@example.org" for n in range(40)], "amount": [float(n % 7) for n in range(40)], "y": ["a", "b"] * 20}
    rows |= {"account": [f"00345678{n}" for n in range(10, 50)], "ssn": [None] * 40, "city": [None] * 40}
    masked = desk.workspace.load(pa.table(rows), name="customers", target="y")
    revealed = desk.reveal(masked, fields="email")
    step = revealed.lineage[-1]
    assert (step.operation, step.parents, step.parameters["columns"]) == ("reveal", (masked.fingerprint,), ["email"])
    assert revealed.roots == masked.roots
    kept = ["amount", "email", "account", "y"]
    desk.workspace.train("tabular.logistic", revealed.select(kept))
    trained = [e.predicate for e in desk.workspace.ledger.entries("train") if e.predicate["status"] == "done"][-1]
    assert trained["stages"]["masking"]["data"]["columns"]["email"]["operator"] == "token"
    assert trained["inputs"] == {"dataset:customers": masked.select(kept).fingerprint}, "what stayed masked is not masked twice"


def test_a_token_that_was_already_revealed_is_not_taken_for_one(desk: Desk) -> None:
    revealed = desk.reveal(desk.load(), fields="email")
    with pytest.raises(IntegrityError):
        desk.reveal(revealed, fields="email")
