"""The plain training engine: what a model's loop uses when training is not private."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit_plugins.torch_base.plain import PlainStatistics


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


class PlainEngine(PlainStatistics):
    """Training without privacy: statistics and sums read from the data, each row once an epoch."""

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> PlainLoop:
        """Prepare for `epochs` passes over `rows` examples in batches of `batch_size`."""
        return PlainLoop(optimizer, rows=rows, batch_size=batch_size, seed=seed)
