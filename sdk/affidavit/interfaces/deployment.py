"""The deployment interface: where a model goes to answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from affidavit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.explanation import Explanation
    from affidavit.interfaces.model import Predictions, Signature


class Predictor(Protocol):
    """A governed model as a deployment sees it: every `predict` runs inside governance and is journalled."""

    name: str
    version: int
    model_type: str
    signature: Signature

    def predict(self, data: Dataset) -> Predictions:
        """Answer one batch. Raises InvalidInput for a batch that does not fit the signature."""
        ...

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Explanation:
        """Explain each row's answer; this leaves evidence of its own. Raises UsageError for a method or an option that does not fit."""
        ...


class Endpoint(ABC):
    """A running deployment. Use as a context manager to stop it on the way out.

    Attributes
    ----------
    url
        Where it listens, if it does.
    files
        Hex SHA-256 of each file that was handed over, by name; they stand in the evidence of the deployment.
    """

    url: str | None = None
    files: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def predict(self, data: Dataset) -> Predictions:
        """Predict through the deployment's own road (for HTTP: a real request)."""

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Explanation:
        """Explain each row through the deployment's own road. Raises UsageError where this deployment does not explain."""
        raise UsageError("This deployment answers without explaining.", hint="Use Workspace.explain, or the targets 'http' and 'in-process'.")

    @abstractmethod
    def healthy(self) -> bool:
        """Say whether the endpoint is live and its model ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop answering and free the resources; calling it twice is harmless."""

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class HandedOver(Endpoint):
    """A model whose files were handed over into a folder; `predict` asks the one that stayed, inside governance.

    Attributes
    ----------
    folder
        Where its files are.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self._predictor: Predictor | None = predictor
        self.folder = folder

    @abstractmethod
    def intact(self) -> bool:
        """Whether the folder still holds what was handed over."""

    def predict(self, data: Dataset) -> Predictions:
        """Predict inside governance. Raises UsageError after `stop`."""
        if self._predictor is None:
            raise UsageError("This endpoint was stopped.", hint="The folder stays; deploy the version again for another endpoint.")
        return self._predictor.predict(data)

    def healthy(self) -> bool:
        """Whether it was not stopped, and the folder is intact."""
        return self._predictor is not None and self.intact()

    def stop(self) -> None:
        """Let go of the model; the folder stays."""
        self._predictor = None


class Deployment(ABC):
    """A deployment target, registered under a name such as ``"http"``."""

    type: ClassVar[str]

    @abstractmethod
    def deploy(self, predictor: Predictor, **options: Any) -> Endpoint:
        """Start answering for `predictor`.

        Raises
        ------
        UsageError
            An option is unknown or does not fit.
        """
