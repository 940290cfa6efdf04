"""The policy: what must be true, in one YAML file. Unknown keys are errors, and every default is the safe one."""

from __future__ import annotations

import hashlib
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.trust import Allowed

M = TypeVar("M", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Operator(_Section):
    """How one field is masked: a name, with settings where the operator takes any.

    In YAML either ``email: redact`` or ``age: {generalise: {width: 5}}``.
    """

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


def _operator(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        name, settings = next(iter(value.items()))
        return {"name": name, "settings": settings or {}}
    return value


class ReleaseRule(_Section):
    """What a data set must reach before it is handed out: measured over the quasi-identifiers after masking.

    Attributes
    ----------
    k
        Fewest rows that share all their quasi-identifiers (k-anonymity).
    l
        Fewest distinct values of each sensitive column in such a class (distinct l-diversity).
    t
        Largest distance of a sensitive column's distribution in a class from the one of all rows, between 0 and 1 (t-closeness).
    max_risk
        Largest chance to re-identify any row by its quasi-identifiers, between 0 and 1.
    """

    k: Annotated[int, Field(ge=2)] | None = None
    l: Annotated[int, Field(ge=2)] | None = None  # noqa: E741 - the measure's published name
    t: Annotated[float, Field(ge=0, le=1)] | None = None
    max_risk: Annotated[float, Field(gt=0, le=1)] | None = None


class RevealRule(_Section):
    """Who may see originals again, what for, and until when.

    Attributes
    ----------
    roles
        Any one of them is enough.
    purposes
        What the caller may name as purpose.
    fields, entities
        Columns and entities that the rule covers; empty is all.
    until
        Last day (UTC) that the rule holds.
    """

    roles: Annotated[tuple[str, ...], Field(min_length=1)]
    purposes: Annotated[tuple[str, ...], Field(min_length=1)]
    fields: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    until: date


class MaskingPolicy(_Section):
    """What is masked on the way in, and what it takes to hand masked data out or to see originals again.

    Attributes
    ----------
    detect
        Look for personal data in every column, also undeclared ones.
    threshold
        Score from which a finding counts, between 0 and 1.
    default
        The operator for found entities that no other line names.
    fields, entities
        Operators by column name, and by entity name; a field's line wins.
    thresholds
        Scores by entity, in the place of `threshold`.
    recognizers
        Recognizers to use besides the bundled ones, each with its settings.
    quasi_identifiers, sensitive
        Columns that together may identify a person, and columns that nobody should learn about a person.
    release
        What masked data must reach over them; without it nothing is checked.
    reveal
        Who may see originals again; without a rule nobody.
    """

    detect: bool = True
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.6
    default: Operator = Operator(name="redact")
    fields: dict[str, Operator] = Field(default_factory=dict)
    entities: dict[str, Operator] = Field(default_factory=dict)
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    recognizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    quasi_identifiers: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    release: ReleaseRule | None = None
    reveal: tuple[RevealRule, ...] = ()

    @field_validator("default", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return _operator(value)

    @field_validator("fields", "entities", mode="before")
    @classmethod
    def _each(cls, value: object) -> object:
        return {key: _operator(item) for key, item in value.items()} if isinstance(value, dict) else value


class PrivacyPolicy(_Section):
    """Differential privacy of training.

    Attributes
    ----------
    epsilon, delta
        The guarantee of one training run.
    unit, relation
        What a neighbouring data set differs in: one record, a group of any `unit_records` records, one user with at most `unit_records`
        records, or the label of one record; added or removed, or replaced.
    unit_records
        The size of a group, or the most records of one user that take part.
    user
        The column that names the user of each row, for the unit ``user``.
    dataset_budget
        The ε that one data set, with all that was made from it, may spend in its life at `delta`.
    sampler
        How batches are drawn: ``poisson``, or ``shuffle`` (each row once an epoch), whose bound has no amplification by sampling.
    max_grad_norm
        Clipping bound C of each example's gradient.
    records
        The public number of records, where it is not the row count. Sampling rate and divisor come from it.
    noise_multiplier
        A fixed σ instead of the smallest one that reaches `epsilon`; refused where its ε is above.
    without_noise
        The explicit word that allows a `noise_multiplier` of 0, which gives no privacy; the evidence says so.
    replace_batchnorm
        Put GroupNorm in the place of BatchNorm instead of refusing it.
    engine
        ``native``, or ``opacus`` for Opacus's per-example gradients.
    """

    epsilon: Annotated[float, Field(gt=0, le=100)] = 3.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    unit: Literal["record", "group", "user", "label"] = "record"
    unit_records: Annotated[int, Field(ge=1, le=1000)] = 1
    user: str | None = None
    relation: Literal["add-or-remove-one", "replace-one"] = "add-or-remove-one"
    dataset_budget: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    sampler: Literal["poisson", "shuffle"] = "poisson"
    max_grad_norm: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    records: Annotated[int, Field(gt=0, le=10**12)] | None = None
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    without_noise: bool = False
    replace_batchnorm: bool = False
    engine: Literal["native", "opacus"] = "native"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.user is None) == (self.unit == "user"):
            raise ValueError("the unit 'user' and the key 'user', which names its column, come together")
        if self.unit in ("record", "label") and self.unit_records != 1:
            raise ValueError("unit_records is for the units 'group' and 'user'")
        if self.noise_multiplier == 0 and not self.without_noise:
            raise ValueError("a noise multiplier of 0 gives no privacy; say without_noise: true if that is meant")
        if self.without_noise and self.noise_multiplier != 0:
            raise ValueError("without_noise goes with noise_multiplier: 0 only")
        return self


class Gate(_Section):
    """A bound on one metric.

    Attributes
    ----------
    bound
        ``value`` tests the point estimate, ``lower`` and ``upper`` the ends of its 95 % interval.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    bound: Literal["value", "lower", "upper"] = "value"


class ReasonWording(_Section):
    """How a reason reads, by language; ``{value}`` and ``{reference}`` stand for the row's value and the reference point's."""

    en: str | None = None
    zh: str | None = None


class ReasonPolicy(_Section):
    """Reasons for adverse decisions.

    Attributes
    ----------
    adverse
        The class that counts as adverse; default: the first class. For numbers see `below`.
    below
        For models that predict numbers: predictions below it are adverse.
    at_most
        Reasons given, at most four (the number that Regulation B's commentary, 12 CFR 1002.9(b)(2)-1, calls likely to be enough).
    language
        Of the wording.
    wording
        Sentences by feature, in the place of the default ones.
    """

    adverse: str | None = None
    below: float | None = None
    at_most: Annotated[int, Field(ge=1, le=4)] = 4
    language: Literal["en", "zh"] = "en"
    wording: dict[str, ReasonWording] = Field(default_factory=dict)


EXPLANATION_METRICS = (
    "deletion",
    "insertion",
    "deletion_gap",
    "insertion_gap",
    "infidelity",
    "infidelity_ratio",
    "sensitivity",
    "sensitivity_ratio",
)
"""What ``explain.gates`` may name; `affidavit_governance.explain.quality` measures them."""


class ExplainPolicy(_Section):
    """Attributes
    ----------
    required
        A version needs an explanation in evidence before it may be promoted.
    each_prediction
        Attach an explanation to every prediction.
    release
        What of an explanation may leave: ``full``; ``top-k``, the largest attributions; ``quantised``, steps instead of numbers;
        ``reason-codes``, the order of the strongest players without any number.
    top_k
        Attributions that ``top-k`` and ``reason-codes`` keep.
    levels
        Steps on each side of zero for ``quantised``.
    max_residual
        Largest additivity residual, relative to the output's scale. Only values that are said not to add up (a local surrogate's) may have more;
        they must come with intervals or a local R².
    min_local_r2
        Smallest R² of a local surrogate (lime); below it the explanation is refused.
    groups
        Fields that are one player together, by the player's name. Each model takes those of its inputs.
    immutable
        Fields that a counterfactual may not change, besides the protected ones.
    reasons
        Wording and number of the reasons for adverse decisions.
    gates
        Bounds on measured qualities of the explanations, such as ``deletion_gap``, that a version must reach before it may be promoted.
    max_reconstruction
        Largest share of the inputs that the reconstruction audit may give back from what is released; None measures without a bound.
    """

    required: bool = True
    each_prediction: bool = False
    release: Literal["full", "top-k", "quantised", "reason-codes"] = "full"
    top_k: Annotated[int, Field(ge=1, le=100)] = 3
    levels: Annotated[int, Field(ge=1, le=100)] = 4
    max_residual: Annotated[float, Field(gt=0)] = 1e-6
    min_local_r2: Annotated[float, Field(ge=0, le=1)] = 0.1
    groups: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    immutable: tuple[str, ...] = ()
    reasons: ReasonPolicy = ReasonPolicy()
    gates: tuple[Gate, ...] = ()
    max_reconstruction: Annotated[float, Field(gt=0, le=1)] | None = None

    @field_validator("gates")
    @classmethod
    def _measured(cls, value: tuple[Gate, ...]) -> tuple[Gate, ...]:
        for gate in value:
            if gate.metric not in EXPLANATION_METRICS:  # no version could ever pass it
                guess = nearest(gate.metric, EXPLANATION_METRICS)
                raise ValueError(f"no quality of explanations is called '{gate.metric}'.{guess} Measured: {', '.join(EXPLANATION_METRICS)}")
        return value


class QualityPolicy(_Section):
    """Floors that an evaluation must reach before a version may be promoted."""

    gates: tuple[Gate, ...] = ()


class FairnessPolicy(_Section):
    """Attributes
    ----------
    protected
        Columns whose groups are compared. They get the role `protected` and are no model input.
    gates
        Bounds on group gaps and ratios; each must hold for every protected column.
    favourable
        The class that counts as selected; default: the last class.
    bins
        Edges for numeric protected columns, by name, for example ``{age: [26]}``; default: the median.
    """

    protected: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    favourable: str | None = None
    bins: dict[str, tuple[float, ...]] = Field(default_factory=dict)


class ApprovalRule(_Section):
    """How many people, and in which roles, must approve before an alias moves."""

    count: Annotated[int, Field(ge=0)] = 1
    roles: tuple[str, ...] = ()


class PluginPolicy(_Section):
    """Attributes
    ----------
    allow
        Distributions that may provide plugins: by name, with versions (``acme-models>=1,<2``), with the digest of their files
        (``acme-models==1.2@sha256:…``).
    """

    allow: tuple[str, ...] = ("affidavit",)

    @field_validator("allow")
    @classmethod
    def _lines(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for line in value:
            try:
                Allowed.parse(line)
            except UsageError as error:
                raise ValueError(f"{error.message} {error.hint}") from None
        return value


class RetentionPolicy(_Section):
    """How long records are kept, as ``180d`` (days)."""

    predictions: str = "180d"

    @field_validator("predictions")
    @classmethod
    def _days(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,4}d", value):
            raise ValueError("write a number of days, such as 180d")
        return value


class Policy(_Section):
    """What must be true. The empty policy masks and audits, and asks for one approval before ``production``."""

    masking: MaskingPolicy = MaskingPolicy()
    privacy: PrivacyPolicy | None = None
    explain: ExplainPolicy = ExplainPolicy()
    fairness: FairnessPolicy = FairnessPolicy()
    quality: QualityPolicy = QualityPolicy()
    approvals: dict[str, ApprovalRule] = Field(default_factory=lambda: {"production": ApprovalRule()})
    plugins: PluginPolicy = PluginPolicy()
    retention: RetentionPolicy = RetentionPolicy()

    @classmethod
    def read(cls, path: str | Path) -> Policy:
        """Read a policy file. Raises UsageError or InvalidInput, naming file and key."""
        return parse_model(cls, read_yaml(path), whose=f"Policy {Path(path).name}")

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the policy's canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file. Raises UsageError where it is absent, InvalidInput where it is no YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"'{path}' is not UTF-8 text (byte {error.start}).") from error
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise InvalidInput(f"'{path}' is no valid YAML{where}.") from error


def parse_model(model: type[M], value: object, *, whose: str) -> M:
    """Validate `value`, with one clear error: the key path, what is wrong with it, and the nearest known key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _known_keys(model, first["loc"][:-1])
            hint = f"Known keys: {', '.join(known)}." if known else None
            raise InvalidInput(f"{whose}: unknown key '{path}'.{nearest(str(first['loc'][-1]), known)}", hint=hint) from None
        raise InvalidInput(f"{whose}: '{path or 'the file'}' is wrong: {first['msg']}.") from None


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)) or part not in current.model_fields:
            return []
        annotation = current.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        current = next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
