"""The explainer interface: what turns a model and rows into a record of why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.explanation import ExplanationRecord
    from affidavit.interfaces.model import Model


class Explainer(ABC):
    """A method of explaining, registered under its name.

    Attributes
    ----------
    type
        The registered name.
    scope
        What it explains and so what it returns: ``"rows"`` an `Explanation`, ``"model"`` a `GlobalExplanation`, ``"changes"`` `Counterfactuals`.
    accepts
        Which options governance may add: ``"groups"`` (by the player's name the fields that are one player together: the policy's groups, and
        all masked fields, without which no explanation of rows leaves a workspace), ``"model_digest"`` (for the keys of everything random),
        ``"immutable"`` (fields that a counterfactual may not change).
    """

    type: ClassVar[str]
    scope: ClassVar[str] = "rows"
    accepts: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> ExplanationRecord:
        """Explain the rows of `data` against the rows of `background`.

        Parameters
        ----------
        options
            ``label`` (the class to explain), ``seed``, ``budget`` (model rows, for each explained row or for the model as a whole), ``report``
            (progress); each explainer says which it takes, and raises UsageError for any other.

        Raises
        ------
        InvalidInput
            Rows or background lack a column, the background has a single row, or the model's answers cannot be explained.
        UsageError
            An option is unknown or does not fit.
        """
