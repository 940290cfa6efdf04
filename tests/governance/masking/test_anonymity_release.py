"""The release gate: what it lets through, and what it says when it does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from affidavit.errors import InvalidInput, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.anonymity.measures import k_anonymity, l_diversity, t_closeness
from affidavit_governance.masking.anonymity.mondrian import anonymise
from affidavit_governance.masking.anonymity.release import ReleaseGate, anonymise_for_release, check_release
from affidavit_governance.masking.surfaces.files import mask_file

PATIENTS = {
    "age": [34, 36, 35, 34, 61, 62, 67, 66, 45],
    "town": ["Hamm", "Hamm", "Unna", "Unna", "Hamm", "Hamm", "Unna", "Unna", "Hamm"],
    "illness": ["flu", "flu", "gout", "flu", "gout", "flu", "gout", "flu", "gout"],
    "name": list("abcdefghi"),
}


def policy(**release: Any) -> MaskingPolicy:
    return MaskingPolicy.model_validate({"quasi_identifiers": ["age", "town"], "sensitive": ["illness"], "release": release})


def test_without_a_rule_nothing_is_measured() -> None:
    assert check_release(PATIENTS, MaskingPolicy()) is None


def test_the_refusal_says_line_value_bound_how_many_and_what_would_do() -> None:
    with pytest.raises(Refused) as refused:
        check_release(PATIENTS, policy(k=2))
    error = refused.value
    assert (error.by, error.line, error.measured, error.bound) == ("masking", "masking.release.k", 1, 2)
    assert "9 of 9 classes miss it, with 9 of 9 rows" in error.message
    made = anonymise(PATIENTS, ["age", "town"], 2)
    assert f"reaches k 2: {made.classes} classes, the smallest with {made.k} rows, at {made.loss:.1%} loss" in str(error.satisfy)


@pytest.mark.parametrize(("release", "line"), [({"k": 10}, "k"), ({"max_risk": 0.1}, "max_risk"), ({"l": 3}, "l")])
def test_without_quasi_identifiers_all_rows_are_one_class_that_the_bounds_hold_for(release: dict[str, Any], line: str) -> None:
    rule = policy(**release).model_copy(
        update={"quasi_identifiers": ("zip",), "fields": MaskingPolicy.model_validate({"fields": {"zip": "drop"}}).fields}
    )
    with pytest.raises(Refused, match="over all rows") as refused:
        check_release(PATIENTS, rule)
    assert refused.value.line == f"masking.release.{line}"
    assert "No quasi-identifier is left" in str(refused.value.satisfy)
    assert check_release({**PATIENTS, "illness": list("abcdefghi")}, rule.model_copy(update={"release": policy(k=9, l=9).release})) is not None
    with pytest.raises(InvalidInput, match="no rows"):
        check_release({"illness": []}, rule)


def test_a_quasi_identifier_that_is_there_twice_is_refused() -> None:
    twice = pa.table([["x", "x"], ["y", "z"], ["f", "g"]], names=["town", "town", "illness"])
    rule = policy(k=2).model_copy(update={"quasi_identifiers": ("town",)})
    with pytest.raises(InvalidInput, match="2 columns 'town'"):
        check_release(twice, rule)
    with pytest.raises(InvalidInput, match="2 columns 'town'"):
        anonymise(twice, ["town"], 2)


@pytest.mark.parametrize(
    ("release", "line", "measured"),
    [
        ({"k": 5}, "k", 4),
        ({"l": 3}, "l", 2),
        ({"t": 0.05}, "t", t_closeness(PATIENTS, ["town"], "illness").value),
        ({"max_risk": 0.2}, "max_risk", 0.25),
    ],
)
def test_each_bound_refuses_by_its_own_line(release: dict[str, Any], line: str, measured: float) -> None:
    rule = policy(**release).model_copy(update={"quasi_identifiers": ("town",)})
    with pytest.raises(Refused) as refused:
        check_release(PATIENTS, rule)
    assert refused.value.line == f"masking.release.{line}"
    assert refused.value.measured == pytest.approx(measured, abs=1e-6)
    assert refused.value.bound == next(iter(release.values()))


def test_bounds_that_are_just_met_let_the_data_through_with_the_figures() -> None:
    closeness = t_closeness(PATIENTS, ["town"], "illness").value
    rule = policy(k=4, l=2, t=closeness, max_risk=0.25).model_copy(update={"quasi_identifiers": ("town",)})
    report = check_release(PATIENTS, rule)
    assert report is not None
    assert report.to_json() == {
        "quasi_identifiers": ["town"], "sensitive": ["illness"], "rows": 9, "classes": 2, "k": 4, "l": 2, "t": closeness, "risk": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize("release", [{"k": 3}, {"k": 2, "l": 2}, {"max_risk": 0.3}, {"k": 2, "t": 0.4}])
def test_what_the_refusal_proposes_is_let_through(release: dict[str, Any]) -> None:
    rule = policy(**release)
    with pytest.raises(Refused, match="reaches"):
        check_release(PATIENTS, rule)
    k = max(rule.release.k or 1, 4 if "max_risk" in release else 1) if rule.release else 1
    made = anonymise(PATIENTS, ["age", "town"], k, sensitive=["illness"], l=release.get("l"), t=release.get("t"))
    assert check_release(made.data, rule) is not None
    assert k_anonymity(made.data, ["age", "town"]).value >= k and l_diversity(made.data, ["age", "town"], "illness").value >= release.get("l", 1)


def test_where_no_generalisation_helps_the_refusal_says_so() -> None:
    with pytest.raises(Refused, match=r"No generalisation reaches k 10: The table has 9 rows"):
        check_release(PATIENTS, policy(k=10))
    with pytest.raises(Refused, match="fewer than 3 distinct values in the whole table"):
        check_release(PATIENTS, policy(l=3))


def test_a_refusal_quotes_no_cell() -> None:
    with pytest.raises(Refused) as refused:
        check_release(PATIENTS, policy(k=2))
    for cell in ("Hamm", "Unna", "flu", "gout", "61"):
        assert cell not in str(refused.value)


def test_streamed_data_are_measured_without_their_other_columns() -> None:
    table = pa.table(PATIENTS)
    streamed = Dataset.from_arrow(lambda: iter(table.to_batches(max_chunksize=2)))
    with pytest.raises(Refused):
        check_release(streamed, policy(k=2))
    assert check_release(streamed, policy(k=2).model_copy(update={"quasi_identifiers": ("town",)})) is not None
    assert streamed.streamed


def test_the_gate_collects_batches_and_says_the_same() -> None:
    table = pa.table(PATIENTS)
    for rule in (policy(k=2), policy(k=2).model_copy(update={"quasi_identifiers": ("town",)}), MaskingPolicy()):
        gate = ReleaseGate(rule)
        for start in range(0, 9, 2):
            gate.add(table.slice(start, 2))
        try:
            expected = check_release(table, rule)
        except Refused as refusal:
            with pytest.raises(Refused, match=re.escape(str(refusal))):
                gate.check()
        else:
            assert gate.check() == expected


def test_columns_that_the_policy_drops_are_not_asked_for_and_others_that_lack_are_an_error() -> None:
    rule = MaskingPolicy.model_validate(
        {"quasi_identifiers": ["town", "zip"], "sensitive": ["salary"], "fields": {"zip": "drop", "salary": "drop"}, "release": {"k": 2, "l": 2}}
    )
    report = check_release(PATIENTS, rule)
    assert report is not None and report.quasi_identifiers == ("town",) and report.l is None
    nothing = rule.model_copy(update={"quasi_identifiers": ("zip",)})
    assert (check_release(PATIENTS, nothing)).k == 9  # type: ignore[union-attr]
    redacted = rule.model_copy(update={"fields": {}})
    with pytest.raises(UsageError, match=r"masking\.quasi_identifiers names 'zip', which the data to release lack"):
        check_release(PATIENTS, redacted)
    with pytest.raises(UsageError, match=r"masking\.quasi_identifiers names 'ages'.*'age'"):
        check_release(PATIENTS, rule.model_copy(update={"quasi_identifiers": ("ages",)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"quasi_identifiers": ()}, r"needs masking\.quasi_identifiers"), ({"sensitive": ()}, r"need masking\.sensitive")],
)
def test_a_rule_without_its_columns_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_release(PATIENTS, policy(l=2).model_copy(update=changes))


# -- where masked data are written out ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "database"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "file":
        (tmp_path / "out.parquet").write_bytes(b"earlier")
        return {"target": tmp_path / "out.parquet"}
    return {"target": f"sqlite:///{tmp_path / 'out.db'}", "table": "patients"}


def mask(tmp_path: Path, target: dict[str, Any], rule: MaskingPolicy, **options: Any) -> dict[str, Any]:
    pq.write_table(pa.table(PATIENTS), tmp_path / "in.parquet", row_group_size=2)
    return mask_file(tmp_path / "in.parquet", policy=rule, key=bytes(32), **target, **options)


def test_masked_rows_that_miss_the_rule_are_not_written(tmp_path: Path, target: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"masking\.release\.k"):
        mask(tmp_path, target, policy(k=2))
    if "table" in target:
        assert "patients" not in sa.inspect(sa.create_engine(target["target"])).get_table_names()
    else:
        assert target["target"].read_bytes() == b"earlier"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_masking_itself_may_reach_the_bound_and_the_report_says_what_was_measured(tmp_path: Path, target: dict[str, Any]) -> None:
    coarser = {"age": {"generalise": {"width": 40}}, "town": "redact"}
    rule = MaskingPolicy.model_validate(
        {"quasi_identifiers": ["age", "town"], "sensitive": ["illness"], "fields": coarser, "release": {"k": 4, "l": 2}}
    )
    report = mask(tmp_path, target, rule)
    assert report["release"] == {"quasi_identifiers": ["age", "town"], "sensitive": ["illness"], "rows": 9, "classes": 2, "k": 4, "l": 2}


def test_without_a_rule_the_report_says_nothing_of_it(tmp_path: Path) -> None:
    assert "release" not in mask(tmp_path, {"target": tmp_path / "out.parquet"}, MaskingPolicy())


@pytest.mark.parametrize("release", [{"k": 2}, {"k": 2, "l": 2, "t": 0.4}, {"max_risk": 0.3}])
def test_rows_may_be_made_anonymous_on_the_way_out(tmp_path: Path, target: dict[str, Any], release: dict[str, Any]) -> None:
    rule = policy(**release)
    report = mask(tmp_path, target, rule, anonymise=True)
    if "table" in target:
        with sa.create_engine(target["target"]).connect() as connection:
            written = pa.Table.from_pylist([dict(row._mapping) for row in connection.execute(sa.text("SELECT * FROM patients"))])
    else:
        written = pq.read_table(target["target"])
    found = check_release(written, rule)
    assert found is not None
    assert report["release"].items() >= found.to_json().items() and 0 < report["release"]["loss"] < 1
    assert written["name"].to_pylist() == PATIENTS["name"]


def test_where_no_rule_says_how_anonymous_or_none_can_be_reached_nothing_is_written(tmp_path: Path, target: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not say how anonymous"):
        mask(tmp_path, target, MaskingPolicy(), anonymise=True)
    with pytest.raises(InvalidInput, match="no class can have 10"):
        mask(tmp_path, target, policy(k=10), anonymise=True)
    if "table" not in target:
        assert target["target"].read_bytes() == b"earlier"
    with pytest.raises(UsageError, match="says nothing"):
        anonymise_for_release(PATIENTS, MaskingPolicy())
    (tmp_path / "in.txt").write_text("hello")
    with pytest.raises(UsageError, match="Free text has no columns"):
        mask_file(tmp_path / "in.txt", tmp_path / "out.txt", policy=policy(k=2), key=bytes(32), anonymise=True)
