"""What users hold in their hand: one place for runs, registry, ledger, budgets and keys."""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from affidavit import explaining
from affidavit import reveal as revealing
from affidavit.approver import Approver, approval_message
from affidavit.artifacts import load_model, model_digest
from affidavit.calls import (
    ApproveCall,
    DeployCall,
    EvaluateCall,
    LoadCall,
    PackageCall,
    PromoteCall,
    RegisterCall,
    TrainCall,
)
from affidavit.errors import IntegrityError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import JSON, Actor, Keyring, Ledger
from affidavit.interfaces.model import Model
from affidavit.interfaces.schema import Schema
from affidavit.interfaces.training import Progress, Training
from affidavit.lineage import named_roots
from affidavit.pipeline import Core, Pipeline
from affidavit.plugins import PluginManager, Registry, source_for
from affidavit.policy import Policy, parse_model
from affidavit.predictor import GovernedPredictor
from affidavit.registry import Version, Versions
from affidavit.store import Objects, Store, write_atomic

if TYPE_CHECKING:
    from affidavit.artifacts import Artifact
    from affidavit.interfaces.deployment import Endpoint
    from affidavit.interfaces.explanation import Counterfactuals, Explanation, GlobalExplanation
    from affidavit.interfaces.model import Evaluation, Predictions, Signature


class Workspace:
    """A governed workspace: every call on it leaves signed evidence in its ledger.

    Parameters
    ----------
    location
        A folder (made if absent) or a ``postgresql://`` URL.
    policy
        A policy file, a `Policy`, or a mapping. None takes the policy that the workspace was last opened with, or the default one.
    actor
        Who makes the calls; a name or an `Actor`. Default: the login name.
    passphrase
        Opens (or, for a new workspace, sets) the keyring. None takes ``AFFIDAVIT_PASSPHRASE``, ``AFFIDAVIT_KEY`` or the key provider that
        ``AFFIDAVIT_KEY_PROVIDER`` names from the environment, or else a key file in the user's configuration folder, outside the workspace.
    key
        32 random bytes instead, from wherever the application keeps its secrets: as ``AFFIDAVIT_KEY``, without the environment.

    Raises
    ------
    UsageError, InvalidInput
        The location is no workspace, or the policy cannot be read.
    IntegrityError
        The keyring does not open, or the ledger was changed.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        policy: str | Path | Policy | Mapping[str, Any] | None = None,
        actor: str | Actor | None = None,
        passphrase: str | None = None,
        key: bytes | None = None,
    ) -> None:
        given = _read_policy(policy)
        self.store = Store.open(location)
        try:
            self._open(given, actor, passphrase, key)
        except BaseException:
            self.store.close()
            raise

    def _open(self, given: Policy | None, actor: str | Actor | None, passphrase: str | None, key: bytes | None) -> None:
        stored = Policy.model_validate_json(self.store.files.read("policy.json")) if self.store.files.exists("policy.json") else Policy()
        self.policy = given or stored
        self.actor = actor if isinstance(actor, Actor) else Actor(actor or getpass.getuser())
        self._manager = PluginManager(self.policy.plugins.allow)
        self._manager.load_plugins()
        self.keyring: Keyring = self.service("keyring")(self.store, passphrase=passphrase, key=key, registry=self.registry)
        self.objects = Objects(self.store, self.keyring)
        self.ledger: Ledger = self.service("ledger")(self.store, self.keyring)
        try:
            self.versions = Versions(self.store)
            self._record_policy(given)
            self._manager.register(Core(), name="core")
            self._manager.load_governance(self)
            self._manager.seal()
        except BaseException:
            self.ledger.close()
            raise
        self._pipeline = Pipeline(self._manager, self.ledger)
        self._digests: WeakKeyDictionary[Model, tuple[Signature | None, str]] = WeakKeyDictionary()
        self._endpoints: list[Endpoint] = []
        self._models: dict[str, Model] = {}
        self._record_plugins()

    # -- the life of a model --------------------------------------------------------------------------------------------------------

    def load(
        self,
        source: Any,
        *,
        target: str | None = None,
        fields: Mapping[str, Mapping[str, Any]] | None = None,
        name: str | None = None,
        derived_from: Dataset | str | Sequence[Dataset | str] = (),
        **options: Any,
    ) -> Dataset:
        """Read a data set; personal data are found and masked on the way in.

        Parameters
        ----------
        source
            A path (CSV, Parquet, JSON lines, Arrow), a database URL (with ``query=``), or a frame in memory.
        target
            The column to predict.
        fields
            Types and roles by column, for example ``{"age": {"role": "protected"}}``.
        name
            What to call the data set; default: the file's name.
        derived_from
            The data sets that these rows were made from outside this workspace: data sets, or fingerprints (at least 12 digits) of ones that
            were loaded here. Private training on the rows spends their budgets too.
        options
            What the source takes, for example ``delimiter`` or ``query``.
        """
        reader = source_for(source, self.registry)
        overrides: dict[str, dict[str, Any]] = {column: {"role": "protected"} for column in self.policy.fairness.protected}
        for column, changes in (fields or {}).items():
            overrides[column] = {**overrides.get(column, {}), **changes}
        label = name or (Path(source).name.split(".")[0] if isinstance(source, (str, Path)) and "://" not in str(source) else "data")
        parents = [derived_from] if isinstance(derived_from, (Dataset, str)) else derived_from
        roots = frozenset[str]().union(*(parent.roots if isinstance(parent, Dataset) else named_roots(self.ledger, parent) for parent in parents))
        call = LoadCall(
            self, self.actor, reader=reader, source=source, name=label, target=target, fields=overrides, options=options, derived_from=roots
        )
        result: Dataset = self._pipeline.run(call)
        return result

    def train(
        self,
        model: str,
        data: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        spend: float | None = None,
        checkpoint: str | Path | None = None,
        distributed: bool = False,
        report: Callable[[Progress], None] | None = None,
        **params: Any,
    ) -> Model:
        """Train a model of type `model` (``"tabular.mlp"``) on `data`; privately, where the policy says so.

        Parameters
        ----------
        spend
            The ε of this run, where it is to be less than the policy's.
        checkpoint
            A folder for the state of private training. Where a killed run of the same model, data, seed and policy left one, training goes on
            from it and spends the budget that was reserved for that run; else it begins. Deleted when the run ends.
        distributed
            Share the work of private training among the processes of torch.distributed's default group. Each opens this workspace, loads the
            same rows and makes this call; each gets the model, and the data set's budget is charged once.

        Raises
        ------
        UsageError
            The type is unknown; the message lists the known ones.
        Refused
            The policy or the data set's privacy budget refuses; the message says what would satisfy it.
        """
        _loaded(data, "train on")
        instance: Model = self.registry.get("model", model)(**params)
        folder = None if checkpoint is None else Path(checkpoint)
        training = Training(
            validation=validation,
            seed=seed,
            spend=spend,
            checkpoint=folder,
            distributed=distributed,
            report=report or (lambda progress: None),
        )
        call = TrainCall(self, self.actor, model=instance, data=data, training=training)
        fitted: Model = self._pipeline.run(call)
        fitted._governed = True
        explaining.keep_background(self, fitted, call.data, seed)
        return fitted

    def evaluate(self, model: Model, data: Dataset, *, seed: int = 0) -> Evaluation:
        """Measure `model` on `data`: quality with 95 % intervals, and group figures for the policy's protected columns."""
        _loaded(data, "evaluate on")
        result: Evaluation = self._pipeline.run(EvaluateCall(self, self.actor, model=model, data=data, seed=seed))
        return result

    def explain(self, model: Model, data: Dataset, *, background: Dataset | None = None, method: str | None = None, **options: Any) -> Explanation:
        """Attribute each row's prediction to the input fields.

        Parameters
        ----------
        background
            The reference rows; default: a sample of the training data.
        method
            ``"exact"``, ``"linear"``, ``"tree"``, ``"leverage"``, ``"permutation"``, ``"partition"``, ``"gradient"``, ``"kernel"``, ``"deep"``,
            ``"lime"``, or a plugin's; default: the best one for the model.
        options
            ``label`` (the class to explain), ``seed``, one of ``budget`` (model rows a row), ``seconds`` (a row) and ``width`` (of the
            intervals), ``quality`` (true, or model rows) and ``reconstruction`` (true) to measure what came out, and what the method takes.
        """
        _loaded(data, "explain")
        result: Any = explaining.explain(self, model, data, background, method, options)
        return result  # type: ignore[no-any-return]  # the pipeline checks the record against the call's scope

    def explain_model(
        self, model: Model, data: Dataset, *, method: str = "permutation-importance", background: Dataset | None = None, **options: Any
    ) -> GlobalExplanation:
        """Describe what a model does over `data` as a whole (docs/explaining-models.md lists the methods)."""
        _loaded(data, "explain")
        result: Any = explaining.explain(self, model, data, background, method, options, scope="model")
        return result  # type: ignore[no-any-return]  # as in explain

    def counterfactuals(
        self, model: Model, data: Dataset, *, method: str = "counterfactual", background: Dataset | None = None, **options: Any
    ) -> Counterfactuals:
        """For each row, the nearest plausible changes that flip the decision (docs/counterfactuals.md)."""
        _loaded(data, "explain")
        result: Any = explaining.explain(self, model, data, background, method, options, scope="changes")
        return result  # type: ignore[no-any-return]  # as in explain

    def replay(
        self, record: Explanation | str | Path, data: Dataset, *, model: Model | None = None, background: Dataset | None = None
    ) -> explaining.Replay:
        """Make a recorded explanation again from the same rows, and say whether every number came out the same.

        Parameters
        ----------
        record
            An explanation, or the file that `Explanation.save` wrote.
        data
            The explained rows, loaded into this workspace.
        model, background
            Default: the registered version that the record names, and its own background.

        Raises
        ------
        IntegrityError
            The record's signature does not hold, or it is of other rows or another model.
        """
        _loaded(data, "replay on")
        return explaining.replay(self, record, data, model=model, background=background)

    def package(self, model: Model) -> Artifact:
        """Write `model` as an artifact: sealed, content-addressed, never pickle."""
        artifact: Artifact = self._pipeline.run(PackageCall(self, self.actor, model=model))
        return artifact

    def register(self, model: Model, name: str) -> Version:
        """Package `model` and give it the next version of `name`."""
        artifact = self.package(model)
        version: Version = self._pipeline.run(RegisterCall(self, self.actor, artifact=artifact, name=name))
        return version

    def enrol(self, approver: Approver | bytes, *, name: str | None = None, roles: Sequence[str]) -> None:
        """Enter a person's public key and roles, so that the person may approve."""
        key = approver.public_key if isinstance(approver, Approver) else approver
        label = name or (approver.name if isinstance(approver, Approver) else "")
        self.service("roster")(self).enrol(key, name=label, roles=tuple(roles))

    def approve(self, version: Version | str, alias: str, *, approver: Approver) -> None:
        """Record one person's signed approval of `version` for `alias`."""
        target = self.versions.get(version)
        signature = approver.sign(approval_message(self.store.workspace_id, target, alias))
        actor = Actor(approver.name, key=approver.fingerprint)
        self._pipeline.run(ApproveCall(self, actor, version=target, alias=alias, key=approver.public_key, signature=signature))

    def promote(self, version: Version | str, alias: str, *, approver: Approver | Sequence[Approver] | None = None) -> Version:
        """Point `alias` at `version`, if the policy's gates hold and its approvals are there.

        Parameters
        ----------
        approver
            People who approve at the same time; approvals recorded before count as well.
        """
        target = self.versions.get(version)
        for person in [approver] if isinstance(approver, Approver) else approver or []:
            self.approve(target, alias, approver=person)
        result: Version = self._pipeline.run(PromoteCall(self, self.actor, version=target, alias=alias))
        return result

    def deploy(self, version: Version | str, *, target: str = "in-process", **options: Any) -> Endpoint:
        """Start an endpoint for a promoted version, for example ``deploy("credit-risk@production", target="http", port=8080)``."""
        chosen = self.versions.get(version)
        deployment = self.registry.get("target", target)()
        predictor = GovernedPredictor(self, self.model(chosen), chosen)
        call = DeployCall(self, self.actor, deployment=deployment, predictor=predictor, version=chosen, options=options)
        endpoint: Endpoint = self._pipeline.run(call)
        self._endpoints.append(endpoint)
        return endpoint

    def predict(self, model: Model | Version | str, data: Any) -> Predictions:
        """Answer each row of `data` (a data set, a frame, a dict of columns or a list of dicts)."""
        if isinstance(model, Model):
            predictor = GovernedPredictor(self, model, None)
        else:
            version = self.versions.get(model)
            predictor = GovernedPredictor(self, self.model(version), version)
        return predictor.predict(_rows(data, predictor.signature.inputs))

    # -- looking back ---------------------------------------------------------------------------------------------------------------

    def model(self, version: Version | str) -> Model:
        """The model behind a version, checked byte for byte against its digest."""
        chosen = self.versions.get(version)
        model = self._models.get(chosen.artifact)
        if model is None or self.model_digest(model) != chosen.artifact:  # somebody fitted the one in memory again
            model = load_model(chosen.artifact, self.objects, self.registry)
            model._governed = True
            self._models[chosen.artifact] = model
            self._digests[model] = (model.signature, chosen.artifact)
        return model

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML report in which each number names its evidence."""
        return _write(Path(path), self.service("report")(self).encode())

    def bundle(self, path: str | Path) -> Path:
        """Write the file that an auditor gets: evidence, proofs, checkpoint and report."""
        self.ledger.seal_journals()
        written: Path = self.service("bundle")(self, Path(path), report_html=self.service("report")(self))
        return written

    def budget(self) -> list[dict[str, JSON]]:
        """What each data set has spent and has left, a row each."""
        rows: list[dict[str, JSON]] = self.service("budget")(self.store).status()
        return rows

    def settle(self, call: str, *, reason: str, nothing_ran: bool = False, checkpoint: str | Path | None = None) -> None:
        """Settle the privacy budget that a dead process had reserved for `call`, with evidence of who did it and why.

        It becomes spent as it was reserved, or as the call's outcome or its checkpoint says that it ran.

        Parameters
        ----------
        call
            One of the ``unsettled_calls`` of `budget`.
        nothing_ran
            Give it back instead, on the actor's word; refused where evidence shows that something ran.
        checkpoint
            The folder of the run's checkpoint, which counts the steps that were taken.
        """
        self.service("settle_budget")(self, call, reason=reason, nothing_ran=nothing_ran, checkpoint=checkpoint)

    def prompt_masker(self, **options: Any) -> Any:
        """Masks one request to a language model and unmasks its reply, under the workspace's policy and key (docs/masking-prompts.md)."""
        return self.service("prompt_masker")(self, **options)

    def reveal(self, data: Any, *, purpose: str, by: Approver | None = None, fields: revealing.Fields = None, table: str | None = None) -> Any:
        """Masked rows (or the values of one column) with originals, where the policy allows `by` to see them for `purpose` (docs/revealing.md)."""
        return revealing.reveal(self, data, purpose=purpose, by=by, fields=fields, table=table)

    def reveal_text(self, text: str, *, purpose: str, by: Approver | None = None) -> str:
        """A text with originals in the place of its tokens, as `reveal`."""
        return revealing.reveal_text(self, text, purpose=purpose, by=by)

    def shred(self, subject: str, *, reason: str, by: Approver | Sequence[Approver] | None = None) -> revealing.Receipt:
        """Destroy the key of `subject`: nobody can read again what was sealed with it. `by` are those who ask, as ``approvals.shred`` wants them."""
        return revealing.shred(self, subject, reason=reason, by=by)

    @property
    def verifier_key(self) -> str:
        """What an auditor passes to ``affidavit verify --key``. Hand it over by another road than the bundle."""
        return self.keyring.verifier_key

    @property
    def recovered(self) -> list[str]:
        """What opening this workspace had to mend after a crash, in words."""
        return [*self.store.recovered, *self.ledger.recovered]

    # -- for governance -------------------------------------------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """The names that plugins registered."""
        return self._manager.registry

    @property
    def plugins(self) -> PluginManager:
        """The sealed manager: what is loaded, and what failed and why."""
        return self._manager

    def service(self, name: str) -> Any:
        """A service that a governance module registered."""
        return self.registry.get("service", name)

    def digest(self, value: JSON) -> str:
        """Hex SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
        return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()

    def model_digest(self, model: Model) -> str:
        """The digest of the artifact that `model` is, or would be. Remembered until the model is fitted again, which gives it a new signature."""
        signature, digest = self._digests.get(model, (None, ""))
        if not digest or signature is not model.signature:
            digest = model_digest(model)
            self._digests[model] = (model.signature, digest)
        return digest

    def background(self, model: Model) -> Dataset | None:
        """A sample of the (masked) training rows, the reference of explanations; None for a model trained elsewhere."""
        return explaining.read_background(self, model)

    def _record_policy(self, given: Policy | None) -> None:
        """Put a policy in the ledger whenever it is another than last time, and refuse a stored one that is not the one recorded last."""
        recorded = None
        for evidence in self.ledger.entries("policy"):
            recorded = Policy.model_validate(evidence.predicate["content"])
        if given is None and recorded is not None and recorded != self.policy:
            raise IntegrityError(
                "The stored policy is not the one that the ledger recorded last: policy.json was changed or removed by another hand.",
                hint="Open the workspace with policy=FILE to put a policy in force; that is recorded.",
            )
        if recorded != self.policy:
            content = self.policy.model_dump(mode="json")
            self.ledger.append("policy", subject={"policy": self.policy.digest}, predicate={"content": content, "by": self.actor.name})
        if given is not None or not self.store.files.exists("policy.json"):
            self.store.files.write("policy.json", self.policy.model_dump_json().encode())

    def _record_plugins(self) -> None:
        """Put the set of plugins in the ledger whenever it is another than last time."""
        plugins = sorted(self._manager.plugins, key=lambda info: (info.distribution, info.name))
        rows = [
            {"name": info.name, "distribution": info.distribution, "version": info.version, "digest": info.digest, "altered": info.altered}
            for info in plugins
        ]
        digest = self.digest(rows)
        last = self.store.files.read("plugins.sha256").decode() if self.store.files.exists("plugins.sha256") else None
        if digest == last:
            return
        refused = [{"name": failure.name, "distribution": failure.distribution} for failure in self._manager.failures]
        self.ledger.append("plugin", subject={"plugins": digest}, predicate={"plugins": rows, "refused": refused})
        self.store.files.write("plugins.sha256", digest.encode())

    def close(self) -> None:
        """Stop endpoints, seal the prediction journal and release everything."""
        for endpoint in self._endpoints:
            endpoint.stop()
        self._endpoints.clear()
        self._pipeline.close()
        self.ledger.close()
        self.store.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({self.store.workspace_id[:12]}, {len(self.ledger)} entries)"


def _loaded(data: object, what: str) -> None:
    if not isinstance(data, Dataset):
        raise UsageError(
            f"The rows to {what} are of type {type(data).__name__}, not a Dataset.", hint="Load them first: Workspace.load(rows, target=…)."
        )


def _rows(data: Any, inputs: Schema) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (Mapping, list)):
        return Dataset.from_rows(data, inputs)
    return Dataset.from_arrow(data)


def _read_policy(policy: str | Path | Policy | Mapping[str, Any] | None) -> Policy | None:
    if policy is None or isinstance(policy, Policy):
        return policy
    return Policy.read(policy) if isinstance(policy, (str, Path)) else parse_model(Policy, dict(policy), whose="The policy")


def _write(path: Path, content: bytes) -> Path:
    write_atomic(path, content)
    return path
