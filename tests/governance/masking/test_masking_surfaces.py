"""One policy on all surfaces: a value has one token in all of them, and revealing what was masked gives what was there."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.approver import Approver
from affidavit.errors import Refused, UsageError
from affidavit.workspace import Workspace
from affidavit_governance.masking.reveal.files import reveal_file
from affidavit_governance.masking.surfaces.files import mask_file

ENTITIES = {"EMAIL_ADDRESS": "token", "CREDIT_CARD": "vault", "PHONE_NUMBER": {"token": {"namespace": "contact"}}}
POLICY: dict[str, Any] = {"masking": {"entities": ENTITIES, "reveal": [{"roles": ["fraud"], "purposes": ["case"], "until": "2099-12-31"}]}}

EMAILS = st.from_regex(r"[a-z]{3,8}\.[a-z]{3,8}[0-9]{0,3}@(example|mail)\.(com|org)", fullmatch=True)
CARDS = st.sampled_from(["4111111111111111", "5555 5555 5555 4444", "6200-0000-0000-0005", "378282246310005"])
PHONES = st.from_regex(r"\+49 30 9[0-9]{7}", fullmatch=True)
WORDS = st.sampled_from(["he wrote from", "and then", "nothing", "转账给", "Grüße,", "tok1_aaaaaaaaaaaaaaaaaaaaaaaaaa", "<EMAIL_ADDRESS>", "…"])
TEXTS = st.lists(st.one_of(WORDS, EMAILS, CARDS, PHONES), min_size=1, max_size=6).map(" ; ".join)
ROWS = st.lists(st.tuples(EMAILS, CARDS, st.one_of(st.none(), TEXTS)), min_size=1, max_size=4)


class Desk:
    """A workspace, and somebody who may see originals."""

    def __init__(self, folder: Path, policy: dict[str, Any] = POLICY) -> None:
        self.workspace = Workspace(folder / "ws", policy=policy, actor="dora")
        self.fay = Approver.create("fay", folder / "fay.pem")
        self.workspace.enrol(self.fay, roles=["fraud"])
        self.masking = self.workspace.policy.masking
        self.tools = self.workspace.service("masking_tools")(self.workspace, self.masking)

    def file(self, source: str | Path, target: str | Path, **options: Any) -> None:
        key = self.workspace.keyring.derive("pseudonym")
        mask_file(source, target, policy=self.masking, key=key, tools=self.tools, **options)

    def reveal(self, data: Any, **options: Any) -> Any:
        return self.workspace.reveal(data, purpose="case", by=self.fay, **options)

    def text(self, text: str) -> str:
        return self.workspace.reveal_text(text, purpose="case", by=self.fay)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("surfaces"))
    yield made
    made.workspace.close()


@given(ROWS)
@settings(max_examples=8, deadline=None)
def test_revealing_what_was_masked_gives_what_was_there_on_every_surface(desk: Desk, rows: list[tuple[str, str, str | None]]) -> None:
    source = pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(("mail", "card", "note"))})
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        loaded = desk.workspace.load(source, name="people")
        pa.parquet.write_table(source, folder / "in.parquet")
        desk.file(folder / "in.parquet", folder / "people.parquet")
        database = f"sqlite:///{folder / 'people.db'}"
        desk.file(folder / "in.parquet", database, table="people")
        with sqlite3.connect(folder / "people.db") as connection:
            stored = connection.execute("select mail, card, note from people").fetchall()
        masked = loaded.table.to_pydict()
        assert pa.parquet.read_table(folder / "people.parquet").to_pydict() == masked
        assert [list(column) for column in zip(*stored, strict=True)] == list(masked.values())
        assert desk.reveal(loaded).table.to_pydict() == source.to_pydict()
        reveal_file(desk.workspace, folder / "people.parquet", folder / "back.parquet", purpose="case", by=desk.fay)
        assert pa.parquet.read_table(folder / "back.parquet").to_pydict() == source.to_pydict()
        notes = "\n".join(row[2] or row[0] for row in rows)
        (folder / "in.txt").write_text(notes)
        desk.file(folder / "in.txt", folder / "out.txt")
        assert desk.text((folder / "out.txt").read_text()) == notes
        with desk.workspace.service("prompt_masker")(desk.workspace) as prompts:
            assert prompts.unmask(prompts.mask(notes)) == notes
            assert desk.text(prompts.mask(rows[0][0])) == rows[0][0]


@given(EMAILS, CARDS, PHONES)
@settings(max_examples=8, deadline=None)
def test_a_value_has_one_token_on_every_surface(desk: Desk, mail: str, card: str, phone: str) -> None:
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        for value in (mail, card, phone):
            rows = desk.workspace.load(
                pa.table({"whole": [value, value], "cell": [f"see {value} there", "nothing"]}), name="values"
            ).table.to_pylist()
            token = rows[0]["whole"]
            assert value not in token
            (folder / "in.txt").write_text(f"see {value} there")
            desk.file(folder / "in.txt", folder / "out.txt")
            with sqlite3.connect(folder / "in.db") as connection:
                connection.execute("drop table if exists t")
                connection.execute("create table t (anything text)")
                connection.executemany("insert into t values (?)", [(value,), (f"see {value} there",)])
            desk.file(f"sqlite:///{folder / 'in.db'}", folder / "out.csv", query="select * from t")
            with desk.workspace.service("prompt_masker")(desk.workspace) as prompts:
                prompt = prompts.mask(f"see {value} there")
            seen = [rows[0]["cell"], (folder / "out.txt").read_text(), prompt, (folder / "out.csv").read_text().splitlines()[2].strip('"')]
            assert seen == [f"see {token} there"] * 4


def test_a_file_under_another_name_comes_back_and_what_proves_nothing_asks_for_the_name(tmp_path: Path) -> None:
    masking = {**POLICY["masking"], "fields": {"account": "ff1", "free": {"ff1": {"namespace": "accounts"}}}}
    folder = tmp_path / "desk"
    folder.mkdir()
    desk = Desk(folder, {"masking": masking})
    rows = {
        "account": ["0034567890", "1134567892"],
        "free": ["0034567890", "1134567892"],
        "note": ["nothing", "see ann@example.com"],
        "plain": ["a", "b"],
    }
    pa.parquet.write_table(pa.table(rows), tmp_path / "people.parquet")
    desk.file(tmp_path / "people.parquet", tmp_path / "masked.parquet")

    def back(*names: str, table: str | None = None) -> dict[str, Any]:
        asked = dict.fromkeys(names, "")
        reveal_file(desk.workspace, tmp_path / "masked.parquet", tmp_path / "back.parquet", purpose="case", by=desk.fay, fields=asked, table=table)
        shown: dict[str, Any] = pa.parquet.read_table(tmp_path / "back.parquet").select(list(names)).to_pydict()
        return shown

    with pytest.raises(UsageError, match="'account' is bound to the name .* that this was 'masked'"):
        back("note", "account")
    assert not (tmp_path / "back.parquet").exists()
    assert back("account", table="people") == {"account": rows["account"]}
    assert back("note", "free") == {"note": rows["note"], "free": rows["free"]}
    with pytest.raises(Refused, match="Nothing in the ledger says how column 'plain'"):
        back("plain")
    desk.workspace.close()


def test_a_rule_for_columns_opens_no_texts_of_a_file_that_the_ledger_does_not_know(tmp_path: Path) -> None:
    rule = {**POLICY["masking"]["reveal"][0], "fields": ["note"]}
    desk = Desk(tmp_path, {"masking": {"entities": ENTITIES, "reveal": [rule]}})
    pa.parquet.write_table(pa.table({"note": ["see ann@example.com", "nothing", "x"]}), tmp_path / "people.parquet")
    desk.file(tmp_path / "people.parquet", tmp_path / "masked.parquet")
    with pytest.raises(Refused, match="nothing in the ledger says that they are of that column"):
        desk.reveal(pa.parquet.read_table(tmp_path / "masked.parquet"), fields=["note"], table="masked")
    desk.workspace.close()
