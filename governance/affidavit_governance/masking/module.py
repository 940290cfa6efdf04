"""MASKING: replaces data sets and batches before anything inside sees them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from affidavit.calls import Call, EvaluateCall, ExplainCall, LoadCall, PredictCall, TrainCall
from affidavit.errors import AffidavitError, InvalidInput
from affidavit.hookspecs import hookimpl
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Stage
from affidavit.interfaces.model import Model
from affidavit.interfaces.schema import Schema
from affidavit_governance.masking.applying import apply
from affidavit_governance.masking.plan import check_operators, check_policy, plan_for
from affidavit_governance.masking.prediction import PredictionMasker
from affidavit_governance.masking.text import scan_text
from affidavit_governance.masking.tools import Tools, reads, workspace_tools

Wrapped = Generator[None, Any, Any]


class Module:
    """The MASKING stage of one workspace.

    What is loaded is masked before anybody sees it. What goes into train, evaluate and explain is planned and searched again, because it
    may come from elsewhere; what is masked already stays as it is, because its operator can tell or its lineage does. Rows to predict get
    what their model's training data got.
    """

    stage = Stage.MASKING

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace
        self._policy = workspace.policy.masking
        self._key: bytes | None = None
        self._tools: Tools | None = None
        self._predictions: WeakKeyDictionary[Model, PredictionMasker] = WeakKeyDictionary()

    @property
    def tools(self) -> Tools:
        """The recognizers and operators of the workspace, imported at first use."""
        if self._tools is None:
            tools = workspace_tools(self._workspace)
            check_operators(self._policy, tools)
            self._tools = tools
        return self._tools

    @property
    def key(self) -> bytes:
        """The key of the workspace's pseudonyms."""
        if self._key is None:
            self._key = self._workspace.keyring.derive("pseudonym")
        return self._key

    @hookimpl(wrapper=True)
    def affidavit_load(self, call: LoadCall) -> Wrapped:
        withheld = None
        try:
            data = yield
        except AffidavitError as error:
            withheld = self._withheld(error, call)
            if withheld is None:
                raise
        if withheld is not None:  # raised outside the handler, so that the message does not come back as its context
            raise withheld
        check_policy(self._policy, data, self.tools)
        return self._mask(call, "data", data, None)

    @hookimpl(wrapper=True)
    def affidavit_train(self, call: TrainCall) -> Wrapped:
        call.replace("data", self._mask(call, "data", call.data, None), stage=Stage.MASKING)
        if call.training.validation is not None:
            call.training.validation = self._mask(call, "validation", call.training.validation, None)
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_evaluate(self, call: EvaluateCall) -> Wrapped:
        call.replace("data", self._mask(call, "data", call.data, call.model.fitted.inputs), stage=Stage.MASKING)
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_explain(self, call: ExplainCall) -> Wrapped:
        inputs = call.model.fitted.inputs
        call.replace("data", self._mask(call, "data", call.data, inputs), stage=Stage.MASKING)
        call.replace("background", self._mask(call, "background", call.background, inputs), stage=Stage.MASKING)
        return (yield)

    @hookimpl(wrapper=True)
    def affidavit_predict(self, call: PredictCall) -> Wrapped:
        model = call.model
        masker = self._predictions.get(model)
        if masker is None or masker.signature is not model.signature:
            masker = self._predictions[model] = PredictionMasker(model.fitted, self._policy, self.key, self.tools)
        masked, columns = masker.mask(call.data)
        if masked is not call.data:
            call.replace("data", masked, stage=Stage.MASKING)
        if columns:
            call.state(Stage.MASKING, {"columns": columns})
        return (yield)

    def _withheld(self, error: AffidavitError, call: LoadCall) -> InvalidInput | None:
        """What to say in the place of an error that quotes personal data: the first row of a file without a header becomes its column names."""
        text = f"{error.message} {error.hint or ''}"
        for given in (str(call.source) if isinstance(call.source, (str, Path)) else "", call.target or "", *call.fields):
            text = text.replace(given, " ") if given else text  # the caller's own words
        found = scan_text(text, recognizers=[recognizer for recognizer in self.tools.recognizers if reads(recognizer, text=False)])
        if not found:
            return None
        return InvalidInput(
            f"Data set '{call.name}' cannot be read ({type(error).__name__}). The reason is withheld: it names a column, and the name holds "
            f"personal data ({found[0].entity}).",
            hint="If the first row of the file is data, give the file a header.",
        )

    def _mask(self, call: Call, what: str, data: Dataset, trained: Schema | None) -> Dataset:
        plan = plan_for(data, self._policy, tools=self.tools, trained=trained, key=self.key)
        masked, report = apply(plan, data, self.key, tools=self.tools)
        call.state(Stage.MASKING, {what: report.to_json()})
        return masked
