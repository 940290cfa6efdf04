"""A whole job from one file: the steps of `affidavit run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from affidavit.approver import Approver
from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Actor
from affidavit.interfaces.model import Model
from affidavit.interfaces.training import Progress
from affidavit.policy import parse_model, read_yaml
from affidavit.registry import Version
from affidavit.workspace import Workspace


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetSection(_Section):
    """What to load: `Workspace.load`'s arguments. A relative source is looked up beside the project file."""

    source: str
    target: str
    fields: dict[str, dict[str, Any]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    derived_from: tuple[str, ...] = ()


class SplitSection(_Section):
    """How to split: `Dataset.split`'s arguments."""

    test: float = 0.25
    stratify: bool = False
    group: str | None = None
    time: str | None = None
    seed: int = 0


class ModelSection(_Section):
    """Which model type to train, with its parameters, and where private training keeps its checkpoint; beside the project file."""

    type: str
    params: dict[str, Any] = Field(default_factory=dict)
    checkpoint: str | None = None


class ExplainSection(_Section):
    """How many test rows to explain, and how."""

    rows: int = Field(default=100, ge=1)
    method: str | None = None


class ApproverSection(_Section):
    """A person who approves in this job, with the file of the private key."""

    name: str
    roles: tuple[str, ...]
    key: str


class PromoteSection(_Section):
    """The alias to move, and who approves."""

    alias: str = "production"
    approvers: tuple[ApproverSection, ...] = ()


class DeploySection(_Section):
    """Where to deploy for a try-out: a few test rows are predicted through the endpoint, which is then stopped."""

    target: str = "in-process"
    options: dict[str, Any] = Field(default_factory=dict)
    rows: int = Field(default=5, ge=1)


class Project(_Section):
    """A project file."""

    name: str
    dataset: DatasetSection
    split: SplitSection = SplitSection()
    policy: str | None = None
    model: ModelSection
    explain: ExplainSection | None = ExplainSection()
    register_as: str | None = Field(default=None, alias="register")
    promote: PromoteSection | None = None
    deploy: DeploySection | None = None
    report: tuple[Literal["html"], ...] = ("html",)

    @model_validator(mode="after")
    def _road(self) -> Project:
        if self.promote is not None and self.register_as is None:
            raise ValueError("'promote' needs 'register': only a registered version can be promoted")
        if self.deploy is not None and self.promote is None:
            raise ValueError("'deploy' needs 'promote': only a promoted version is deployed")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Project:
        """Read a project file. Raises UsageError or InvalidInput, naming file and key."""
        return parse_model(cls, read_yaml(path), whose=f"Project {Path(path).name}")


@dataclass(slots=True)
class Step:
    """One step of a job: what it gave, and how long it took.

    Attributes
    ----------
    seconds
        Wall-clock time; NaN while the step runs.
    """

    name: str
    result: str = ""
    seconds: float = float("nan")


@dataclass(slots=True)
class JobResult:
    """What a job leaves.

    Attributes
    ----------
    report, bundle
        Where the files are.
    verifier_key
        The key that `affidavit verify --key` takes.
    """

    steps: list[Step] = field(default_factory=list)
    version: str | None = None
    report: Path | None = None
    bundle: Path | None = None
    verifier_key: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class Job:
    """Runs a project in a workspace.

    Parameters
    ----------
    path
        The project file.
    out
        The folder for workspace, report and bundle; default: ``out`` beside the project file.
    on_step, on_progress
        Called when a step starts and ends, and with a step's progress.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        out: str | Path | None = None,
        actor: str | Actor | None = None,
        passphrase: str | None = None,
        on_step: Callable[[Step], None] = lambda step: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.project = Project.read(path)
        self.home = Path(path).resolve().parent
        self.out = Path(out) if out is not None else self.home / "out"
        self._actor = actor
        self._passphrase = passphrase
        self._on_step = on_step
        self._on_progress = on_progress
        self.result = JobResult()

    def run(self) -> JobResult:
        """Run all steps. Raises what a step raises; what was done until then stays in the workspace and its ledger."""
        with self.open() as workspace:
            self.result.verifier_key = workspace.verifier_key
            train, test = self.data(workspace)
            model = self._model(workspace, train, test)
            if self.project.register_as:
                self._release(workspace, model, test)
            self._hand_over(workspace)
        return self.result

    def open(self) -> Workspace:
        """Open the project's workspace, under its policy. Raises UsageError where the folder cannot be made."""
        policy = self.home / self.project.policy if self.project.policy else None
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"The folder '{self.out}' cannot be made: {error.strerror}.", hint="Name another one: --out FOLDER.") from None
        return Workspace(self.out / "workspace", policy=policy, actor=self._actor, passphrase=self._passphrase)

    @contextmanager
    def _step(self, name: str) -> Iterator[Step]:
        step = Step(name)
        self._on_step(step)
        started = time.perf_counter()
        yield step
        step.seconds = time.perf_counter() - started
        self.result.steps.append(step)
        self._on_step(step)

    def data(self, workspace: Workspace) -> tuple[Dataset, Dataset]:
        """The first steps: load the data set, and split it into training and test rows."""
        section = self.project.dataset
        beside = self.home / section.source
        source = str(beside) if "://" not in section.source else section.source
        with self._step("load and mask") as step:
            data = workspace.load(source, target=section.target, fields=section.fields, derived_from=section.derived_from, **section.options)
            masked = [f"{f.name} ({f.masked})" for f in data.schema if f.masked]
            step.result = f"{len(data)} rows × {len(data.schema)} columns; masked: {', '.join(masked) or 'nothing found'}"
        with self._step("split") as step:
            options = self.project.split
            train, test = data.split(test=options.test, seed=options.seed, stratify=options.stratify, group=options.group, time=options.time)
            step.result = f"{len(train)} to train on, {len(test)} to test on"
        return train, test

    def _model(self, workspace: Workspace, train: Dataset, test: Dataset) -> Model:
        section = self.project.model
        with self._step("train") as step:
            folder = None if section.checkpoint is None else self.home / section.checkpoint
            seed = self.project.split.seed
            model = workspace.train(section.type, train, seed=seed, checkpoint=folder, report=self._on_progress, **section.params)
            statement = _last(workspace, "train")["stages"].get("privacy", {})
            private = f"ε = {statement['epsilon']:.3g} at δ = {statement['delta']:.0e}" if statement.get("private") else "without privacy"
            step.result = f"{section.type}, {private}"
        with self._step("evaluate") as step:
            evaluation = workspace.evaluate(model, test)
            self.result.metrics = {name: metric.value for name, metric in evaluation.metrics.items()}
            shown = [name for name in ("roc_auc", "accuracy", "r2", "rmse") if name in evaluation.metrics][:2]
            step.result = ", ".join(_interval(name, evaluation.metrics[name]) for name in shown)
        if self.project.explain is not None:
            with self._step("explain") as step:
                rows = test.head(self.project.explain.rows)
                explanation = workspace.explain(model, rows, method=self.project.explain.method, report=self._on_progress)
                sizes = [size or 0.0 for size in explanation.summary()["mean_absolute"]]  # None where the release withholds it
                top = max(zip(sizes, explanation.players, strict=True))[1]
                residual = _last(workspace, "explain")["stages"]["explain"]["max_relative_residual"]
                step.result = f"{len(explanation)} rows by {explanation.method}; strongest: {top}; largest relative residual {residual:.1e}"
        return model

    def _release(self, workspace: Workspace, model: Model, test: Dataset) -> None:
        assert self.project.register_as is not None
        with self._step("package and register") as step:
            version = workspace.register(model, self.project.register_as)
            self.result.version = str(version)
            step.result = f"{version}, artifact {version.artifact[:12]}"
        promote = self.project.promote
        if promote is None:
            return
        with self._step("approve") as step:
            for person in promote.approvers:
                approver = Approver.read(person.name, self.home / person.key)
                workspace.enrol(approver, roles=person.roles)
                workspace.approve(version, promote.alias, approver=approver)
            step.result = ", ".join(f"{person.name} ({', '.join(person.roles)})" for person in promote.approvers) or "nobody asked"
        with self._step("promote") as step:
            workspace.promote(version, promote.alias)
            step.result = f"{version} is {promote.alias}"
        if self.project.deploy is not None:
            self._try_out(workspace, version, promote.alias, test)

    def _try_out(self, workspace: Workspace, version: Version, alias: str, test: Dataset) -> None:
        section = self.project.deploy
        assert section is not None
        with self._step("deploy and predict") as step:
            with workspace.deploy(f"{version.name}@{alias}", target=section.target, **section.options) as endpoint:
                if not endpoint.healthy():
                    raise UsageError(f"The endpoint of {version} does not answer.", hint="Check the deployment's options.")
                predictions = endpoint.predict(test.head(section.rows).features())
            step.result = f"{section.target}{f' at {endpoint.url}' if endpoint.url else ''} answered {len(predictions)} rows"

    def _hand_over(self, workspace: Workspace) -> None:
        if "html" in self.project.report:
            with self._step("report") as step:
                self.result.report = workspace.report(self.out / "report.html")
                step.result = str(self.result.report)
        with self._step("bundle") as step:
            self.result.bundle = workspace.bundle(self.out / "audit.zip")
            step.result = str(self.result.bundle)
        with self._step("verify") as step:
            verification = workspace.service("verify")(self.result.bundle, workspace.verifier_key)
            if not verification.ok:
                raise IntegrityError("The bundle that was just written does not verify.", hint="Please report this.")
            step.result = f"{len(workspace.ledger)} ledger entries, every signature and proof holds"


def _last(workspace: Workspace, kind: str) -> Any:
    found: Any = None
    for evidence in workspace.ledger.entries(kind):
        if evidence.predicate.get("phase") == "outcome":
            found = evidence.predicate
    return found


def _interval(name: str, metric: Any) -> str:
    bounds = f" [{metric.low:.3f}, {metric.high:.3f}]" if metric.low is not None else ""
    return f"{name} {metric.value:.3f}{bounds}"
