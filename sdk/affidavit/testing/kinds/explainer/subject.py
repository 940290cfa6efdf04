"""An explainer under check: the model, the rows and the background that it is tried with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explainer import Explainer
from affidavit.interfaces.explanation import ExplanationRecord
from affidavit.interfaces.model import EncodedView, Model, Predictions, TorchView
from affidavit.interfaces.training import Training
from affidavit.plugins import bundled_registry
from affidavit.testing.kinds.model.subject import read_only
from affidavit.testing.reference import Reference
from affidavit.testing.subjects import Case, Subject, once

BACKGROUND_ROWS = 12
ROWS = 3
DESCRIBED_ROWS = 40
"""Rows on which a description of the model as a whole rests."""

SMALL, AMPLE = 300, 2**14
"""Budgets of model rows: one with which four players cannot all be enumerated against the background, and one for everything."""

SEED = 5
IDLE, STILL = "idle", "still"
"""Fields of the kit's rows: one that the kit's model ignores, and one that is the same in every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainerCase(Case):
    """How an explainer is tried.

    Attributes
    ----------
    options
        What it is told in each call.
    model, params
        What it explains: a model type, as a class or by the name of a bundled one; None is the kit's own, which shows no inside. For explainers
        that need a capability, such as ``"tabular.logistic"`` for one of linear models.
    data
        Rows with a target that the model learns from, and of which some are explained; None takes the kit's.
    """

    kind: ClassVar[str] = "explainer"
    options: Mapping[str, Any] = field(default_factory=dict)
    model: type[Model] | str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Dataset | None = None


class ExplainerSubject(Subject[ExplainerCase]):
    """An explainer."""

    kind = "explainer"
    Case = ExplainerCase

    @property
    def scope(self) -> str:
        """What it explains."""
        return str(self.value.scope)

    @once
    def model_type(self) -> type[Model]:
        """The class of the model that it explains."""
        given = self.case.model
        found: type[Model] = bundled_registry().get("model", given) if isinstance(given, str) else given or Reference
        return found

    @property
    def params(self) -> dict[str, Any]:
        """With which the model is made: the kit's own ignores a field."""
        ignoring = {"ignore": (IDLE,)} if self.case.model is None and self.case.data is None else {}
        return {**ignoring, **self.case.params}

    @property
    def nothing(self) -> tuple[str, ...]:
        """Fields that do nothing to the model's answer, or to those of the rows at hand."""
        if self.case.data is not None:
            return ()
        return (IDLE, STILL) if self.case.model is None else (STILL,)

    @once
    def data(self) -> Dataset:
        """The rows that the model learns from."""
        return read_only(table() if self.case.data is None else self.case.data)

    @property
    def background(self) -> Dataset:
        """The reference rows."""
        return self.data.head(BACKGROUND_ROWS).features()

    @property
    def rows(self) -> Dataset:
        """The rows to explain, with their target: a few, or enough for a description."""
        last = len(self.data)
        return self.data.take(np.arange(last - min(last, DESCRIBED_ROWS if self.scope == "model" else ROWS), last))

    @once
    def model(self) -> Counted:
        """One fitted model, which counts the rows that it is asked for; checks must not change it."""
        model: Counted = counted(self.model_type)(**self.params)
        model.fit(self.data, Training())
        return model

    def explain(self, rows: Dataset | None = None, *, background: Dataset | None = None, model: Model | None = None, **options: Any) -> Any:
        """What the explainer gives: by default for the rows, against the background, with a seed where it takes one."""
        explainer: Explainer = self.value()
        told = {**self.case.options, **({"seed": SEED} if self.seeded else {}), **options}
        return explainer.explain(
            self.model if model is None else model,
            self.rows if rows is None else rows,
            self.background if background is None else background,
            **told,
        )

    def takes(self, **options: Any) -> bool:
        """Whether it takes these options, with these values."""
        try:
            self.value().explain(self.model, self.rows, self.background, **{**self.case.options, **options})
        except UsageError:
            return False
        return True

    @once
    def seeded(self) -> bool:
        """Whether it takes a seed."""
        return self.takes(seed=SEED)

    @once
    def record(self) -> ExplanationRecord:
        """What it gives for the rows; checks must not change it."""
        found: ExplanationRecord = self.explain()
        return found

    @once
    def tried(self) -> list[tuple[dict[str, Any], ExplanationRecord]]:
        """Options and what it gives with them: as it comes, and with a budget that makes it estimate, where it takes one."""
        options: list[dict[str, Any]] = [{}, *([{"budget": SMALL}] if self.takes(budget=SMALL) else [])]
        return [(each, self.explain(**each) if each else self.record) for each in options]


class Counted(Model):
    """A model that counts the rows that it is asked for, through `predict` and through its views.

    Attributes
    ----------
    asked
        Rows so far.
    """

    asked: int


def counted(kind: type[Model]) -> type[Counted]:
    """A class of the same type that counts."""

    class Counting(kind):  # type: ignore[valid-type,misc]  # any model type
        """Counts."""

        type = kind.type
        asked = 0

        def predict(self, data: Dataset) -> Predictions:
            self.asked += len(data)
            found: Predictions = super().predict(data)
            return found

        def encoded_view(self) -> EncodedView:
            view: EncodedView = super().encoded_view()
            return replace(view, answer=self._counting(view.answer), head=self._counting(view.head))

        def torch_view(self) -> TorchView:
            view: TorchView = super().torch_view()
            return replace(view, score=self._counting(view.score))

        def _counting(self, function: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
            if function is None:
                return None
            asked = function

            def counts(rows: Any) -> Any:
                self.asked += len(rows)
                return asked(rows)

            return counts

    return Counting


def table() -> Dataset:
    """Two numbers and a category that two classes depend on, a number that does nothing, and one that is always the same."""
    generator = np.random.default_rng(7)
    count = 80
    first, second = generator.normal(size=count), generator.normal(size=count)
    colour = np.array(["red", "green", "blue"])[generator.integers(0, 3, count)]
    score = 1.5 * first - second + (colour == "red") + generator.normal(scale=0.3, size=count)
    columns = {
        "first": first,
        "second": second,
        "colour": pa.array(colour),
        IDLE: generator.normal(size=count),
        STILL: np.full(count, 2.0),
        "label": np.where(score > 0.3, "yes", "no"),
    }
    return Dataset.from_arrow(columns, name="explained-rows", target="label")
