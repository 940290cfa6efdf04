"""The AUDIT stage: what each call leaves in the ledger, whatever happens in it. Run through the real hooks and the real pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pluggy
import pyarrow as pa
import pytest

from affidavit import hookspecs
from affidavit.calls import KINDS, Call, DeployCall, EvaluateCall, LoadCall, PredictCall, PromoteCall
from affidavit.errors import AffidavitError, IntegrityError, Refused
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Stage
from affidavit.interfaces.model import Predictions
from affidavit.registry import Version
from affidavit_governance.audit.module import Module

Opener = Callable[[], SimpleNamespace]
VERSION = Version("credit-risk", 3, "ab" * 32, "tabular.logistic", "2026-01-01T00:00:00Z")
MARK = "jane.roe@example.org"


class Inner:
    """Stands where the core and the other stages stand: does what a test tells it."""

    def __init__(self) -> None:
        self.act: Callable[[Any], Any] = lambda call: VERSION

    @hookimpl
    def affidavit_promote(self, call: Call) -> Any:
        return self.act(call)

    affidavit_load = affidavit_deploy = affidavit_evaluate = affidavit_predict = affidavit_promote


class Audited:
    """A workspace behind AUDIT alone."""

    def __init__(self, workspace: SimpleNamespace) -> None:
        self.workspace = workspace
        self.inner = Inner()
        manager = pluggy.PluginManager("affidavit")
        manager.add_hookspecs(hookspecs)
        manager.register(self.inner)
        manager.register(Module(workspace))
        self.hook = manager.hook

    def promote(self, act: Callable[[Any], Any] = lambda call: VERSION) -> Call:
        call = PromoteCall(self.workspace, self.workspace.actor, version=VERSION, alias="production")
        self.inner.act = act
        self.hook.affidavit_promote(call=call)
        return call

    def outcomes(self) -> list[Any]:
        return [entry for entry in self.workspace.ledger.entries() if entry.predicate.get("phase") == "outcome"]


@pytest.fixture
def audited(opened: Opener) -> Iterator[Audited]:
    yield Audited(opened())


def predict_call(workspace: SimpleNamespace, rows: int = 1, columns: int = 3) -> PredictCall:
    table = pa.table({f"c{n}": [0.5 * n] * rows if n % 2 else [MARK] * rows for n in range(columns)})
    model: Any = SimpleNamespace(type="t")
    return PredictCall(workspace, workspace.actor, model=model, data=Dataset.from_arrow(table), version=VERSION)


ANSWER = Predictions(np.array(["good"], dtype=object), ("bad", "good"), np.array([[0.25, 0.75]]))


def raising(error: BaseException) -> Callable[..., Any]:
    def act(*arguments: Any) -> Any:
        raise error

    return act


def test_the_module_wraps_every_lifecycle_hook() -> None:
    manager = pluggy.PluginManager("affidavit")
    manager.add_hookspecs(hookspecs)
    names = {manager.parse_hookimpl_opts(Module, name) and name for name in dir(Module)} - {None}  # type: ignore[arg-type]  # a class parses like a module
    assert names == {f"affidavit_{'register_version' if kind == 'register' else kind}" for kind in KINDS}
    assert Module.stage is Stage.AUDIT


def test_a_call_leaves_its_intent_before_it_runs_and_its_outcome_after(audited: Audited) -> None:
    seen: list[int] = []

    def act(call: Any) -> Version:
        seen.append(len(audited.workspace.ledger))
        call.state(Stage.ACCESS, {"approvals": 2})
        return VERSION

    call = audited.promote(act)
    intent, outcome = audited.workspace.ledger.entries()
    assert seen == [1]
    assert (intent.predicate["phase"], intent.predicate["status"]) == ("intent", None)
    assert outcome.predicate["status"] == "done"
    assert outcome.predicate["call"] == intent.predicate["call"] == call.id
    assert outcome.predicate["stages"] == {"access": {"approvals": 2}}
    assert outcome.predicate["details"] == {"version": "credit-risk:3", "alias": "production"}
    assert outcome.predicate["inputs"] == {"artifact": "ab" * 32}
    assert outcome.predicate["actor"] == {"name": "tester", "roles": ["risk"], "key": None}
    assert outcome.predicate["policy"] == audited.workspace.policy.digest
    assert outcome.statement["subject"] == [{"name": "credit-risk:3", "digest": {"sha256": "ab" * 32}}]
    assert audited.workspace.ledger.has_outcome(call)


def test_a_refusal_is_recorded_with_its_figures_and_raised_as_it_is(audited: Audited) -> None:
    refusal = Refused("No.", by="policy", line="quality.gates[0]", measured=0.61, bound=float("inf"), satisfy="Train longer.")
    with pytest.raises(Refused) as caught:
        audited.promote(raising(refusal))
    assert caught.value is refusal
    (outcome,) = audited.outcomes()
    assert outcome.predicate["status"] == "refused"
    told = {"by": "policy", "line": "quality.gates[0]", "measured": 0.61, "bound": "Infinity", "satisfy": "Train longer."}
    assert outcome.predicate["refusal"] == told
    assert outcome.statement["subject"][0]["name"].startswith("call:")


def test_a_failure_is_recorded_by_its_class_and_never_by_its_message(audited: Audited) -> None:
    with pytest.raises(ValueError, match=MARK):
        audited.promote(raising(ValueError(f"could not convert {MARK}")))
    (outcome,) = audited.outcomes()
    assert (outcome.predicate["status"], outcome.predicate["error"]) == ("failed", "ValueError")
    assert outcome.predicate["inputs"] == {"artifact": "ab" * 32}
    assert MARK not in str([entry.statement for entry in audited.workspace.ledger.entries()])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interruption_is_recorded_and_goes_on(audited: Audited, error: BaseException) -> None:
    with pytest.raises(type(error)):
        audited.promote(raising(error))
    (outcome,) = audited.outcomes()
    assert (outcome.predicate["status"], outcome.predicate["error"]) == ("interrupted", type(error).__name__)


def test_a_call_that_nobody_answers_is_a_failure(audited: Audited) -> None:
    audited.promote(lambda call: None)
    (outcome,) = audited.outcomes()
    assert (outcome.predicate["status"], outcome.predicate["error"]) == ("failed", "NoResult")


def test_a_call_does_not_happen_when_its_intent_cannot_be_written(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(audited.workspace.store, "write", raising(AffidavitError("disk full")))
    with pytest.raises(AffidavitError, match="disk full"):
        audited.promote(ran.append)
    assert ran == []


def test_a_result_is_withheld_when_its_outcome_cannot_be_written_and_the_next_open_says_so(audited: Audited, opened: Opener) -> None:
    workspace = audited.workspace

    def act(call: Any) -> Version:
        workspace.store.write, workspace.write = raising(AffidavitError("disk full")), workspace.store.write
        return VERSION

    with pytest.raises(AffidavitError, match="disk full") as caught:
        audited.promote(act)
    assert "could not record how this call ended" in caught.value.__notes__[0]
    workspace.store.write = workspace.write
    workspace.ledger.close()
    again = opened()
    assert again.ledger.recovered == ["Recorded that a promote call was interrupted: its process died in the middle."]


def test_an_outcome_that_is_recorded_but_not_published_stays_the_only_one(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = audited.workspace

    def act(call: Any) -> Version:
        monkeypatch.setattr(workspace.store.files, "write", raising(AffidavitError("disk full")))
        return VERSION

    with pytest.raises(AffidavitError, match="disk full") as caught:
        audited.promote(act)
    assert not hasattr(caught.value, "__notes__")
    assert [outcome.predicate["status"] for outcome in audited.outcomes()] == ["done"]


def test_what_fails_in_the_evidence_itself_is_recorded_as_a_failure(audited: Audited) -> None:
    model: Any = SimpleNamespace(type="t")
    call = EvaluateCall(audited.workspace, audited.workspace.actor, model=model, data=Dataset.from_arrow({"a": [1]}), seed=0)
    audited.inner.act = lambda call: SimpleNamespace(to_json=lambda: {"metric": object()})
    audited.workspace.digest = lambda value: "cd" * 32
    with pytest.raises(AffidavitError, match=r"evaluate\.details\.evaluation\.metric"):
        audited.hook.affidavit_evaluate(call=call)
    (outcome,) = audited.outcomes()
    assert (outcome.predicate["status"], outcome.predicate["error"]) == ("failed", "PluginError")
    assert audited.workspace.ledger.has_outcome(call)


def test_inputs_are_those_after_governance_replaced_them(audited: Audited) -> None:
    raw, masked = Dataset.from_arrow({"a": [1, 2]}, name="people"), Dataset.from_arrow({"a": [0, 0]}, name="people")
    model: Any = SimpleNamespace(type="t")

    def act(call: Any) -> Any:
        call.replace("data", masked, stage=Stage.MASKING)
        return SimpleNamespace(to_json=lambda: {"metrics": {}})

    audited.inner.act = act
    audited.workspace.digest = lambda value: "cd" * 32
    audited.hook.affidavit_evaluate(call=EvaluateCall(audited.workspace, audited.workspace.actor, model=model, data=raw, seed=0))
    (outcome,) = audited.outcomes()
    assert outcome.predicate["inputs"]["dataset:people"] == masked.fingerprint != raw.fingerprint
    assert outcome.predicate["replacements"] == [{"field": "data", "stage": "masking"}]


def test_loading_and_deploying_fit_their_schemas(audited: Audited, tmp_path: Path) -> None:
    workspace = audited.workspace
    reader, target = SimpleNamespace(type="files"), SimpleNamespace(type="http")
    data = Dataset.from_arrow({"a": [1, 2], "y": ["n", "p"]}, name="tiny", target="y")
    audited.inner.act = lambda call: data
    load: dict[str, Any] = {"reader": reader, "source": tmp_path, "name": "tiny", "target": "y", "fields": {}, "options": {}}
    audited.hook.affidavit_load(call=LoadCall(workspace, workspace.actor, **load))
    deploy: dict[str, Any] = {"deployment": target, "predictor": None, "version": VERSION, "options": {}}
    for files in ({}, {"model.onnx": "0" * 64}):
        audited.inner.act = lambda call, files=files: SimpleNamespace(files=files)
        audited.hook.affidavit_deploy(call=DeployCall(workspace, workspace.actor, **deploy))
    assert [entry.predicate["status"] for entry in audited.outcomes()] == ["done", "done", "done"]
    loaded, served, handed_over = (entry.predicate["details"] for entry in audited.outcomes())
    assert loaded["rows"] == 2 and "files" not in served and handed_over["files"] == {"model.onnx": "0" * 64}


def test_a_prediction_leaves_a_line_and_no_personal_data(audited: Audited, tmp_path: Path) -> None:
    call = predict_call(audited.workspace)
    audited.inner.act = lambda call: ANSWER
    assert audited.hook.affidavit_predict(call=call) is ANSWER
    assert audited.workspace.ledger.has_outcome(call)
    (path,) = audited.workspace.store.spool.glob("*.journal")
    fields = path.read_text().splitlines()[1].split(" ")
    assert fields[2:7] == [call.id, audited.workspace.model_digest(call.model), "credit-risk:3", "done", "1"]
    assert MARK not in path.read_text()
    assert len(audited.workspace.ledger) == 0


@pytest.mark.parametrize(("error", "status"), [(Refused("No.", by="masking", line="masking"), "refused"), (ValueError(MARK), "failed")])
def test_a_prediction_that_gives_no_answer_leaves_a_line_too(audited: Audited, error: Exception, status: str) -> None:
    audited.inner.act = raising(error)
    call = predict_call(audited.workspace)
    with pytest.raises(type(error)):
        audited.hook.affidavit_predict(call=call)
    audited.workspace.ledger.seal_journals()
    (entry,) = audited.workspace.ledger.entries("predict")
    assert entry.predicate["journal"]["outcomes"] == {status: 1}
    assert not audited.workspace.ledger.has_outcome(call)


def test_a_prediction_is_withheld_when_its_line_cannot_be_written(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    audited.inner.act = lambda call: ANSWER
    call = predict_call(audited.workspace)
    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", raising(OSError(28, "No space left on device")))
        with pytest.raises(AffidavitError, match="No space left"):
            audited.hook.affidavit_predict(call=call)
    assert not audited.workspace.ledger.has_outcome(call)


def test_outcomes_of_past_calls_are_forgotten_so_that_memory_stays_bounded(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affidavit_governance.audit.ledger._REMEMBERED_OUTCOMES", 100)
    for number in range(300):
        audited.workspace.ledger.confirm(str(number))
    assert len(audited.workspace.ledger._outcomes) == 100
    assert audited.workspace.ledger.has_outcome(SimpleNamespace(id="299"))


def test_an_entry_can_be_appended_only_while_the_ledger_is_what_it_was(audited: Audited) -> None:
    from affidavit_governance.audit.tables import leaves

    audited.promote()
    with audited.workspace.store.write() as connection:
        connection.execute(leaves.delete().where(leaves.c.idx == 1))
    with pytest.raises(IntegrityError, match="entry 1 was changed or removed"):
        audited.promote()
