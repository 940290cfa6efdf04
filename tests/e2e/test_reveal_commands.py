"""`affidavit reveal` and `affidavit shred`: files with originals, refusals, and receipts, as people and machines see them."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from affidavit.approver import Approver
from affidavit.workspace import Workspace

ROWS = {
    "customer": ["c1", "c2", "c1"],
    "email": ["jana.planted@example.org", "piet.planted@example.org", None],
    "account": ["0034567890", "0134567891", "0234567892"],
    "iban": ["DE89370400440532013000", None, "GB82WEST12345698765432"],
    "amount": [1.5, 2.0, 2.5],
}
POLICY: dict[str, Any] = {
    "masking": {
        "fields": {"customer": "keep", "email": "token", "account": "ff1", "iban": {"vault": {"subject": "customer"}}},
        "reveal": [{"roles": ["fraud"], "purposes": ["fraud-investigation"], "fields": ["email", "account", "iban"], "until": "2099-12-31"}],
    },
    "approvals": {"shred": {"count": 1, "roles": ["fraud"]}},
}
Affidavit = Callable[..., CompletedProcess[str]]


@pytest.fixture
def where(tmp_path: Path) -> list[object]:
    """A workspace, Fay's key, and customers in it; the options that name both."""
    with Workspace(tmp_path / "ws", policy=POLICY, actor="dora") as workspace:
        fay = Approver.create("fay", tmp_path / "fay.pem")
        workspace.enrol(fay, roles=["fraud"])
        masked = workspace.load(pa.table(ROWS), name="customers")
    pq.write_table(masked.table, tmp_path / "customers.parquet")
    pa.csv.write_csv(masked.table, tmp_path / "customers.csv")
    return ["--name", "fay", "--key", tmp_path / "fay.pem", "-w", tmp_path / "ws"]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_masked_file_comes_back_for_its_owner_alone(affidavit: Affidavit, where: list[object], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out.{suffix}"
    done = affidavit("reveal", tmp_path / f"customers.{suffix}", target, "--purpose", "fraud-investigation", *where, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"rows": 3, "columns": ["account", "email", "iban"], "unreadable": {}}
    text = {name: pa.string() for name in ("account", "iban")}
    read = (
        pq.read_table(target)
        if suffix == "parquet"
        else pa.csv.read_csv(target, convert_options=pa.csv.ConvertOptions(column_types=text, strings_can_be_null=True))
    )
    assert read.to_pydict() == ROWS
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_what_affidavit_mask_wrote_comes_back_in_the_same_workspace(affidavit: Affidavit, where: list[object], tmp_path: Path) -> None:
    pq.write_table(pa.table(ROWS), tmp_path / "customers.parquet")
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    masked = affidavit("mask", tmp_path / "customers.parquet", tmp_path / "safe.parquet", "--policy", tmp_path / "policy.yaml", *where[-2:])
    assert masked.returncode == 0, masked.stderr
    assert pq.read_table(tmp_path / "safe.parquet").column("email").to_pylist() != ROWS["email"]
    options = ["--purpose", "fraud-investigation", "--field", "email", "--field", "account", "--table", "customers"]
    done = affidavit("reveal", tmp_path / "safe.parquet", tmp_path / "out.parquet", *options, *where)
    assert done.returncode == 0, done.stderr
    read = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert (read["email"], read["account"]) == (ROWS["email"], ROWS["account"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--purpose", "curiosity"], "masking.reveal[0].purposes"),
        (["--purpose", "fraud-investigation", "--field", "amount"], "masking"),
        (["--purpose", "fraud-investigation", "--field", "emial"], "Did you mean 'email'?"),
    ],
)
def test_a_refusal_leaves_no_file(affidavit: Affidavit, where: list[object], tmp_path: Path, options: list[str], says: str) -> None:
    done = affidavit("reveal", tmp_path / "customers.parquet", tmp_path / "out.parquet", *options, *where)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert not (tmp_path / "out.parquet").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_the_masked_file_is_not_replaced(affidavit: Affidavit, where: list[object], tmp_path: Path) -> None:
    done = affidavit("reveal", tmp_path / "customers.parquet", tmp_path / "customers.parquet", "--purpose", "fraud-investigation", *where)
    assert done.returncode == 2
    assert "would replace its source" in done.stderr


def test_shredding_writes_a_receipt_and_the_values_are_counted_as_unreadable(
    affidavit: Affidavit, where: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("c1\n"))
    shred = ["shred", "-", "--reason", "erasure request 7", *where]
    done = affidavit(*shred, "--receipt", tmp_path / "receipt.json", "--json")
    assert done.returncode == 0, done.stderr
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert json.loads(done.stdout) == receipt
    assert (receipt["already"], receipt["vault_rows"], receipt["storage"]) == (False, 2, "overwritten")
    shown = affidavit("reveal", tmp_path / "customers.parquet", tmp_path / "out.parquet", "--purpose", "fraud-investigation", *where)
    assert next(line.split("│")[1:3] for line in shown.stdout.splitlines() if "iban" in line)[1].strip() == "2"
    assert pq.read_table(tmp_path / "out.parquet").column("iban").to_pylist() == [None, None, None]
    again = affidavit("shred", "c1", "--reason", "again", *where)
    assert f"destroyed before, at {receipt['destroyed']}" in again.stdout
    unknown = affidavit("shred", "jana.planted", "--reason", "typo", *where)
    assert unknown.returncode == 2
    assert "has no key" in unknown.stderr
    assert "jana" not in unknown.stderr


def test_the_report_has_a_table_of_reveals_and_shreds(affidavit: Affidavit, where: list[object], tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws") as workspace:
        before = workspace.report(tmp_path / "before.html").read_text()
    assert "Nobody has seen originals again." in before
    affidavit("reveal", tmp_path / "customers.parquet", tmp_path / "out.parquet", "--purpose", "fraud-investigation", *where)
    affidavit("shred", "c1", "--reason", "erasure request 7", *where)
    assert affidavit("report", tmp_path / "report.html", *where[-2:]).returncode == 0
    html = (tmp_path / "report.html").read_text()
    for part in ("Originals revealed and keys destroyed", "fraud-investigation", "masking.reveal[0]", "fay", "EMAIL_ADDRESS", "erasure request 7"):
        assert part in html
    assert "planted" not in html
