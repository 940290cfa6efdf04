"""The base of every torch model type: a type says how it reads its columns and which module it trains; the base does the rest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Param
from torch import Tensor, nn

from affidavit.errors import IntegrityError, InvalidInput, PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Model, OnnxView, Predictions, Signature, TorchView
from affidavit.interfaces.schema import Role, Schema
from affidavit.interfaces.training import Progress, Training, TrainingEngine
from affidavit.onnx_format import INPUT
from affidavit_plugins.torch_base import loop
from affidavit_plugins.torch_base.engine import PlainEngine
from affidavit_plugins.torch_base.norms import follow_replacements
from affidavit_plugins.torch_base.seeding import seeded
from affidavit_plugins.torch_base.target import Target

if TYPE_CHECKING:
    from affidavit.artifacts import ArtifactReader, ArtifactWriter

RowLosses = Callable[[NDArray[np.int64]], Tensor]
"""Gives the losses of the rows asked for, shape ``(len(indices),)``."""

VALIDATION_SHARE = 0.15
"""Share of the training rows held out for early stopping where no validation rows are given."""

PRIVATE_BATCH = 256
"""Expected rows of a private step by default: noise is added once a step, so a larger batch drowns it; at 750 rows this is a third."""


class TorchParams(BaseModel):
    """Parameters that every torch type has.

    Attributes
    ----------
    epochs
        Passes over the training rows. None chooses what suits the type: see its `defaults`.
    batch_size
        Rows in a step; in private training the expected number. None chooses 256 in private training, else an eighth of the rows, at most 64.
    learning_rate
        Step size of the first epoch; it falls by half a cosine. None chooses, as for epochs.
    optimizer
        ``"sgd"``, ``"momentum"`` (SGD with momentum 0.9) or ``"adam"``.
    l1, l2
        Penalties ``l1 * |w|`` and ``l2 / 2 * w**2`` on the weight matrices, applied as proximal steps; they cost no privacy.
    patience
        Stop when this many epochs brought no lower validation loss, and keep the best weights. None trains all epochs. Refused in private
        training, which may not choose by rows it reads without noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Annotated[int, Param(ge=1, le=10_000)] | None = None
    batch_size: Annotated[int, Param(ge=1)] | None = None
    learning_rate: Annotated[float, Param(gt=0, allow_inf_nan=False)] | None = None
    optimizer: loop.Optimizer = "adam"
    l1: Annotated[float, Param(ge=0, allow_inf_nan=False)] = 0.0
    l2: Annotated[float, Param(ge=0, allow_inf_nan=False)] = 0.0
    patience: Annotated[int, Param(ge=1)] | None = None


class TorchModel(Model):
    """A model type whose module is trained by gradient steps.

    A type implements `prepare`, `build`, `encode`, `write_encoding` and `read_encoding`, and `collate` where a batch is more than rows of
    one tensor. Seeds: the same seed, rows and thread count give the same weights bit for bit, unless the engine is private.

    Attributes
    ----------
    predict_rows
        Rows that go through the module at once in `predict`.
    predict_dtype
        Precision of `predict`. Training is in single precision always.
    """

    params: Any
    Params = TorchParams
    predict_rows: ClassVar[int] = 1024
    predict_dtype: ClassVar[torch.dtype] = torch.float32
    _module: nn.Module | None = None
    _target: Target

    # -- what a type gives ----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def prepare(self, data: Dataset, engine: TrainingEngine) -> None:
        """Learn how to read the features of `data`. What depends on its values must come from `engine`, or privacy is lost."""

    @abstractmethod
    def build(self, outputs: int) -> nn.Module:
        """A new module that gives rows × `outputs`. Called with torch's generator seeded, and on loading."""

    @abstractmethod
    def encode(self, data: Dataset) -> Any:
        """All rows as something that `collate` takes batches from: by default one tensor, rows first."""

    def collate(self, inputs: Any, indices: Tensor) -> tuple[Tensor, ...]:
        """The module's arguments for the rows `indices` (int64, maybe none) of what `encode` gave."""
        return (inputs[indices],)

    def predict_batches(self, inputs: Any, rows: int) -> Iterator[Tensor]:
        """Indices of the rows that go through the module together in `predict`: all rows, each once."""
        for start in range(0, rows, self.predict_rows):
            yield torch.arange(start, min(start + self.predict_rows, rows))

    def defaults(self, *, private: bool) -> tuple[int, float]:
        """Epochs and learning rate where the parameters leave them open."""
        return (20, 0.01)

    @abstractmethod
    def write_encoding(self, files: ArtifactWriter) -> None:
        """Write what `prepare` learnt."""

    @abstractmethod
    def read_encoding(self, files: ArtifactReader) -> None:
        """Read what `write_encoding` wrote."""

    def settings(self, rows: int, *, private: bool) -> loop.LoopSettings:
        """The parameters with the open choices made; never by the rows' values, and in private training not by their number."""
        epochs, learning_rate = self.defaults(private=private)
        given = self.params
        return loop.LoopSettings(
            epochs=given.epochs or epochs,
            batch_size=given.batch_size or default_batch_size(rows, private=private),
            learning_rate=given.learning_rate or learning_rate,
            optimizer=given.optimizer,
            l1=given.l1,
            l2=given.l2,
            patience=given.patience,
        )

    # -- what the base does ---------------------------------------------------------------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """The trained module, in evaluation mode. Raises UsageError before `fit`."""
        if self._module is None:
            raise UsageError(f"This {self.type} is not fitted yet.", hint="Train it with Workspace.train.")
        return self._module

    def fit(self, data: Dataset, training: Training | None = None) -> Self:
        """Learn from the rows of `data` and set `signature`; on any error the model is left unfitted.

        Columns with the role ``weight`` multiply their rows' losses.

        Raises
        ------
        InvalidInput
            Columns that this type cannot read, a target with missing values, or training that diverged.
        UsageError
            No target; early stopping in private training.
        """
        training = training or Training()
        engine = training.engine or PlainEngine()
        self.signature, self._module = None, None
        if engine.private and (self.params.patience is not None or training.validation is not None):
            raise UsageError(
                f"Model type '{self.type}' cannot stop early in private training: validation rows would be read without noise.",
                hint="Leave out 'patience' and the validation rows, and choose 'epochs'.",
            )
        target = Target.learn(data, engine)
        names = tuple(field.name for field in data.schema.features)
        if not names:
            raise InvalidInput(f"Data set '{data.name}' has no feature columns.", hint="Give some columns the role 'feature'.")
        signature = Signature(data.schema.select(names), target.task, target.field.name, target.classes)
        # A pass over the data may take long before the first step, so say that work began; the report may also cancel it.
        training.report(Progress(0, self.settings(len(data), private=engine.private).epochs, "reading"))
        with seeded(training.seed):
            self.prepare(signature.conform(data), engine)
            module = self.build(target.outputs)
            self._train(module, target, data, signature, training, engine)
        self._module = module.to(self.predict_dtype)
        self._target, self.signature = target, signature
        return self

    def _train(self, module: nn.Module, target: Target, data: Dataset, signature: Signature, training: Training, engine: TrainingEngine) -> None:
        """Run the loop, with validation rows where there is early stopping."""
        losses = self._row_losses(module, target, data, signature)
        settings = self.settings(len(data), private=engine.private)
        rows, held_out, held_out_losses = np.arange(len(data)), None, losses
        if settings.patience is not None and training.validation is None:
            rows, held_out = _hold_out(len(data), training.seed)
        elif settings.patience is not None and training.validation is not None:
            held_out = np.arange(len(training.validation))
            held_out_losses = self._row_losses(module, target, training.validation, signature)
        loop.run(
            module,
            lambda indices: losses(rows[indices]),
            rows=len(rows),
            settings=settings,
            engine=engine,
            seed=training.seed,
            report=training.report,
            validate=None if held_out is None else lambda: _mean_loss(held_out_losses, held_out, self.predict_rows),
        )

    def _row_losses(self, module: nn.Module, target: Target, data: Dataset, signature: Signature) -> RowLosses:
        """A function from row indices to the losses of these rows of `data`."""
        inputs = self.encode(signature.conform(data))
        targets = target.encode(data)
        weights = _weights(data)

        def losses(indices: NDArray[np.int64]) -> Tensor:
            chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
            result = target.losses(module(*self.collate(inputs, chosen)), targets[chosen])
            return result if weights is None else result * weights[chosen]

        return losses

    def predict(self, data: Dataset) -> Predictions:
        """Answer each row. Safe in several threads; a row's answer does not depend on its company beyond rounding."""
        module = self.module
        inputs = self.encode(self.fitted.conform(data))
        output = torch.zeros((len(data), self._target.outputs), dtype=self.predict_dtype)
        with torch.inference_mode():
            for indices in self.predict_batches(inputs, len(data)) if len(data) else ():
                output[indices] = module(*self.collate(inputs, indices))
        return self._target.predictions(output)

    def torch_view(self) -> TorchView:
        """The module, its input encoding and its score, for types with the capability `torch_module`."""
        return TorchView(self.module, self._first_argument, score=self._target.answers)

    def onnx_layers(self) -> Sequence[nn.Module]:
        """The module as layers applied one after the other to what `onnx_rows` gives, for types with the capability `onnx`."""
        raise PluginError(f"Model type '{self.type}' does not say which layers its ONNX graph has.")

    def onnx_rows(self, data: Dataset) -> Tensor:
        """What the first of `onnx_layers` reads for conforming rows, in `predict_dtype`."""
        return self._first_argument(data).to(self.predict_dtype)

    def onnx_view(self) -> OnnxView:
        """The layers with the answers as a graph, for types with the capability `onnx`; it computes in `predict_dtype`, as `predict` does."""
        if not self.capabilities.onnx:
            return super().onnx_view()
        from affidavit_plugins.torch_base.onnx_layers import layered_graph

        none = self.onnx_rows(_no_rows(self.fitted.inputs))
        graph = layered_graph(self.onnx_layers(), self._target, none.new_zeros((1, *none.shape[1:])))
        return OnnxView(graph, lambda data: {INPUT: self.onnx_rows(data).numpy()})

    def _first_argument(self, data: Dataset) -> Tensor:
        return self.collate(self.encode(self.fitted.conform(data)), torch.arange(len(data)))[0]

    def save(self, files: ArtifactWriter) -> None:
        """Write the weights as safetensors, the encoding and the target's scale as JSON."""
        tensors = self.learnt(self.module)
        # Single precision, as they were trained: the cast for prediction added no digits.
        files.tensors("weights", {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in tensors.items()})
        files.json("target", self._target.to_json())
        self.write_encoding(files)

    @classmethod
    def load(cls, files: ArtifactReader) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        IntegrityError
            Weights and settings do not fit each other.
        """
        model = cls(**files.params)
        signature = files.signature
        model.read_encoding(files)
        model._target = Target.from_json(files.json("target"), task=signature.task, classes=signature.classes)
        with seeded(0):
            module = model.build(model._target.outputs)
        follow_replacements(module, files.tensors("weights").keys())
        model.load_weights(module, files, "weights", model.learnt(module))
        model._module = module.to(cls.predict_dtype).eval()
        model.signature = signature
        return model

    def learnt(self, module: nn.Module) -> dict[str, Tensor]:
        """What of `module` its artifact carries as weights: everything, where a type does not store a part in another way."""
        return dict(module.state_dict())

    def load_weights(self, module: nn.Module, files: ArtifactReader, name: str, expected: Mapping[str, Tensor] | None = None) -> None:
        """Fill `module`, or the part of it that `expected` names, with the tensors of a file. Raises IntegrityError where they do not fit."""
        tensors = files.tensors(name)
        shapes = {key: tuple(tensor.shape) for key, tensor in (module.state_dict() if expected is None else expected).items()}
        if {key: tuple(array.shape) for key, array in tensors.items()} != shapes:
            raise IntegrityError(f"The file '{name}' of this {self.type} does not fit its settings: other names or shapes.")
        # A copy, because the reader's arrays may be read-only and the module's must not be.
        module.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in tensors.items()}, strict=False)


def _no_rows(inputs: Schema) -> Dataset:
    """No rows of these columns, for the shape of their encoding."""
    columns: dict[str, Any] = {field.name: np.zeros((0, *(field.shape or ()))) for field in inputs}
    return Dataset.from_rows(columns, inputs)


def default_batch_size(rows: int, *, private: bool) -> int:
    """256 in private training, whatever the rows: their number may be private. Otherwise an eighth of the rows, at most 64."""
    return PRIVATE_BATCH if private else max(1, min(rows // 8, 64))


def _hold_out(rows: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and to validate on."""
    if rows < 2:
        raise InvalidInput("Early stopping needs at least two rows.", hint="Leave out 'patience'.")
    order = np.random.default_rng(seed).permutation(rows)
    held_out = max(1, round(rows * VALIDATION_SHARE))
    return order[held_out:], order[:held_out]


def _mean_loss(losses: RowLosses, indices: NDArray[np.int64], chunk: int) -> float:
    """The mean loss of the rows, without gradients."""
    with torch.inference_mode():
        return float(torch.cat([losses(indices[start : start + chunk]) for start in range(0, len(indices), chunk)]).mean())


def _weights(data: Dataset) -> Tensor | None:
    """The weight column, None where there is none."""
    fields = data.schema.with_role(Role.WEIGHT)
    if not fields:
        return None
    if len(fields) > 1:
        raise UsageError(f"Data set '{data.name}' has {len(fields)} weight columns.", hint="Give the role 'weight' to one column.")
    values = data.to_numpy(fields[0].name)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InvalidInput(f"Weight column '{fields[0].name}' of data set '{data.name}' has missing, infinite or negative values.")
    return torch.from_numpy(values.copy()).float()
