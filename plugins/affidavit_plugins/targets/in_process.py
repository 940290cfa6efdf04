"""The target `in-process`: the caller's own thread answers, with nothing in between."""

from __future__ import annotations

from typing import Any

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Deployment, Endpoint, Predictor
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.model import Predictions


class InProcessEndpoint(Endpoint):
    """Hands each batch to the governed model."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor: Predictor | None = predictor

    def predict(self, data: Dataset) -> Predictions:
        """Answer one batch. Raises UsageError after `stop`."""
        return self._open().predict(data)

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Explanation:
        """Explain each row. Raises UsageError after `stop`."""
        return self._open().explain(data, method=method, **options)

    def _open(self) -> Predictor:
        if self._predictor is None:
            raise UsageError("This endpoint was stopped.", hint="Deploy the version again.")
        return self._predictor

    def healthy(self) -> bool:
        """True until `stop`."""
        return self._predictor is not None

    def stop(self) -> None:
        """Let go of the model."""
        self._predictor = None


class InProcess(Deployment):
    """Answers in the caller's process. It has no options."""

    type = "in-process"

    def deploy(self, predictor: Predictor, **options: Any) -> InProcessEndpoint:
        """Start answering for `predictor`. Raises UsageError for any option."""
        if options:
            raise UsageError(f"The target 'in-process' has no option '{next(iter(options))}'.", hint="It takes no options.")
        return InProcessEndpoint(predictor)
