"""The plain training engine: what a model's loop uses when training is not private."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class PlainLoop:
    """Shuffled batches that cover every row once an epoch, and an ordinary optimizer step."""

    def __init__(self, optimizer: torch.optim.Optimizer, *, rows: int, batch_size: int, seed: int) -> None:
        self._optimizer = optimizer
        self._rows = rows
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """Row indices of each batch of one epoch."""
        order = torch.randperm(self._rows, generator=self._generator).numpy()
        for start in range(0, self._rows, self._batch_size):
            yield order[start : start + self._batch_size]

    def step(self, indices: NDArray[np.int64], losses: Callable[[NDArray[np.int64]], Any]) -> float:
        """Take one step down the mean loss of the batch and give that mean."""
        if not len(indices):
            return float("nan")
        self._optimizer.zero_grad(set_to_none=True)
        loss = losses(indices).mean()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def close(self) -> None:
        """Free the gradients."""
        self._optimizer.zero_grad(set_to_none=True)


class PlainEngine:
    """Training without privacy: statistics read from the data, each row once an epoch."""

    private = False

    def center_and_scale(self, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each column, missing values (NaN) left out; a constant or empty column gets scale 1."""
        present = ~np.isnan(columns)
        count = np.maximum(present.sum(axis=0), 1)
        with np.errstate(over="ignore", invalid="ignore"):  # numbers too large come out infinite, which the model refuses by column
            center = np.where(present, columns, 0.0).sum(axis=0) / count
            deviation = np.where(present, columns - center, 0.0)
            scale = np.sqrt((deviation**2).sum(axis=0) / count)
        # Rounding leaves a constant column of large numbers a tiny spread, which division would blow up.
        constant = scale <= 1e-12 * np.maximum(1.0, np.abs(center))
        return center, np.where(constant, 1.0, scale)

    def vocabulary(self, values: Sequence[str | None]) -> tuple[str, ...] | None:
        """The distinct values of one column, sorted."""
        return tuple(sorted({value for value in values if value is not None}))

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> PlainLoop:
        """Prepare for `epochs` passes over `rows` examples in batches of `batch_size`."""
        return PlainLoop(optimizer, rows=rows, batch_size=batch_size, seed=seed)
