"""The explainer interface: what turns a model and rows into an `Explanation`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.model import Explanation, Model


class Explainer(ABC):
    """A method of attribution, registered under its name."""

    type: ClassVar[str]

    @abstractmethod
    def explain(self, model: Model, data: Dataset, background: Dataset, **options: Any) -> Explanation:
        """Explain each row of `data` against the rows of `background`.

        Parameters
        ----------
        options
            ``label`` (the class to explain), ``seed``, ``budget`` (model rows), ``report`` (progress); each explainer says which it takes.

        Raises
        ------
        InvalidInput
            The background has other columns or a single row, or the model's answers cannot be explained.
        """
