"""A deployment target under check: how it is told to deploy, and the models that it is given."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.deployment import Deployment, Endpoint, Predictor
from affidavit.interfaces.model import Model, Predictions
from affidavit.predictor import GovernedPredictor
from affidavit.registry import Version
from affidavit.testing.checks import CheckFailed
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.reference import Reference
from affidavit.testing.samples import mixed_table
from affidavit.testing.subjects import Case, Subject, once
from affidavit.testing.within import PLANTED, enter, governed, kept, load
from affidavit.workspace import Workspace

Answer = Callable[[Predictions], Predictions]
Options = Mapping[str, Any] | Callable[[Path], Mapping[str, Any]]

TASKS = {"binary": "label", "multiclass": "size", "regression": "amount"}
"""What the kit's models predict, and the column of its rows that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCase(Case):
    """How a deployment target is tried.

    Attributes
    ----------
    options
        What it is told, or a function that gives it for each deployment, from an empty folder that is its own: ``lambda folder: {"folder":
        folder / "out"}``. A server is best told to choose a free port.
    registered
        Whether it serves registered versions only, because it hands their files over.
    """

    kind: ClassVar[str] = "target"
    options: Options = field(default_factory=dict)
    registered: bool = False


class TargetSubject(Subject[TargetCase]):
    """A deployment target."""

    kind = "target"
    Case = TargetCase

    def options(self) -> dict[str, Any]:
        """What it is told at the next deployment."""
        given = self.case.options
        return dict(given(Path(tempfile.mkdtemp(dir=self._folder))) if callable(given) else given)

    def deploy(self, predictor: Predictor) -> Endpoint:
        """A running endpoint. Raises CheckFailed where `deploy` gives something else."""
        deployment: Deployment = self.value()
        return checked(deployment.deploy(predictor, **self.options()))

    @contextmanager
    def running(self, predictor: Predictor) -> Iterator[Endpoint]:
        """A running endpoint, stopped at the end whatever happens."""
        endpoint = self.deploy(predictor)
        try:
            yield endpoint
        finally:
            with suppress(Exception):  # the check of stop tells of it
                endpoint.stop()

    def predictor(self, task: str = "binary", answer: Answer = lambda found: found) -> Watched:
        """A model of the kit's as a deployment gets it; `answer` changes what it says, or raises."""
        if self.case.registered:
            return WatchedVersion(self.session.workspace, self.session.versions[task], answer)
        return Watched(self._models[task], answer)

    def rows(self, count: int = 9) -> Dataset:
        """Rows to ask about."""
        return table("binary").head(count).features()

    @once
    def session(self) -> Session:
        """A workspace with registered versions, which the checks share; each looks only at what came to the ledger meanwhile."""
        return kept(self, opened(TargetSubject(self.value, self.name, self.claimed, self.case)))

    @once
    def _models(self) -> dict[str, Model]:
        return {task: Reference().fit(table(task)) for task in TASKS}

    @once
    def _folder(self) -> Path:
        return Path(kept(self, tempfile.TemporaryDirectory()))


class Watched:
    """A model without governance around it, as a deployment sees it. It notes how many rows it was asked for, call by call."""

    def __init__(self, model: Model, answer: Answer) -> None:
        self.name, self.version, self.model_type, self.signature = "checked", 1, model.type, model.fitted
        self.asked: list[int] = []
        self._model, self._answer = model, answer

    def predict(self, data: Dataset) -> Predictions:
        """The model's answer, as it is to be changed."""
        found = self._model.predict(data)
        self.asked.append(len(data))
        return self._answer(found)

    def explain(self, data: Dataset, *, method: str | None = None, **options: Any) -> Any:
        """Raise: there is no workspace to explain in."""
        raise CheckFailed("explain of the predictor was called where nobody asked for an explanation.")


class WatchedVersion(GovernedPredictor, Watched):
    """The same of a registered version, inside governance."""

    def __init__(self, workspace: Workspace, version: Version, answer: Answer) -> None:
        GovernedPredictor.__init__(self, workspace, workspace.model(version), version)
        self.asked, self._answer = [], answer

    def predict(self, data: Dataset) -> Predictions:
        """The governed answer, as it is to be changed."""
        found = GovernedPredictor.predict(self, data)
        self.asked.append(len(data))
        return self._answer(found)


def checked(endpoint: object) -> Endpoint:
    """What `deploy` gave, if it is an endpoint."""
    if not isinstance(endpoint, Endpoint):
        raise CheckFailed(f"deploy gave {type(endpoint).__name__}, not an Endpoint.")
    return endpoint


def table(task: str) -> Dataset:
    """The kit's mixed rows with the target of `task`: two classes, three classes, or a number."""
    data = mixed_table()
    number = np.nan_to_num(data.to_numpy("number"))
    columns = {field.name: data.table.column(field.name) for field in data.schema.features}
    target = {
        "label": data.table.column("label"),
        "size": pa.array(np.array(["small", "middle", "large"])[np.digitize(number, [-0.5, 0.5])]),
        "amount": pa.array(3 * number + data.to_numpy("other")),
    }[TASKS[task]]
    return Dataset.from_arrow({**columns, TASKS[task]: target}, name="kit-rows", target=TASKS[task])


# -- in a workspace -----------------------------------------------------------------------------------------------------------------------


@dataclass
class Session:
    """A workspace in which models of the kit's are registered.

    Attributes
    ----------
    versions
        ``"checked"``, which reads the planted columns; ``"unexplained"``, which misses what the policy asks of a deployment; for a target that
        serves registered versions only also one for each task.
    seen
        What the models were given, call by call.
    """

    workspace: Workspace
    versions: dict[str, Version]
    seen: list[pa.Table]

    @property
    def version(self) -> Version:
        """The version that may be deployed."""
        return self.versions["checked"]

    def rows(self, count: int) -> Dataset:
        """Rows for that version to answer, with personal data in them."""
        return planted().head(count).features()


@contextmanager
def opened(subject: TargetSubject) -> Iterator[Session]:
    """A workspace with everything that the checks of a target need."""
    seen: list[pa.Table] = []

    class Seeing(Reference):
        """The kit's model, noting what it is given."""

        def predict(self, data: Dataset) -> Predictions:
            seen.append(data.table)
            return super().predict(data)

    with governed(subject) as workspace:
        enter(workspace, ModelSubject(Seeing, Reference.type, frozenset(Reference.capabilities.names)))
        data = load(workspace, planted())
        model = workspace.train(Reference.type, data)
        workspace.explain(model, data.head(1), background=data.head(2), method="exact")
        versions = {"checked": workspace.register(model, "checked")}
        versions["unexplained"] = workspace.register(workspace.train(Reference.type, data, ignore=("day",)), "unexplained")
        for task in TASKS if subject.case.registered else ():
            versions[task] = workspace.register(workspace.train(Reference.type, load(workspace, table(task))), task)
        yield Session(workspace, versions, seen)


def planted() -> Dataset:
    """Rows with personal data in a text and in a column of their own, both of which the model reads."""
    rows = table("binary")
    given = [PLANTED[row % len(PLANTED)] for row in range(len(rows))]
    columns = {name: rows.table.column(name) for name in rows.schema.names}
    texts = {"note": pa.array([f"write to {value} soon" for value in given]), "contact": pa.array(given)}
    return Dataset.from_arrow({**columns, **texts}, name="planted", target="label", fields={"note": {"type": "text"}})
