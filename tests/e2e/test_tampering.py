"""An insider who writes into the database or the policy file, and a caller who fits a governed model again, change nothing that counts."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from affidavit.approver import Approver
from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, PluginError, Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model
from affidavit.workspace import Workspace

POLICY: dict[str, Any] = {"explain": {"required": False}}
MAIL = "jana.planted@example.org"


def people(rows: int = 200, *, noise: float = 1.0) -> pa.Table:
    source = np.random.default_rng(4)
    amount = source.normal(size=rows)
    good = ["yes" if value + noise * error > 0 else "no" for value, error in zip(amount, source.normal(size=rows), strict=True)]
    return pa.table({"amount": amount, "good": good})


class Shop:
    """A workspace with a promoted version and one that nobody approved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ws"
        self.workspace = Workspace(self.folder, policy=POLICY, actor="dora")
        self.data = self.workspace.load(people(), target="good", name="people")
        self.approver = Approver.create("rita", folder / "key.pem")
        self.workspace.enrol(self.approver, roles=["risk"])
        self.approved = self.workspace.register(self.workspace.train("tabular.logistic", self.data), "shop")
        self.workspace.promote(self.approved, "production", approver=self.approver)
        self.other = self.workspace.register(self.workspace.train("tabular.logistic", self.data, l2=9.0), "shop")

    def sql(self, statement: str, **values: object) -> None:
        with self.workspace.store.write() as connection:
            connection.execute(sa.text(statement), values)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.workspace.close()


def test_an_alias_moved_in_the_database_deploys_nothing(shop: Shop) -> None:
    assert shop.workspace.deploy("shop@production").healthy()
    shop.sql("UPDATE aliases SET number = 2")
    with pytest.raises(AffidavitError):
        shop.workspace.deploy("shop@production")


def test_an_alias_moved_in_the_database_deploys_nothing_even_if_the_policy_guards_none(shop: Shop) -> None:
    shop.workspace.close()
    shop.workspace = Workspace(shop.folder, policy={**POLICY, "approvals": {}}, actor="dora")
    shop.sql("UPDATE aliases SET number = 2")
    with pytest.raises(IntegrityError, match="the ledger does not"):
        shop.workspace.deploy("shop@production")


def test_an_artifact_put_in_the_place_of_another_in_the_database_deploys_nothing(shop: Shop) -> None:
    shop.sql("UPDATE versions SET artifact = :artifact WHERE number = 1", artifact=shop.other.artifact)
    with pytest.raises(IntegrityError, match="registered with the artifact"):
        shop.workspace.deploy("shop@production")
    with pytest.raises(IntegrityError, match="registered with the artifact"):
        shop.workspace.promote("shop:1", "staging")


def test_a_submitter_renamed_in_the_database_cannot_approve(shop: Shop, tmp_path: Path) -> None:
    dora = Approver.create("dora", tmp_path / "dora.pem")
    shop.workspace.enrol(dora, roles=["risk"])
    shop.sql("UPDATE versions SET submitter = 'somebody else'")
    with pytest.raises(Refused, match="'dora' submitted"):
        shop.workspace.approve(shop.other, "production", approver=dora)


def test_a_deleted_approval_stops_the_next_deployment(shop: Shop) -> None:
    shop.sql("DELETE FROM approvals")
    with pytest.raises(Refused, match="0 of 1"):
        shop.workspace.deploy("shop@production")


def test_an_approval_of_one_version_or_alias_does_not_count_for_another(shop: Shop) -> None:
    shop.sql("UPDATE approvals SET number = 2")
    with pytest.raises(Refused, match="0 of 1"):
        shop.workspace.promote(shop.other, "production")


def test_a_gate_that_the_policy_got_after_the_promotion_holds_for_the_deployment(shop: Shop) -> None:
    shop.workspace.close()
    strict = {**POLICY, "quality": {"gates": [{"metric": "roc_auc", "min": 0.5}]}}
    shop.workspace = Workspace(shop.folder, policy=strict, actor="dora")
    with pytest.raises(Refused, match="no evaluation"):
        shop.workspace.deploy("shop@production")


def test_a_policy_file_that_was_edited_or_removed_does_not_open(shop: Shop) -> None:
    shop.workspace.close()
    path = next(shop.folder.rglob("policy.json"))
    whole = path.read_text()
    content = json.loads(whole)
    content["approvals"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match="not the one that the ledger recorded"):
        Workspace(shop.folder, actor="dora")
    path.unlink()
    with pytest.raises(IntegrityError, match="not the one that the ledger recorded"):
        Workspace(shop.folder, actor="dora")
    path.write_text(whole)
    Workspace(shop.folder, actor="dora").close()


def test_each_change_of_the_policy_is_in_the_ledger_once(shop: Shop) -> None:
    for policy in (POLICY, None, {**POLICY, "approvals": {}}, None):
        shop.workspace.close()
        shop.workspace = Workspace(shop.folder, policy=policy, actor="dora")
    entries = [entry.predicate for entry in shop.workspace.ledger.entries("policy")]
    assert [entry["content"]["approvals"] for entry in entries] == [{"production": {"count": 1, "roles": []}}, {}]
    assert {entry["by"] for entry in entries} == {"dora"}


def test_a_model_that_was_fitted_again_is_another_model_in_evidence(shop: Shop) -> None:
    model: Model = shop.workspace.train("tabular.logistic", shop.data)
    before = shop.workspace.model_digest(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(Dataset.from_arrow(people(noise=0.01), target="good"))
    shop.workspace.evaluate(model, shop.data)
    last = list(shop.workspace.ledger.entries("evaluate"))[-1].predicate
    assert before not in last["inputs"].values()


def test_a_registered_model_that_was_fitted_again_in_memory_is_read_anew(shop: Shop) -> None:
    model = shop.workspace.model("shop@production")
    rows = shop.data.features().head(5)
    before = shop.workspace.predict("shop@production", rows).probabilities
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(Dataset.from_arrow(people(noise=0.01), target="good"))
    assert np.array_equal(shop.workspace.predict("shop@production", rows).probabilities, before)
    assert np.array_equal(shop.workspace.deploy("shop@production").predict(rows).probabilities, before)


SWAP = """
from affidavit import hookimpl

@hookimpl(wrapper=True)
def affidavit_train(call):
    model = yield
    return type(model)(**model.params.model_dump()).fit(call.data)
"""


def test_a_plugin_that_hands_out_another_model_than_the_governed_one_is_refused(tmp_path: Path, install_plugin: Any) -> None:
    install_plugin("swapper", SWAP)
    with Workspace(tmp_path / "ws", policy={**POLICY, "plugins": {"allow": ["swapper"]}}, actor="dora") as workspace:
        data = workspace.load(people(), target="good")
        with pytest.raises(PluginError, match="another model"):
            workspace.train("tabular.logistic", data)


GREEDY = """
from affidavit import hookimpl
from affidavit_plugins.tabular.linear import Logistic
from affidavit.interfaces.model import Signature

class Greedy(Logistic):
    type = "greedy.all"

    def fit(self, data, training=None):
        super().fit(data, training)
        self.signature = Signature(data.schema.select(("amount", "sex")), self.signature.task, "good", self.signature.classes)
        return self

@hookimpl
def affidavit_register(registry):
    registry.add("model", "greedy.all", "THIS_MODULE:Greedy", capabilities={"probabilities"})
"""


def test_a_model_type_that_reads_a_protected_column_is_refused(tmp_path: Path, install_plugin: Any) -> None:
    install_plugin("greedy", GREEDY)
    policy = {**POLICY, "plugins": {"allow": ["greedy"]}, "fairness": {"protected": ["sex"]}}
    table = people().append_column("sex", pa.array(["f", "m"] * 100))
    with Workspace(tmp_path / "ws", policy=policy, actor="dora") as workspace:
        data = workspace.load(table, target="good")
        with pytest.raises(PluginError, match="'sex', which has the role 'protected'"):
            workspace.train("greedy.all", data)


SOURCE = """
from affidavit import hookimpl
from affidavit.interfaces.dataset import DatasetSource

class Ledgerly(DatasetSource):
    type = "ledgerly"

    def accepts(self, source):
        return str(source).startswith("ledgerly:")

    def read(self, source, **options):
        raise ValueError("cannot parse cell 'jana.planted@example.org'")

@hookimpl
def affidavit_register(registry):
    registry.add("source", "ledgerly", "THIS_MODULE:Ledgerly")
"""


def test_what_a_source_of_a_plugin_says_of_a_cell_is_not_passed_on(tmp_path: Path, install_plugin: Any) -> None:
    install_plugin("ledgerly", SOURCE)
    with Workspace(tmp_path / "ws", policy={"plugins": {"allow": ["ledgerly"]}}, actor="dora") as workspace:
        with pytest.raises(PluginError, match=r"Source 'ledgerly' failed .*ValueError") as caught:
            workspace.load("ledgerly://x", name="x")
        assert_silent(caught.value)


def test_escape_codes_in_a_message_do_not_reach_the_terminal(tmp_path: Path) -> None:
    name = str(tmp_path / "no\x1b]0;pwned\x07\x9bworkspace")
    shown = subprocess.run([sys.executable, "-m", "affidavit", "models", "-w", name], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "pwned" in shown.stderr
    assert not {"\x1b", "\x07", "\x9b"} & set(shown.stderr)


@pytest.mark.parametrize("options", [{"target": "label"}, {"fields": {"age": {"role": "protected"}}}, {}])
def test_the_first_row_of_a_file_without_a_header_is_not_quoted(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "no_header.csv"
    path.write_text(f"{MAIL},4111111111111111,yes\nx,1,no\ny,2,yes\n")
    policy = {**POLICY, "masking": {"fields": {"missing": "redact"}}}
    with Workspace(tmp_path / "ws", policy=policy, actor="dora") as workspace, pytest.raises(InvalidInput, match="header") as caught:
        workspace.load(path, **options)
    assert_silent(caught.value)


def test_a_value_of_the_wrong_type_is_not_quoted_by_what_led_to_the_refusal(shop: Shop) -> None:
    for rows in ([{"amount": MAIL}], {"amount": [MAIL]}, [{"amount": [MAIL]}]):
        with pytest.raises(InvalidInput) as caught:
            shop.workspace.predict("shop@production", rows)
        assert_silent(caught.value)


def assert_silent(error: BaseException | None) -> None:
    """Neither the error nor anything that it is chained to, shown or suppressed, quotes the planted value."""
    while error is not None:
        assert MAIL not in f"{error} {error!r} {getattr(error, 'hint', '')}"
        error = error.__cause__ or error.__context__
