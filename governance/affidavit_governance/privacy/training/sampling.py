"""How the rows of a step are drawn, and what the draws that were made cost: events come from here, not from a plan."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.privacy.accounting import Event
from affidavit_governance.privacy.randomness import Purpose, Randomness


class Sampler(Protocol):
    """Draws the batches of one run, in order."""

    name: str

    def draw(self, step: int) -> NDArray[np.int64]:
        """Row indices of batch `step`, from 1."""
        ...

    def event(self, executed: int, noise_multiplier: float, relation: str, group_size: int) -> Event:
        """What the first `executed` noisy sums over these batches release."""
        ...


class PoissonSampler:
    """Each row is in each batch with probability `rate`, independently."""

    name = "poisson"

    def __init__(self, source: Randomness, rows: int, rate: float) -> None:
        self._source, self._rows, self._rate = source, rows, rate

    def draw(self, step: int) -> NDArray[np.int64]:
        """A Poisson sample."""
        return self._source.sample(step, self._rows, self._rate)

    def event(self, executed: int, noise_multiplier: float, relation: str, group_size: int) -> Event:
        """The subsampled Gaussian mechanism, once a step."""
        return Event("gaussian", noise_multiplier, self._rate, executed, relation, group_size)


class ShuffleSampler:
    """Each row is in one batch of each epoch, drawn anew for each epoch and independently of all other rows.

    It is no permutation cut into equal parts: there, one record more or less would move others from batch to batch. Here it changes one
    batch an epoch (balls in bins; Chua et al. 2024), whose sum hides it as a Gaussian mechanism on all rows does. That the batch was drawn
    at random is not counted on: there is no amplification.
    """

    name = "shuffle"

    def __init__(self, source: Randomness, rows: int, steps_per_epoch: int) -> None:
        self._source, self._rows, self._steps_per_epoch = source, rows, steps_per_epoch
        self._epoch = -1
        self._batch: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def draw(self, step: int) -> NDArray[np.int64]:
        """The rows whose batch in this epoch it is."""
        epoch, number = divmod(step - 1, self._steps_per_epoch)
        if epoch != self._epoch:
            words = self._source.words(Purpose.SHUFFLING, epoch, self._rows)
            self._epoch, self._batch = epoch, (words % np.uint64(self._steps_per_epoch)).astype(np.int64)
        return np.flatnonzero(self._batch == number)

    def event(self, executed: int, noise_multiplier: float, relation: str, group_size: int) -> Event:
        """One Gaussian mechanism on all rows for each epoch that began."""
        return Event("gaussian", noise_multiplier, 1.0, -(-executed // self._steps_per_epoch), relation, group_size)


def make_sampler(name: str, source: Randomness, *, rows: int, rate: float, steps_per_epoch: int) -> Sampler:
    """The sampler that the policy names."""
    return ShuffleSampler(source, rows, steps_per_epoch) if name == "shuffle" else PoissonSampler(source, rows, rate)
