"""The model interface, and the records that models exchange with everything around them."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from affidavit.errors import InvalidInput, PluginError, UngovernedCallWarning, UsageError, nearest
from affidavit.interfaces.schema import Schema
from affidavit.interfaces.training import Training

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from affidavit.artifacts import ArtifactReader, ArtifactWriter
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.explanation import Explanation

inside_call: ContextVar[bool] = ContextVar("affidavit_inside_call", default=False)
"""True while a governed call runs, so that a governed model notices when somebody calls it directly."""


class Task(StrEnum):
    """What a model predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"

    @property
    def classifies(self) -> bool:
        """Whether the answer is one of a few classes."""
        return self is not Task.REGRESSION


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model type can do. All off by default; code asks for a capability, never for a model's name.

    Attributes
    ----------
    private_training
        `fit` uses the training engine for its statistics, batches and steps.
    probabilities
        `predict` gives class probabilities.
    torch_module
        `torch_view` gives a torch module and its input encoding.
    tree_ensemble, linear
        `encoded_view` gives a scikit-learn tree ensemble, or coefficients, with the input encoding.
    token_inputs
        The input is text that the model splits into tokens.
    onnx
        `onnx_view` gives the model as an ONNX graph.
    streaming
        `fit` reads batches and never loads the whole data set.
    """

    private_training: bool = False
    probabilities: bool = False
    torch_module: bool = False
    tree_ensemble: bool = False
    linear: bool = False
    token_inputs: bool = False
    onnx: bool = False
    streaming: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The capabilities that are on."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name))


CAPABILITIES = tuple(each.name for each in fields(Capabilities))
"""The names of all capabilities."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes into a model and what comes out.

    Attributes
    ----------
    inputs
        The feature fields, in the order that the model was trained on.
    task
        What it predicts.
    target
        The predicted field's name.
    classes
        Class labels as text in the order of the probability columns; empty for regression.
    """

    inputs: Schema
    task: Task
    target: str
    classes: tuple[str, ...] = ()

    def conform(self, data: Dataset) -> Dataset:
        """Give `data`'s columns in the trained order and type; columns that the model does not know are left out.

        Raises
        ------
        InvalidInput
            A column is missing or has another type than in training.
        """
        from affidavit.interfaces.columns import conform

        return conform(data, self.inputs)

    def to_json(self) -> dict[str, Any]:
        """The signature as a JSON object."""
        return {"inputs": self.inputs.to_json(), "task": str(self.task), "target": self.target, "classes": list(self.classes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Signature:
        """Read what `to_json` wrote."""
        return cls(Schema.from_json(value["inputs"]), Task(value["task"]), str(value["target"]), tuple(value["classes"]))


@dataclass(slots=True)
class Predictions:
    """A model's answers for a batch.

    Attributes
    ----------
    values
        Class labels (text, shape n) or numbers (float64, shape n).
    classes
        Labels of the probability columns; empty for regression.
    probabilities
        Shape n × classes, rows sum to one; None where the model gives labels only.
    explanations
        Attached by governance where the policy asks for them with each prediction.
    """

    values: NDArray[Any]
    classes: tuple[str, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    explanations: Explanation | None = None

    def __len__(self) -> int:
        return len(self.values)

    def score(self, label: str | None = None) -> NDArray[np.float64]:
        """One number a row: the probability of `label` (default: the last class), or the value itself for regression.

        Raises
        ------
        UsageError
            The class does not exist, or the model gives labels only.
        """
        if not self.classes:
            return self.values.astype("float64")
        if self.probabilities is None:
            raise UsageError("This model gives labels only, no probabilities.")
        label = self.classes[-1] if label is None else label
        if label not in self.classes:
            raise UsageError(f"There is no class '{label}'.{nearest(label, self.classes)}", hint=f"Classes: {', '.join(self.classes)}.")
        return self.probabilities[:, self.classes.index(label)]


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95 % interval (None where the metric has none)."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """The metric as a JSON object."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model did on a data set.

    Attributes
    ----------
    metrics
        By name: ``accuracy``, ``roc_auc``… for classification, ``mae``, ``rmse``, ``r2`` for regression.
    curves
        Lists of numbers to draw, by name: ``roc`` (fpr, tpr), ``precision_recall``, ``calibration``.
    fairness
        Group figures by protected field, from the fairness module; empty where there is no protected field.
    """

    task: Task
    rows: int
    data: str
    metrics: Mapping[str, Metric]
    curves: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    fairness: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        if name not in self.metrics:
            raise UsageError(f"There is no metric '{name}'.{nearest(name, self.metrics)}", hint=f"Metrics: {', '.join(self.metrics)}.")
        return self.metrics[name].value

    def to_json(self) -> dict[str, Any]:
        """The evaluation as a JSON object."""
        return {
            "task": str(self.task),
            "rows": self.rows,
            "data": self.data,
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "curves": {name: dict(curve) for name, curve in self.curves.items()},
            "fairness": dict(self.fairness),
        }


@dataclass(frozen=True, slots=True)
class EncodedView:
    """The inside of a linear or tree model, for exact explanations.

    Attributes
    ----------
    encode
        Turns conforming rows into the matrix (rows × columns, float64) that `estimator` reads.
    players
        For each matrix column, the input field that it comes from.
    estimator
        A fitted scikit-learn tree or ensemble; None for a linear model.
    coefficients, intercept
        Of the linear score, for a linear model: shape columns, and a number. For several classes: classes × columns, and classes.
    output
        ``"probability"``, ``"log-odds"`` or ``"value"``: what the estimator's raw score is.
    answer
        What `predict` answers for rows of the matrix: probabilities (rows × classes), or values (shape rows). It must equal `predict` on the
        rows that were encoded; explainers use it to ask many mixtures of rows without building tables. None where there is no such road.
        Safe in several threads, like `predict`.
    projection, head
        Where the model reads its matrix only through one linear layer: that layer's weights, columns × units, and what `answer` does with
        ``matrix @ projection``. What each player adds to the product is then worked out once. Both or neither. `head` may be given single
        precision, and may then answer in it: mixtures that only serve an estimate with error bars are asked so. `head` is safe in threads too.
    """

    encode: Callable[[Dataset], NDArray[np.float64]]
    players: tuple[str, ...]
    estimator: Any = None
    coefficients: NDArray[np.float64] | None = None
    intercept: NDArray[np.float64] | float | None = None
    output: str = "value"
    answer: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    projection: NDArray[np.float64] | None = None
    head: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None


@dataclass(frozen=True, slots=True)
class TorchView:
    """The inside of a torch model, for methods that need its gradients.

    Attributes
    ----------
    module
        A ``torch.nn.Module`` in evaluation mode; shared with the model, so do not change it.
    encode
        Turns conforming rows into the tensor that `module` reads, rows first.
    players
        For each column of a two-dimensional encoding, the input field that it comes from; empty where the encoding is no such matrix.
    score
        Turns the module's output into what `predict` answers, as a differentiable function: probabilities (rows × classes) or values.
    """

    module: Any
    encode: Callable[[Dataset], Any]
    players: tuple[str, ...] = ()
    score: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class OnnxView:
    """A model as an ONNX graph, for runtimes without this library.

    Attributes
    ----------
    graph
        The bytes of a self-contained ONNX file: the same for one model each time, without external data, notes or paths. Its first axis is the
        rows, one or more. Its only output is what `predict` answers: ``probabilities`` (rows × classes) or ``values`` (shape rows).
    encode
        Turns conforming rows into the arrays that the graph reads, by the names of its inputs, rows first.
    encoding
        What `encode` does, as a JSON object; None where it cannot be said so. Whoever runs the graph elsewhere has to do the same.
    """

    graph: bytes
    encode: Callable[[Dataset], Mapping[str, NDArray[Any]]]
    encoding: Mapping[str, Any] | None = None


ParamsType = type[BaseModel]
"""Named outside `Model`, whose attribute `type` hides the built-in one."""


class NoParams(BaseModel):
    """A model type without parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(ABC):
    """A model type: subclass it, name it, and register it.

    Attributes
    ----------
    type
        The registered name, for example ``"tabular.mlp"``.
    Params
        A pydantic class with the parameters, their defaults and bounds. Use ``extra="forbid"``.
    capabilities
        What the type can do.
    signature
        None until fitted.
    """

    type: ClassVar[str]
    Params: ClassVar[ParamsType] = NoParams
    capabilities: ClassVar[Capabilities] = Capabilities()
    signature: Signature | None = None
    _governed: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("fit", "predict"):
            if name in cls.__dict__:
                setattr(cls, name, _warn_outside_governance(cls.__dict__[name]))

    def __init__(self, **params: Any) -> None:
        try:
            self.params = self.Params(**params)
        except ValidationError as error:
            known = self.Params.model_fields
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "?"
            suggestion = nearest(name, known) if name not in known else ""
            raise InvalidInput(
                f"Model type '{self.type}', parameter '{name}': {first['msg']}.{suggestion}", hint=f"Parameters: {', '.join(known)}."
            ) from None

    @property
    def fitted(self) -> Signature:
        """The signature of a fitted model. Raises UsageError before `fit`."""
        if self.signature is None:
            raise UsageError(f"This {self.type} is not fitted yet.", hint="Train it with Workspace.train.")
        return self.signature

    @abstractmethod
    def fit(self, data: Dataset, training: Training | None = None) -> Self:
        """Learn from the rows of `data` (its features and target) and set `signature`."""

    @abstractmethod
    def predict(self, data: Dataset) -> Predictions:
        """Answer each row. Give `data` through `signature.conform` first; extra columns are fine, an empty batch gives an empty answer."""

    @abstractmethod
    def save(self, files: ArtifactWriter) -> None:
        """Write weights and settings. There is no pickle: use safetensors, skops, JSON."""

    @classmethod
    @abstractmethod
    def load(cls, files: ArtifactReader) -> Self:
        """Read what `save` wrote; the manifest's parameters and signature are in `files`."""

    def encoded_view(self) -> EncodedView:
        """The inside of the model, for types with `linear` or `tree_ensemble`, or whose columns each come from one field."""
        raise PluginError(f"Model type '{self.type}' has no encoded view.")

    def torch_view(self) -> TorchView:
        """The module and its input encoding, for types with `torch_module`."""
        raise PluginError(f"Model type '{self.type}' has no torch view.")

    def onnx_view(self) -> OnnxView:
        """The model as an ONNX graph with its input encoding, for types with `onnx`. Raises MissingExtra where onnx is not installed."""
        raise PluginError(f"Model type '{self.type}' has no ONNX view.")


def _warn_outside_governance(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def watched(self: Model, *args: Any, **kwargs: Any) -> Any:
        if self._governed and not inside_call.get():
            warnings.warn(
                f"{self.type}.{method.__name__} was called directly: nothing is masked, checked or recorded. Use the workspace.",
                UngovernedCallWarning,
                stacklevel=2,
            )
        return method(self, *args, **kwargs)

    return watched
