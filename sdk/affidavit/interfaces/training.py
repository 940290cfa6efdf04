"""The seam between a model's training loop and governance.

A model asks for its data statistics, its batches and its step. Without privacy these are the plain ones; with privacy they are the
engine's. The loop is the same either way. The core knows nothing of torch: modules, optimizers and losses pass through as objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from affidavit.interfaces.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Progress:
    """One report from work that takes long.

    Attributes
    ----------
    done, total
        Steps done and steps in all.
    message
        A few words for people, for example ``"epoch 3/20, loss 0.41"``.
    """

    done: int
    total: int
    message: str = ""


class TrainingLoop(Protocol):
    """Batches and steps over one module and optimizer."""

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """Row indices of each batch of one epoch. A batch may be empty: it still counts and must be passed to `step`."""
        ...

    def step(self, indices: NDArray[np.int64], losses: Callable[[NDArray[np.int64]], Any]) -> float:
        """Take one optimizer step and give the mean loss (NaN for an empty batch).

        Parameters
        ----------
        indices
            The batch.
        losses
            Computes the loss of each example as a tensor of shape ``(len(indices),)``; it may be called on parts of the batch.
        """
        ...

    def close(self) -> None:
        """Undo whatever was attached to the module."""
        ...


Release = tuple[Literal["sums", "minimise"], float]
"""Kind and positive share of one release that a model announces."""


class Releases(Protocol):
    """What a model without gradient steps learns from its rows: sums and minimisers, in the announced order."""

    def sums(
        self, rows: NDArray[np.float64], *, bound: float, groups: NDArray[np.int64] | None = None, number: int = 1
    ) -> tuple[NDArray[np.float64], float]:
        """Sum of the rows of each group, each row first scaled down to an L2 norm of at most `bound`.

        Parameters
        ----------
        groups
            The group of each row, 0 to ``number - 1``; other rows count nowhere. None: one group.

        Returns
        -------
        tuple
            The sums, shape number × columns, and the standard deviation of their noise, 0 without privacy.
        """
        ...

    def minimise(
        self,
        rows: NDArray[np.float64],
        targets: NDArray[np.float64],
        *,
        loss: Literal["logistic", "huber"],
        bound: float,
        l2: float = 0.0,
        weights: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """The θ of Σ wᵢ f(xᵢᵀθ; yᵢ) + λ/2 ‖θ‖² with λ at least `l2`, each xᵢ first scaled down to an L2 norm of at most `bound`.

        Parameters
        ----------
        targets
            0 or 1 for the loss ``"logistic"``; standardised numbers for ``"huber"``, shape (rows,).
        weights
            Between 0 and 1, shape (rows,). None: 1.
        """
        ...


class TrainingEngine(Protocol):
    """Makes loops and releases, and answers what a model needs to know of its data before the first one."""

    private: bool

    def center_and_scale(self, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Location and positive scale of each column of a rows × columns array (NaN is missing)."""
        ...

    def vocabulary(self, values: Sequence[str | None]) -> tuple[str, ...] | None:
        """The categories of one column, or None where they may not be read from the data and must be hashed."""
        ...

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> TrainingLoop:
        """Prepare `module` and `optimizer` for `epochs` passes over `rows` examples in batches of about `batch_size`."""
        ...

    def releases(self, plan: Sequence[Release]) -> Releases:
        """Prepare for the releases of `plan`, for a model that takes no gradient steps: all of them must then be made, in this order.

        Whatever statistics a model needs, it must ask for before.
        """
        ...


@runtime_checkable
class Spending(Protocol):
    """What an engine may also be: one that says what the run has spent, quickly enough to be asked after every epoch."""

    def spent(self) -> tuple[float, float]:
        """About the ε that was spent so far, and the ε that the run may spend."""
        ...


class StepSettings(Protocol):
    """How long a model trains."""

    @property
    def batch_size(self) -> int:
        """Rows in a step."""
        ...

    @property
    def epochs(self) -> int:
        """Passes over the rows."""
        ...


@runtime_checkable
class Stepwise(Protocol):
    """What a model may also be: one that says how it is going to train before it reads a row, so that a refused budget can say what would fit."""

    def settings(self, rows: int, *, private: bool) -> StepSettings:
        """What it is going to do with `rows` rows."""
        ...


@dataclass(slots=True)
class Training:
    """What `Model.fit` is given besides its data.

    Attributes
    ----------
    engine
        None for plain training; a model with the capability `private_training` must use it when it is set.
    validation
        Rows for early stopping, never trained on. Always None when training is private: choosing by it would read it without noise.
    seed
        Seed of everything random that privacy does not depend on.
    spend
        The ε of this run, where it is to be less than the policy allows. None spends what the policy allows.
    checkpoint
        A folder in which private training keeps its state, so that another call goes on where the process of this one died.
    distributed
        The processes of torch.distributed's default group train this model together, each called with the same rows; for private training.
    report
        Called with progress; may raise to cancel.
    """

    engine: TrainingEngine | None = None
    validation: Dataset | None = None
    seed: int = 0
    spend: float | None = None
    checkpoint: Path | None = None
    distributed: bool = False
    report: Callable[[Progress], None] = field(default=lambda progress: None)
