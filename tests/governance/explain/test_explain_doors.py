"""What a release withholds leaves by no door: attributes, copies, records, pages, pictures, the ledger, the wire, the terminal."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
import pickle
import re
import threading

import numpy as np
import pyarrow as pa
import pytest

import affidavit as af
from affidavit.errors import AffidavitError, Refused, UsageError
from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
from affidavit.policy import ExplainPolicy
from affidavit_governance.explain.release.modes import released
from affidavit_governance.explain.release.whole import released_whole

MODES = ("top-k", "quantised", "reason-codes")
ASKED = {"linear": {}, "permutation": {"budget": 4000, "interactions": True}, "lime": {"budget": 1000}}


def columns(rows=160):
    generator = np.random.default_rng(0)
    made = {f"x{i}": generator.normal(size=rows) for i in range(5)}
    score = made["x0"] - made["x1"] + 0.5 * made["x2"] + generator.normal(size=rows)
    return {**made, "colour": np.array(["red", "blue"])[generator.integers(0, 2, rows)], "y": np.where(score > 0, "good", "bad")}


def trained(folder, **explain):
    policy = {"approvals": {}, "explain": {"min_local_r2": 0.0, "top_k": 2, "levels": 2, **explain}}
    workspace = af.Workspace(folder, policy=policy, actor="tester")
    data = workspace.load(pa.table(columns()), target="y", name="toy")
    return workspace, workspace.train("tabular.logistic", data), data


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workspace, model, data = trained(tmp_path_factory.mktemp("full") / "ws")
    with workspace:
        return {method: workspace.explain(model, data.head(5), method=method, **options) for method, options in ASKED.items()}


@pytest.fixture(scope="module", params=MODES)
def kept(request, tmp_path_factory):
    workspace, model, data = trained(tmp_path_factory.mktemp("kept") / "ws", release=request.param, each_prediction=True)
    with workspace:
        yield workspace, model, data


def numbers(value):
    """Every number in nested lists, mappings and texts, to six digits and without its sign."""
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values())) if value else set()
    if isinstance(value, (list, tuple)):
        return set().union(*map(numbers, value)) if value else set()
    if isinstance(value, str):
        return {round(abs(float(found)), 6) for found in re.findall(r"-?\d+\.\d{4,}(?:e-?\d+)?", value)}
    return {round(abs(value), 6)} if isinstance(value, float) and np.isfinite(value) else set()


def secrets(full, out, mode):
    """Numbers of the full explanation that must not be found: values and errors that are withheld, the rows' own values."""
    withheld = np.isnan(out.values) if mode == "top-k" else np.ones(out.values.shape, dtype=bool)
    found = set(np.round(abs(full.values[withheld]), 6))
    if full.errors is not None:
        found |= set(np.round(full.errors[withheld], 6))
    if full.interactions is not None:
        found |= set(np.round(abs(full.interactions), 6).ravel())
    own = columns()
    found |= {round(abs(float(value)), 6) for name in own if name.startswith("x") for value in own[name][:5]}
    return found - {0.0}


def attributes(explanation):
    arrays = [getattr(explanation, name) for name in ("values", "base", "predicted", "residual", "errors", "interactions")]
    return [[None if array is None else array.tolist() for array in arrays], explanation.inputs, dict(explanation.details)]


@pytest.mark.parametrize("method", ASKED)
def test_a_withheld_number_leaves_by_no_door(kept, whole, tmp_path, method):
    workspace, model, data = kept
    out = workspace.explain(model, data.head(5), method=method, **ASKED[method])
    hidden = secrets(whole[method], out, workspace.policy.explain.release)
    doors = {
        "attributes": attributes(out),
        "copies": [attributes(made) for made in (pickle.loads(pickle.dumps(out)), copy.deepcopy(out), dataclasses.replace(out))],
        "record": out.to_json(),
        "signed": json.loads(base64.b64decode(json.loads(out.signed)["payload"])),
        "saved": out.save(tmp_path / "record.json").read_text(),
        "words": [repr(out), str(out), out._repr_html_()],
        "ledger": [entry.predicate for entry in workspace.ledger.entries("explain")],
    }
    for kind in ("waterfall", "bar", "force"):
        for suffix in ("html", "svg"):
            try:
                out.plot(str(tmp_path / f"{kind}.{suffix}"), kind=kind)
                doors[f"{kind}.{suffix}"] = (tmp_path / f"{kind}.{suffix}").read_text()
            except UsageError as error:  # there is nothing to draw bars of
                doors[f"{kind}.{suffix}"] = str(error)
    for name, made in (("reasons", lambda: out.reasons()), ("cohorts", lambda: out.cohorts(data.head(5), "colour"))):
        try:
            doors[name] = str(made())
        except AffidavitError as error:
            doors[name] = str(error)
    assert {name: found for name, door in doors.items() if (found := numbers(door) & hidden)} == {}


def test_what_goes_with_a_prediction_and_over_the_wire_is_released_alike_signed_and_replayed(kept, tmp_path):
    workspace, model, data = kept
    mode = workspace.policy.explain.release
    found = workspace.predict(model, data.head(3)).explanations
    assert found.details["release"]["mode"] == mode and found.signed is not None and workspace.replay(found, data.head(3), model=model).bit_equal
    workspace.evaluate(model, data)
    workspace.explain(model, data.head(3))
    version = workspace.register(model, f"m-{mode}")
    loaded = workspace.predict(workspace.model(version), data.head(3)).explanations
    np.testing.assert_array_equal(loaded.values, found.values)
    workspace.promote(version, "production")
    with workspace.deploy(version, target="http", port=0) as endpoint:
        for got in (endpoint.predict(data.head(3).features()).explanations, endpoint.explain(data.head(3).features())):
            np.testing.assert_array_equal(got.values, found.values)
            assert got.details["release"]["mode"] == mode and got.inputs == [] and got.interactions is None


def test_the_report_and_the_bundle_hold_after_explanations_of_all_scopes(kept, tmp_path):
    from affidavit_governance.audit.verify import verify_bundle

    workspace, model, data = kept
    workspace.explain_model(model, data.head(60), method="shapley-importance")
    workspace.counterfactuals(model, data.head(3))
    workspace.explain(model, data.head(3))
    workspace.report(tmp_path / "report.html")
    workspace.bundle(tmp_path / "audit.zip")
    verify_bundle(tmp_path / "audit.zip", workspace.verifier_key)


def test_a_value_near_zero_is_quantised_to_a_zero_without_a_sign():
    full = Explanation("exact", "value", ("a", "b", "c"), np.array([[-0.2, 0.2, 3.0]]), np.zeros(1), np.array([3.0]), details={"exact": True})
    out = released(full, ExplainPolicy(release="quantised", levels=2), lambda: 2.0)
    assert not np.signbit(out.values).any() and "-0.0" not in json.dumps(out.to_json())


def test_reason_codes_of_estimates_without_intervals_claim_neither_sign_nor_rank():
    full = Explanation("kernel", "value", ("a", "b"), np.array([[1.0, -3.0]]), np.zeros(1), np.array([-2.0]), details={"exact": False})
    (order,) = released(full, ExplainPolicy(release="reason-codes", top_k=2), lambda: 1.0).details["release"]["order"]
    assert [(each["sign"], each["rank"]) for each in order] == [("?", 1), ("?", 1)]


def test_a_description_of_the_model_leaves_without_details_of_single_rows():
    record = GlobalExplanation("shapley-importance", "value", 40, details={"rows_spent": list(range(40)), "seed": 3, "classes": ["a", "b"]})
    assert dict(released_whole(record, ExplainPolicy(release="top-k")).details) == {"seed": 3, "classes": ["a", "b"]}
    assert released_whole(record, ExplainPolicy()) is record


def test_the_evidence_of_descriptions_and_changes_has_no_figures_of_single_rows():
    details = {"rows_spent": [3, 4], "seed": 1}
    assert GlobalExplanation("m", "value", 2, details=details).summary()["settings"] == {"seed": 1}
    changes = Counterfactuals("c", "good", [[], []], [[], []], [[], []], details={**details, "not_found": ["it is good already", None]})
    assert changes.summary()["settings"] == {"seed": 1}
    assert changes.to_json()["settings"]["not_found"] == ["it is good already", None], "the record has them"


def test_four_threads_get_what_one_gets(tmp_path):
    workspace, model, data = trained(tmp_path / "ws")
    with workspace:
        asked = [("exact", {}), ("permutation", {"budget": 1500}), ("lime", {"budget": 600}), ("kernel", {"budget": 3000})]
        alone = [workspace.explain(model, data.head(2), method=method, **options).values for method, options in asked]
        found: list = [None] * len(asked)

        def work(place):
            method, options = asked[place]
            found[place] = workspace.explain(model, data.head(2), method=method, **options).values

        threads = [threading.Thread(target=work, args=(place,)) for place in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_audit_that_refuses_a_prediction_refuses_it_over_http_with_403(tmp_path):
    import httpx

    workspace, model, data = trained(tmp_path / "ws")
    with workspace:
        workspace.evaluate(model, data)
        workspace.explain(model, data.head(3))
        workspace.promote(workspace.register(model, "m"), "production")
    with af.Workspace(tmp_path / "ws", policy={"approvals": {}, "explain": {"max_reconstruction": 0.5}}, actor="t") as strict:
        with pytest.raises(Refused, match="gives back"):
            strict.explain(strict.model("m:1"), data.head(3))
        with strict.deploy("m@production", target="http", port=0) as endpoint:
            rows = data.head(1)
            fields = [(name, "FP64", rows.to_numpy(name).tolist()) for name in rows.schema.names if name.startswith("x")]
            fields.append(("colour", "BYTES", rows.to_list("colour")))
            inputs = [{"name": name, "datatype": kind, "shape": [1], "data": values} for name, kind, values in fields]
            answer = httpx.post(f"{endpoint.url}/v2/models/m/explain", json={"inputs": inputs}, trust_env=False, timeout=60)
    assert answer.status_code == 403 and "gives back" in answer.json()["error"]


def test_names_from_data_give_a_terminal_no_orders_and_no_markup():
    from rich.console import Console

    from affidavit.cli.common import visible
    from affidavit_governance.explain.pictures.terminal import explanation_text

    bad = "\x1b[31mred[/]"
    assert "\x1b" not in visible(bad) and "[/]" in visible(bad)
    full = Explanation("exact", f"probability of {bad}", (f"x{bad}",), np.ones((1, 1)), np.zeros(1), np.ones(1), details={"exact": True})
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(explanation_text(full, 0))
    assert "\x1b" not in console.file.getvalue() and "[/]" in console.file.getvalue()


def test_a_table_of_values_from_data_is_text(capsys):
    from affidavit.cli.common import print_table

    print_table("Nearest changes to \x1b[31m[/]", ["now"], [["bl[/]ue\x1b]0;owned\x07"], [3]])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown and "bl[/]ue" in shown
