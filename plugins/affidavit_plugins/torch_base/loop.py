"""The one training loop of every torch type, the same with and without privacy: the engine makes the batches and takes the steps."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affidavit.errors import InvalidInput
from affidavit.interfaces.training import Progress, Spending, TrainingEngine, TrainingLoop

Optimizer = Literal["sgd", "momentum", "adam"]


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """What the loop needs to know besides module and losses; the fields are those of `TorchParams`, with every choice made."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    l1: float
    l2: float
    patience: int | None


class Eager(torch.optim.Optimizer):
    """Torch's own methods without the decorators that keep torch.compile out of them, which import all of the compiler to do so."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class SGD(Eager, torch.optim.SGD):
    """Stochastic gradient descent."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class Adam(Eager, torch.optim.Adam):
    """Adam (Kingma and Ba 2015)."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def make_optimizer(module: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimizer of the parameters that learn. It has no weight decay of its own: see `shrink`."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.optimizer == "adam":
        return Adam(parameters, lr=settings.learning_rate)
    return SGD(parameters, lr=settings.learning_rate, momentum=0.9 if settings.optimizer == "momentum" else 0.0)


@torch.no_grad()
def shrink(module: nn.Module, *, learning_rate: float, l1: float, l2: float) -> None:
    """Apply the penalty ``l1 * |w| + l2 / 2 * w**2`` to the weight matrices, by its proximal operator.

    ``w <- sign(w) * max(|w| - learning_rate * l1, 0) / (1 + learning_rate * l2)`` (Parikh and Boyd 2014, section 6.5). A step of its own
    after the optimizer's rather than a term of the loss: the penalty reads no data, so in private training it must neither use up the
    clipping bound of an example nor be noised, and L1 gives exact zeros. Biases and norms are not penalised, as is usual.
    """
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.ndim >= 2:
            if l1:
                parameter.copy_(parameter.sign() * (parameter.abs() - learning_rate * l1).clamp_min(0.0))
            if l2:
                parameter.div_(1.0 + learning_rate * l2)


def decayed(learning_rate: float, epoch: int, epochs: int) -> float:
    """The learning rate of epoch 1 to `epochs`: half a cosine from its full value towards zero (Loshchilov and Hutter 2017, no restarts).

    Small last steps average out what the batches, and in private training the noise, did to the weights.
    """
    return learning_rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / epochs))


class EarlyStopping:
    """Remembers the weights with the lowest validation loss, and says when `patience` epochs have brought none lower."""

    def __init__(self, module: nn.Module, patience: int) -> None:
        self._module = module
        self._patience = patience
        self._best = math.inf
        self._since = 0
        self._weights: dict[str, Tensor] = {}

    def should_stop(self, loss: float) -> bool:
        """Take note of one epoch's validation loss."""
        if loss < self._best:
            self._best, self._since = loss, 0
            self._weights = {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}
            return False
        self._since += 1
        return self._since >= self._patience

    def restore_best(self) -> None:
        """Put the best weights back."""
        if self._weights:
            self._module.load_state_dict(self._weights)


def run(
    module: nn.Module,
    losses: Callable[[NDArray[np.int64]], Tensor],
    *,
    rows: int,
    settings: LoopSettings,
    engine: TrainingEngine,
    seed: int,
    report: Callable[[Progress], None],
    validate: Callable[[], float] | None = None,
) -> None:
    """Train `module` in place and leave it in evaluation mode.

    Parameters
    ----------
    losses
        The loss of each of the rows asked for, shape ``(len(indices),)``; may be asked for part of a batch, or for no rows.
    rows
        Number of training rows; `losses` understands 0 to ``rows - 1``.
    validate
        Gives the validation loss after an epoch; needed where `settings.patience` is set.

    Raises
    ------
    InvalidInput
        The weights became infinite or NaN.
    """
    optimizer = make_optimizer(module, settings)
    stopping = EarlyStopping(module, settings.patience) if settings.patience is not None and validate is not None else None
    loop = engine.begin(module, optimizer, rows=rows, batch_size=settings.batch_size, epochs=settings.epochs, seed=seed)
    try:
        for epoch in range(1, settings.epochs + 1):
            module.train()
            rate = decayed(settings.learning_rate, epoch, settings.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = _train_epoch(module, loop, losses, replace(settings, learning_rate=rate))
            # A private run reports no loss, which is read from the rows without noise, but what it has spent.
            result = _spent(engine) if engine.private else f", loss {loss:.4g}"
            report(Progress(epoch, settings.epochs, f"epoch {epoch}/{settings.epochs}{result}"))
            module.eval()
            if stopping is not None and validate is not None and stopping.should_stop(validate()):
                break
    finally:
        loop.close()
        module.eval()
    if stopping is not None:
        stopping.restore_best()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values() if tensor.is_floating_point()):
        raise InvalidInput(
            f"Training diverged: some weights are infinite or not a number (learning rate {settings.learning_rate:g}).", hint="Lower learning_rate."
        )


def _spent(engine: TrainingEngine) -> str:
    if not isinstance(engine, Spending):
        return ""
    epsilon, allowed = engine.spent()
    return f", ε about {epsilon:.3g} of {allowed:g}"


def _train_epoch(module: nn.Module, loop: TrainingLoop, losses: Callable[[NDArray[np.int64]], Tensor], settings: LoopSettings) -> float:
    """One pass over the batches; gives the mean loss of its steps, empty batches left out."""
    steps = []
    for indices in loop.epoch():
        loss = loop.step(indices, losses)
        if settings.l1 or settings.l2:
            shrink(module, learning_rate=settings.learning_rate, l1=settings.l1, l2=settings.l2)
        if not math.isnan(loss):
            steps.append(loss)
    return sum(steps) / len(steps) if steps else math.nan
