"""Checks of a model type inside a workspace: that governance sees, records and refuses whatever it does."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa

from affidavit.artifacts import model_digest
from affidavit.errors import AffidavitError, InvalidInput, Refused
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.schema import FieldType
from affidavit.testing.checks import CheckFailed, Skip, check
from affidavit.testing.kinds.model.api import ROUNDING, Cancelled
from affidavit.testing.kinds.model.subject import ModelSubject, apart
from affidavit.testing.report import Tier
from affidavit.testing.within import PLANTED, governed, load


@check("model", Tier.GOVERNANCE)
def planted_personal_data_never_reach_the_model(subject: ModelSubject) -> None:
    """What masking finds in the rows does not reach `fit` or `predict`."""
    seen: list[str] = []

    class Spy(subject.model):  # type: ignore[name-defined,misc]  # the class under check
        type = subject.name

        def fit(self, data: Dataset, training: Any = None) -> Any:
            seen.append(str(data.table.to_pydict()))
            return super().fit(data, training)

        def predict(self, data: Dataset) -> Any:
            seen.append(str(data.table.to_pydict()))
            return super().predict(data)

    with governed(subject, value=Spy) as workspace:
        data = load(workspace, _planted(subject.data))
        model = workspace.train(subject.name, data, **subject.params)
        workspace.predict(model, _planted(subject.data).head(5).features())
    if len(seen) < 2:
        raise CheckFailed("fit or predict of the class was not called: it must not replace them on the instance.")
    found = [value for value in PLANTED if any(value in text for text in seen)]
    if found:
        raise CheckFailed(f"{len(found)} planted values reached the model.")


@check("model", Tier.GOVERNANCE)
def every_call_leaves_one_intent_and_one_outcome(subject: ModelSubject) -> None:
    """Training, evaluating and packaging leave an intent and an outcome each, a training that raises too."""
    with governed(subject) as workspace:
        data = load(workspace, subject.data)
        model = workspace.train(subject.name, data, **subject.params)
        workspace.evaluate(model, data)
        workspace.package(model)
        with suppress(Cancelled, AffidavitError):
            workspace.train(subject.name, data, report=_cancel, **subject.params)
        trained = [entry.predicate for entry in workspace.ledger.entries("train")]
        for kind, calls in (("train", 2), ("evaluate", 1), ("package", 1)):
            entries = [entry.predicate for entry in workspace.ledger.entries(kind)]
            intents = [entry["call"] for entry in entries if entry["phase"] == "intent"]
            outcomes = [entry["call"] for entry in entries if entry["phase"] == "outcome"]
            if len(intents) != calls or sorted(intents) != sorted(outcomes):
                raise CheckFailed(f"{calls} calls of {kind} left {len(intents)} intents and {len(outcomes)} outcomes.")
        if {entry["status"] for entry in trained if entry["phase"] == "outcome"} - {"done", "failed"}:
            raise CheckFailed("an outcome of train has a status that is neither done nor failed.")


@check("model", Tier.GOVERNANCE)
def a_refusal_of_private_training_reaches_the_caller(subject: ModelSubject) -> None:
    """Under a policy that wants privacy, a type that cannot train privately is refused, and so is one that can where the budget is too small."""
    budget = 0.5 if "private_training" in subject.claimed else 8.0  # what cannot train privately is refused whatever the budget
    with governed(subject, privacy={"epsilon": 1.0, "delta": 1e-5, "dataset_budget": budget}) as workspace:
        data = load(workspace, subject.data)
        try:
            workspace.train(subject.name, data, **subject.params)
        except Refused:
            return
        except AffidavitError as error:
            raise CheckFailed(f"a policy that allows no training raised {type(error).__name__}, not Refused.") from error
    raise CheckFailed("it was trained although the policy refuses: it must not swallow what governance raises.")


@check("model", Tier.GOVERNANCE)
def it_is_registered_and_comes_back(subject: ModelSubject) -> None:
    """A registered version answers as the trained model did, and has its digest."""
    with governed(subject) as workspace:
        data = load(workspace, subject.data)
        model = workspace.train(subject.name, data, **subject.params)
        version = workspace.register(model, "checked")
        rows = data.head(8)
        before = workspace.predict(model, rows)
        workspace._models.clear()
        loaded = workspace.model(version)
        if model_digest(loaded) != version.artifact:
            raise CheckFailed("the loaded model has another digest than the version: what it saves again must be the same bytes.")
        if apart(before, workspace.predict(loaded, rows)) > ROUNDING:
            raise CheckFailed("the registered version answers otherwise than the model that was registered.")


@check("model", Tier.GOVERNANCE)
def its_predictions_are_explained_and_add_up(subject: ModelSubject) -> None:
    """The default explanation of a few rows is additive within the policy's bound."""
    with governed(subject) as workspace:
        data = load(workspace, subject.data)
        model = workspace.train(subject.name, data, **subject.params)
        predictions = workspace.predict(model, data.head(2))
        if predictions.classes and predictions.probabilities is None:
            raise Skip("it gives labels only, so there is no number to explain")
        try:
            explanation = workspace.explain(model, data.head(2))
        except (InvalidInput, Refused) as error:
            raise CheckFailed(f"explaining it raised {type(error).__name__}: {error}") from error
        if not np.isfinite(explanation.values).all():
            raise CheckFailed("an attribution is no finite number.")


def _cancel(progress: Any) -> None:
    raise Cancelled


def _planted(data: Dataset) -> Dataset:
    """The rows with personal data in them: in every text, or in a column beside tensors, and as a column among others in tables."""
    table, rows = data.table, len(data)
    texts = [field.name for field in data.schema.features if field.type is FieldType.TEXT]
    for name in texts:
        values = [f"{text} {PLANTED[row % len(PLANTED)]}" for row, text in enumerate(data.to_list(name))]
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.array(values, type=table.column(index).type))
    fields = {field.name: {"type": str(field.type), "role": str(field.role)} for field in data.schema}
    alone = len(tuple(data.schema.features)) == 1
    fields["contact"] = {"type": "categorical", "role": "identifier" if alone else "feature"}
    table = table.append_column("contact", pa.array([PLANTED[row % len(PLANTED)] for row in range(rows)]))
    target = data.schema.target
    return Dataset.from_arrow(table, name=data.name, target=None if target is None else target.name, fields=fields)
