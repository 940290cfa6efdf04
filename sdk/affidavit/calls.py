"""The typed envelope that a lifecycle hook receives.

A call is frozen but for what governance may replace; each replacement is recorded and stands in the evidence.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from affidavit.errors import PluginError
from affidavit.interfaces.governance import JSON, Actor, Stage

if TYPE_CHECKING:
    from affidavit.artifacts import Artifact
    from affidavit.interfaces.dataset import Dataset, DatasetSource
    from affidavit.interfaces.deployment import Deployment, Predictor
    from affidavit.interfaces.explainer import Explainer
    from affidavit.interfaces.model import Model
    from affidavit.interfaces.training import Training
    from affidavit.registry import Version
    from affidavit.workspace import Workspace


class _Process:
    """Call ids of one process: 64 random bits, then a counter. Asking the system for randomness at each prediction would cost more than the
    rest of the call."""

    def __init__(self) -> None:
        self.prefix = secrets.token_hex(8)
        self.numbers = itertools.count(1)


_process = _Process()
os.register_at_fork(after_in_child=_process.__init__)  # type: ignore[misc]  # a child must not repeat its parent's ids


@dataclass(frozen=True, slots=True)
class Replacement:
    """One value that governance put in the place of another."""

    field: str
    stage: Stage


class Call:
    """Base of the envelopes.

    Attributes
    ----------
    kind
        The hook's name without its prefix, which is also the kind of evidence it leaves.
    replaceable
        Which stage may replace which attribute.
    id
        Unique for this call.
    workspace, actor
        Where it happens and who asked.
    replacements
        What governance replaced so far.
    statements
        What each stage has to say in the evidence, by stage name; JSON values without personal data.
    """

    kind: ClassVar[str]
    replaceable: ClassVar[Mapping[str, Stage | tuple[Stage, ...]]] = {}
    __slots__ = ("actor", "id", "replacements", "statements", "workspace")

    id: str
    workspace: Workspace
    actor: Actor
    replacements: list[Replacement]
    statements: dict[str, dict[str, JSON]]

    def __init__(self, workspace: Workspace, actor: Actor) -> None:
        put = object.__setattr__
        put(self, "id", f"{_process.prefix}{next(_process.numbers):016x}")
        put(self, "workspace", workspace)
        put(self, "actor", actor)
        put(self, "replacements", [])
        put(self, "statements", {})

    def __setattr__(self, name: str, value: object) -> None:
        raise PluginError(f"A hook tried to change '{name}' of a {self.kind} call; calls are frozen. Governance uses Call.replace.")

    def __delattr__(self, name: str) -> None:
        raise PluginError(f"A hook tried to delete '{name}' of a {self.kind} call; calls are frozen.")

    def replace(self, name: str, value: object, *, stage: Stage) -> None:
        """Put `value` in the place of attribute `name`.

        Raises
        ------
        PluginError
            `stage` may not replace that attribute.
        """
        allowed = self.replaceable.get(name, ())
        if stage not in (allowed if isinstance(allowed, tuple) else (allowed,)):
            raise PluginError(f"Stage {stage.name} may not replace '{name}' of a {self.kind} call.")
        object.__setattr__(self, name, value)
        self.replacements.append(Replacement(name, stage))

    def state(self, stage: Stage, statement: Mapping[str, JSON]) -> None:
        """Add to what `stage` says in the evidence of this call."""
        self.statements.setdefault(stage.name.lower(), {}).update(statement)

    def inputs(self) -> dict[str, str]:
        """Digests of what goes in, by name; taken after governance replaced what it had to."""
        return {}

    def outputs(self, result: Any) -> dict[str, str]:
        """Digests of what came out, by name. These are the subjects of the evidence."""
        return {}

    def details(self, result: Any) -> dict[str, JSON]:
        """What else the evidence says about the outcome; no personal data."""
        return {}


def _put(call: Call, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(call, name, value)


class LoadCall(Call):
    """Read a data set. MASKING acts on the result before anybody sees it."""

    kind = "load"
    __slots__ = ("derived_from", "fields", "name", "options", "reader", "source", "target")
    reader: DatasetSource
    source: Any
    name: str
    target: str | None
    fields: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    derived_from: frozenset[str]

    def __init__(
        self,
        workspace: Workspace,
        actor: Actor,
        *,
        reader: DatasetSource,
        source: Any,
        name: str,
        target: str | None,
        fields: Mapping[str, Mapping[str, Any]],
        options: Mapping[str, Any],
        derived_from: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(workspace, actor)
        _put(self, reader=reader, source=source, name=name, target=target, fields=fields, options=options, derived_from=derived_from)

    def outputs(self, result: Dataset) -> dict[str, str]:
        return {f"dataset:{result.name}": result.fingerprint}

    def details(self, result: Dataset) -> dict[str, JSON]:
        return {
            "source": self.reader.type,
            "rows": len(result),
            "schema": result.schema.to_json(),
            "roots": sorted(result.roots),
            "derived_from": sorted(self.derived_from),
        }


class TrainCall(Call):
    """Fit a model."""

    kind = "train"
    # PRIVACY takes out the rows of a user beyond those that its unit allows.
    replaceable: ClassVar[Mapping[str, Stage | tuple[Stage, ...]]] = {"data": (Stage.MASKING, Stage.PRIVACY), "training": Stage.PRIVACY}
    __slots__ = ("data", "model", "training")
    model: Model
    data: Dataset
    training: Training

    def __init__(self, workspace: Workspace, actor: Actor, *, model: Model, data: Dataset, training: Training) -> None:
        super().__init__(workspace, actor)
        _put(self, model=model, data=data, training=training)

    def inputs(self) -> dict[str, str]:
        return {f"dataset:{self.data.name}": self.data.fingerprint}

    def outputs(self, result: Model) -> dict[str, str]:
        return {f"model:{result.type}": self.workspace.model_digest(result)}

    def details(self, result: Model) -> dict[str, JSON]:
        return {
            "type": result.type,
            "params": result.params.model_dump(mode="json"),
            "capabilities": list(result.capabilities.names),
            "signature": result.fitted.to_json(),
            "rows": len(self.data),
            "roots": sorted(self.data.roots),
            "seed": self.training.seed,
        }


class _ModelAndData(Call):
    """What evaluate, explain and predict share: a fitted model, and rows that MASKING may replace."""

    replaceable: ClassVar[Mapping[str, Stage | tuple[Stage, ...]]] = {"data": Stage.MASKING}
    __slots__ = ("data", "model")
    model: Model
    data: Dataset

    def __init__(self, workspace: Workspace, actor: Actor, *, model: Model, data: Dataset) -> None:
        super().__init__(workspace, actor)
        put = object.__setattr__
        put(self, "model", model)
        put(self, "data", data)

    def inputs(self) -> dict[str, str]:
        return {f"model:{self.model.type}": self.workspace.model_digest(self.model), f"dataset:{self.data.name}": self.data.fingerprint}


class EvaluateCall(_ModelAndData):
    """Measure a model on rows that it was not trained on."""

    kind = "evaluate"
    __slots__ = ("seed",)
    seed: int

    def __init__(self, workspace: Workspace, actor: Actor, *, model: Model, data: Dataset, seed: int) -> None:
        super().__init__(workspace, actor, model=model, data=data)
        _put(self, seed=seed)

    def outputs(self, result: Any) -> dict[str, str]:
        return {"evaluation": self.workspace.digest(result.to_json())}

    def details(self, result: Any) -> dict[str, JSON]:
        return {"evaluation": result.to_json()}


class ExplainCall(_ModelAndData):
    """Say why: attribute rows' predictions, describe the model as a whole, or look for changes that flip a decision. EXPLAIN chooses the explainer.

    Attributes
    ----------
    scope
        ``"rows"``, ``"model"`` or ``"changes"``, as in `Explainer`.
    """

    kind = "explain"
    replaceable: ClassVar[Mapping[str, Stage | tuple[Stage, ...]]] = {
        "data": Stage.MASKING,
        "background": Stage.MASKING,
        "explainer": Stage.EXPLAIN,
        "options": Stage.EXPLAIN,
    }
    __slots__ = ("background", "explainer", "method", "options", "scope")
    background: Dataset
    method: str | None
    options: Mapping[str, Any]
    scope: str
    explainer: Explainer | None

    def __init__(
        self,
        workspace: Workspace,
        actor: Actor,
        *,
        model: Model,
        data: Dataset,
        background: Dataset,
        method: str | None,
        options: Mapping[str, Any],
        scope: str = "rows",
    ) -> None:
        super().__init__(workspace, actor, model=model, data=data)
        _put(self, background=background, method=method, options=options, scope=scope, explainer=None)

    def outputs(self, result: Any) -> dict[str, str]:
        return {"explanation": self.workspace.digest(result.to_json())}

    def details(self, result: Any) -> dict[str, JSON]:
        return {"scope": self.scope, **result.summary()}


class PackageCall(Call):
    """Write a model through the one door, as an artifact."""

    kind = "package"
    __slots__ = ("model",)
    model: Model

    def __init__(self, workspace: Workspace, actor: Actor, *, model: Model) -> None:
        super().__init__(workspace, actor)
        _put(self, model=model)

    def outputs(self, result: Artifact) -> dict[str, str]:
        return {f"artifact:{self.model.type}": result.digest}

    def details(self, result: Artifact) -> dict[str, JSON]:
        return {"files": dict(result.file_digests), "bytes": result.size}


class RegisterCall(Call):
    """Give an artifact a name and the next version number."""

    kind = "register"
    __slots__ = ("artifact", "name")
    artifact: Artifact
    name: str

    def __init__(self, workspace: Workspace, actor: Actor, *, artifact: Artifact, name: str) -> None:
        super().__init__(workspace, actor)
        _put(self, artifact=artifact, name=name)

    def inputs(self) -> dict[str, str]:
        return {"artifact": self.artifact.digest}

    def outputs(self, result: Version) -> dict[str, str]:
        return {str(result): result.artifact}


class ApproveCall(Call):
    """One person's signed yes to one version for one alias."""

    kind = "approve"
    __slots__ = ("alias", "key", "signature", "version")
    version: Version
    alias: str
    key: bytes
    signature: bytes

    def __init__(self, workspace: Workspace, actor: Actor, *, version: Version, alias: str, key: bytes, signature: bytes) -> None:
        super().__init__(workspace, actor)
        _put(self, version=version, alias=alias, key=key, signature=signature)

    def inputs(self) -> dict[str, str]:
        return {"artifact": self.version.artifact}

    def outputs(self, result: Any) -> dict[str, str]:
        return {str(self.version): self.version.artifact}

    def details(self, result: Any) -> dict[str, JSON]:
        return {"version": str(self.version), "alias": self.alias, "key": self.key.hex(), "signature": self.signature.hex()}


class PromoteCall(Call):
    """Point an alias such as ``production`` at a version."""

    kind = "promote"
    __slots__ = ("alias", "version")
    version: Version
    alias: str

    def __init__(self, workspace: Workspace, actor: Actor, *, version: Version, alias: str) -> None:
        super().__init__(workspace, actor)
        _put(self, version=version, alias=alias)

    def inputs(self) -> dict[str, str]:
        return {"artifact": self.version.artifact}

    def outputs(self, result: Version) -> dict[str, str]:
        return {str(result): result.artifact}

    def details(self, result: Version) -> dict[str, JSON]:
        return {"version": str(self.version), "alias": self.alias}


class DeployCall(Call):
    """Start answering with a registered version."""

    kind = "deploy"
    __slots__ = ("deployment", "options", "predictor", "version")
    deployment: Deployment
    predictor: Predictor
    version: Version
    options: Mapping[str, Any]

    def __init__(
        self,
        workspace: Workspace,
        actor: Actor,
        *,
        deployment: Deployment,
        predictor: Predictor,
        version: Version,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(workspace, actor)
        _put(self, deployment=deployment, predictor=predictor, version=version, options=options)

    def inputs(self) -> dict[str, str]:
        return {"artifact": self.version.artifact}

    def outputs(self, result: Any) -> dict[str, str]:
        return {str(self.version): self.version.artifact}

    def details(self, result: Any) -> dict[str, JSON]:
        files: dict[str, JSON] = {"files": dict(result.files)} if result.files else {}
        return {"version": str(self.version), "target": self.deployment.type, **files}


class PredictCall(_ModelAndData):
    """Answer one batch. Its evidence is a journal line, sealed in batches."""

    kind = "predict"
    __slots__ = ("version",)
    version: Version | None

    def __init__(self, workspace: Workspace, actor: Actor, *, model: Model, data: Dataset, version: Version | None) -> None:
        super().__init__(workspace, actor, model=model, data=data)
        object.__setattr__(self, "version", version)


HookedCall = LoadCall | TrainCall | EvaluateCall | ExplainCall | PackageCall | RegisterCall | ApproveCall | PromoteCall | DeployCall | PredictCall
KINDS: Sequence[str] = ("load", "train", "evaluate", "explain", "package", "register", "approve", "promote", "deploy", "predict", "reveal", "shred")
