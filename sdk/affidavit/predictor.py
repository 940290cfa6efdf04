"""What a deployment serves: a model that answers inside governance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affidavit import explaining
from affidavit.calls import PredictCall

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.explanation import Explanation
    from affidavit.interfaces.model import Model, Predictions, Signature
    from affidavit.registry import Version
    from affidavit.workspace import Workspace


class GovernedPredictor:
    """A model behind governance: what a deployment serves. Implements `affidavit.interfaces.deployment.Predictor`."""

    __slots__ = ("_model", "_version", "_workspace", "model_type", "name", "signature", "version")

    def __init__(self, workspace: Workspace, model: Model, version: Version | None) -> None:
        self._workspace = workspace
        self._model = model
        self._version = version
        self.name = version.name if version else model.type
        self.version = version.number if version else 0
        self.model_type = model.type
        self.signature: Signature = model.fitted

    @property
    def registered(self) -> tuple[Workspace, Version | None]:
        """Where the model is registered and as which version: for a target that hands the model's files over."""
        return self._workspace, self._version

    def predict(self, data: Dataset) -> Predictions:
        """Answer one batch inside governance."""
        workspace = self._workspace
        call = PredictCall(workspace, workspace.actor, model=self._model, data=data, version=self._version)
        result: Predictions = workspace._pipeline.run(call)
        return result

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Explanation:
        """Explain one batch inside governance, against the rows that were kept when the model was trained."""
        result: Any = explaining.explain(self._workspace, self._model, data, None, method, options)
        return result  # type: ignore[no-any-return]  # the pipeline checks the record against the call's scope
