"""Records of explanations: saved, signed, read again by version, and replayed to the last bit."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

import affidavit as af
from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.explanation import Explanation


def rows(count=120, seed=0):
    generator = np.random.default_rng(seed)
    income, age = generator.normal(size=count), generator.normal(size=count)
    return {
        "income": income,
        "age": age,
        "colour": np.array(["red", "blue"])[generator.integers(0, 2, count)],
        "y": np.where(income * (1 + age) + generator.normal(size=count) > 0, "good", "bad"),
    }


@pytest.fixture
def workspace(tmp_path):
    with af.Workspace(tmp_path / "ws", actor="tester") as made:
        yield made


@pytest.fixture
def trained(workspace):
    data = workspace.load(af.Dataset.from_arrow(rows()).table, target="y", name="toy")
    return workspace.train("tabular.forest", data, trees=5), data


@pytest.mark.parametrize(("method", "options"), [("exact", {}), ("permutation", {"budget": 4000, "seed": 3}), ("permutation", {"width": 0.5})])
def test_a_saved_record_replays_bit_equal_with_the_registered_model_that_it_names(workspace, trained, tmp_path, method, options):
    model, data = trained
    explanation = workspace.explain(model, data.head(3), method=method, **options)
    path = explanation.save(tmp_path / "record.json")
    workspace.register(model, "toy")
    found = workspace.replay(path, data.head(3))
    assert found.bit_equal and found.largest_deviation == 0 and found.rows == 3 and found.method == method
    assert str(found) == f"3 rows by {method}: bit-equal"


def test_a_replay_says_the_largest_deviation_of_a_record_that_says_something_else(workspace, trained):
    model, data = trained
    explanation = workspace.explain(model, data.head(2), method="exact")
    explanation.values[1, 0] += 0.25
    found = workspace.replay(explanation, data.head(2), model=model)
    assert not found.bit_equal and found.largest_deviation == pytest.approx(0.25)
    assert "largest deviation 0.25" in str(found)


def test_other_rows_another_model_and_another_background_are_refused_by_name(workspace, trained):
    model, data = trained
    explanation = workspace.explain(model, data.head(2), method="exact")
    with pytest.raises(IntegrityError, match="of other rows"):
        workspace.replay(explanation, data.head(3), model=model)
    with pytest.raises(IntegrityError, match="of another background"):
        workspace.replay(explanation, data.head(2), model=model, background=data.take(range(20, 60)))
    other = workspace.train("tabular.tree", data)
    with pytest.raises(IntegrityError, match="of another model"):
        workspace.replay(explanation, data.head(2), model=other)
    with pytest.raises(UsageError, match="not registered here"):
        workspace.replay(explanation, data.head(2))


def test_a_changed_record_is_refused_whatever_was_changed(workspace, trained, tmp_path):
    model, data = trained
    path = workspace.explain(model, data.head(2), method="exact").save(tmp_path / "record.json")
    envelope = json.loads(path.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["values"][0][0] += 1e-9
    changed = {**envelope, "payload": base64.b64encode(json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()).decode()}
    path.write_text(json.dumps(changed, sort_keys=True, separators=(",", ":")))
    with pytest.raises(IntegrityError, match="signature does not hold"):
        workspace.replay(path, data.head(2), model=model)
    path.write_text(json.dumps(statement["predicate"]))
    with pytest.raises(IntegrityError, match="is not signed"):
        workspace.replay(path, data.head(2), model=model)


def test_a_record_of_another_workspace_is_refused(workspace, trained, tmp_path):
    model, data = trained
    path = workspace.explain(model, data.head(2), method="exact").save(tmp_path / "record.json")
    with (
        af.Workspace(tmp_path / "other", actor="tester") as other,
        pytest.raises(IntegrityError, match="not signed by the key"),
    ):
        other.service("read_explanation")(path, other.verifier_key)


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json", '{"version": 3}', '{"version": 2, "method": "exact"}'])
def test_what_is_no_record_is_refused_in_one_sentence(workspace, tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="record"):
        workspace.service("read_explanation")(path, None)
    with pytest.raises(UsageError, match="cannot be read"):
        workspace.service("read_explanation")(tmp_path / "absent.json", None)


def test_a_record_of_version_1_is_still_read():
    old = {
        "version": 1,
        "method": "linear",
        "output": "value",
        "players": ["x", "y"],
        "values": [[0.5, -0.25]],
        "base": [1.0],
        "predicted": [1.25],
        "residual": [0.0],
        "errors": None,
        "details": {"exact": True, "seed": 1},
    }
    found = Explanation.from_json(json.loads(json.dumps(old)))
    assert found.method == "linear" and found.values.tolist() == [[0.5, -0.25]] and found.residual.tolist() == [0.0] and found.exact
    assert Explanation.from_json(found.to_json()).to_json() == found.to_json()


def test_a_withheld_value_is_null_in_the_record_and_comes_back_as_withheld():
    found = Explanation("exact", "value", ("x", "y"), np.array([[0.5, np.nan]]), np.zeros(1), np.ones(1), residuals=np.array([0.0]))
    record = found.to_json()
    assert record["values"] == [[0.5, None]] and record["residual"] == [0.0]
    assert np.isnan(Explanation.from_json(record).values[0, 1])
    assert found.summary()["mean_absolute"] == [0.5, None]


def test_records_whose_arrays_do_not_fit_are_refused():
    good = Explanation("exact", "value", ("x",), np.ones((2, 1)), np.zeros(2), np.ones(2)).to_json()
    for name, value in (("values", [[1.0]]), ("base", [0.0]), ("predicted", []), ("errors", [[1.0]]), ("values", [[1.0, 2.0], [1.0, 2.0]])):
        with pytest.raises(InvalidInput):
            Explanation.from_json({**good, name: value})


def test_evidence_of_a_replayed_record_holds_no_figures_by_row(workspace, trained):
    model, data = trained
    workspace.explain(model, data.head(4), method="permutation", budget=4000)
    said = [e.predicate for e in workspace.ledger.entries("explain") if e.predicate["phase"] == "outcome"][-1]["details"]
    assert "rows_spent" not in said["settings"] and "values" not in said and said["scope"] == "rows"


def test_records_of_other_scopes_are_signed_and_not_replayed_and_say_what_they_are(workspace, trained, tmp_path):
    model, data = trained
    for record, words in (
        (workspace.explain_model(model, data.head(40)), "describes a model as a whole"),
        (workspace.counterfactuals(model, data.head(2)), "holds changes that flip a decision"),
    ):
        assert record.signed is not None
        path = record.save(tmp_path / "record.json")
        with pytest.raises(InvalidInput, match=words):
            workspace.replay(path, data.head(2), model=model)
        with pytest.raises(UsageError, match="Only explanations of rows"):
            workspace.replay(record, data.head(2), model=model)


def test_a_record_made_under_another_release_or_other_groups_is_refused_by_name(workspace, trained, tmp_path):
    model, data = trained
    record = workspace.explain(model, data.head(2), method="exact")
    workspace.register(model, "toy")
    workspace.close()
    columns = af.Dataset.from_arrow(rows()).table
    for policy, kind, words in (
        ({"release": "top-k", "top_k": 2}, UsageError, r"released as full, and the policy now releases top-k k=2"),
        ({"groups": {"both": ["income", "age"]}}, IntegrityError, "other players"),
    ):
        with af.Workspace(tmp_path / "ws", policy={"explain": policy}, actor="tester") as later:
            again = later.load(columns, target="y", name="toy").head(2)
            with pytest.raises(kind, match=words):
                later.replay(record, again)


def test_a_record_replays_after_the_keys_were_rotated(workspace, trained, tmp_path):
    model, data = trained
    path = workspace.explain(model, data.head(2), method="exact").save(tmp_path / "record.json")
    workspace.service("keys")(workspace).rotate()
    assert workspace.replay(path, data.head(2), model=model).bit_equal


@pytest.mark.parametrize("member", ["payload", "payloadType", "keyid", "sig", "no signatures"])
def test_a_change_in_any_part_of_the_envelope_is_refused(workspace, trained, tmp_path, member):
    model, data = trained
    path = workspace.explain(model, data.head(2), method="exact").save(tmp_path / "record.json")
    envelope = json.loads(path.read_bytes())
    if member == "no signatures":
        envelope["signatures"] = []
    elif member in envelope:
        envelope[member] = envelope[member][:-8] + "A" * 8
    else:
        envelope["signatures"][0][member] = "A" * len(envelope["signatures"][0][member])
    path.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))
    with pytest.raises(IntegrityError):
        workspace.replay(path, data.head(2), model=model)


def test_a_deviation_that_no_number_says_is_null_in_json(workspace, trained):
    model, data = trained
    explanation = workspace.explain(model, data.head(2), method="exact")
    explanation.values[0, 0] = np.nan
    found = workspace.replay(explanation, data.head(2), model=model)
    assert not found.bit_equal and found.to_json()["largest_deviation"] is None
    json.dumps(found.to_json(), allow_nan=False)
