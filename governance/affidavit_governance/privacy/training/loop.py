"""Poisson batches and private steps over one module and one optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from affidavit.errors import PluginError
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training.checks import BruteForce, check_module, check_optimizer
from affidavit_governance.privacy.training.distributed import Ranks
from affidavit_governance.privacy.training.gradients import Losses, make_gradients
from affidavit_governance.privacy.training.optimizer import PrivateStep
from affidavit_governance.privacy.training.resume import Keeper, tensor_digest
from affidavit_governance.privacy.training.sampling import make_sampler

PART_EXAMPLES = 4096
PART_BYTES = 256 * 2**20
"""A batch goes through in parts of at most so many examples, and about so many bytes of activations or gradients."""


class PrivateLoop:
    """The batches and steps of one private run. Made by `PrivateEngine.begin`.

    Each step draws its rows (see `training.sampling`), clips the gradient of each drawn example, adds noise to the sum and divides by the
    expected batch size. An empty batch is a step like any other: skipping it would tell that it was empty.

    Attributes
    ----------
    planned, executed
        Steps that were calibrated for, and steps whose noisy sum was made.
    empty_batches
        Steps without any example.
    sampler
        What draws the batches.
    buffers_changed, frozen_changed
        Known once it is closed: the name of a buffer, and of a parameter that is not trained, that is another than before; None where all stayed.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        rows: int,
        sampling_rate: float,
        expected_batch_size: float,
        steps_per_epoch: int,
        epochs: int,
        noise_multiplier: float,
        max_grad_norm: float,
        source: Randomness,
        engine: Literal["native", "opacus"] = "native",
        sampler: Literal["poisson", "shuffle"] = "poisson",
        keeper: Keeper | None = None,
        taken: int = 0,
        ranks: Ranks | None = None,
        sampling: Randomness | None = None,
    ) -> None:
        check_module(module)
        names = check_optimizer(module, optimizer)
        self._module, self._optimizer, self._trained = module, optimizer, set(names)
        self.sampler = make_sampler(sampler, sampling or source, rows=rows, rate=sampling_rate, steps_per_epoch=steps_per_epoch)
        self._steps_per_epoch = steps_per_epoch
        self.planned = steps_per_epoch * epochs
        self.drawn = self._skip = taken
        self._keeper, self._ranks = keeper, ranks
        self.empty_batches, non_finite = (0, 0) if keeper is None else keeper.counts()
        self.buffers_changed: str | None = None
        self.frozen_changed: str | None = None
        self._pending: NDArray[np.int64] | None = None
        self._inside = False
        self._part: int | None = None
        self._buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        # Digests, because what is frozen may be most of a large module.
        self._frozen = {name: tensor_digest(p) for name, p in module.named_parameters() if p not in names}
        self._step = PrivateStep(
            optimizer,
            list(names),
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            source=source,
            taken=taken,
            count=None if keeper is None else keeper.count,
            ranks=ranks,
        )
        self._step.non_finite = non_finite
        names = {parameter: names[parameter] for parameter in self._step.parameters}
        self._brute_force = BruteForce(names)
        self._gradients = make_gradients(engine, module, names)
        self._guards = [optimizer.register_step_pre_hook(self._refuse_outside), register_optimizer_step_pre_hook(self._refuse_others)]
        self._closed = False

    @property
    def executed(self) -> int:
        """Steps that count as released, which is from just before their noise is drawn."""
        return self._step.released

    @property
    def non_finite(self) -> int:
        """Examples whose gradient was NaN or infinite and counted as zero."""
        return self._step.non_finite

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """One epoch's batches; some may be empty, and each must be passed to `step`. Those that an earlier process of the run took are left out.

        Raises
        ------
        PluginError
            A batch was passed over, or there are more batches than the noise was calibrated for.
        """
        for _ in range(self._steps_per_epoch):
            if self._pending is not None:
                raise PluginError("The training loop passed over a batch: in private training every batch is a step, also an empty one.")
            if self._skip:
                self._skip -= 1
                continue
            if self._keeper is not None:
                # Here and not in `step`, after which the training loop may still do something to the weights.
                self._keeper.between(self)
            if self.drawn >= self.planned:
                raise PluginError(f"The training loop asked for more than the {self.planned} batches that the noise was calibrated for.")
            self.drawn += 1
            self._pending = self.sampler.draw(self.drawn)
            yield self._pending
        if self._keeper is not None and self._pending is None and self.drawn == self.planned:
            self._keeper.keep(self)

    def step(self, indices: NDArray[np.int64], losses: Losses) -> float:
        """Take one private step.

        Returns
        -------
        float
            NaN always: a batch's loss is read from the rows without noise, so it may not leave.

        Raises
        ------
        PluginError
            `indices` is not the batch that `epoch` gave last, or `losses` does not give one loss for each example.
        Refused
            A parameter is used in a way that per-example gradients cannot follow, or a loss mixes examples.
        """
        if self._closed or self._pending is None or not np.array_equal(indices, self._pending):
            raise PluginError("The training loop made a step with other rows than the batch it was given, or a second one with the same rows.")
        self._step.clear()
        if self._ranks is None:
            self._sum_up(indices, losses)
        else:
            self._sum_up_share(self._ranks, indices, losses)
        self._inside = True
        # Given up before anything is released: whatever fails in there, the same rows are never released a second time, which no sampler draws.
        self._pending = None
        self.empty_batches += not len(indices)
        try:
            self._step.take()
        finally:
            self._inside = False
            self._step.clear()
        return float("nan")

    def _sum_up(self, indices: NDArray[np.int64], losses: Losses) -> None:
        try:
            self._brute_force.check(indices, self._gradients, losses)
            for part in self._parts(indices):
                _, squared_norms = self._gradients.compute(part, losses)
                self._step.add(self._gradients, squared_norms)
        finally:
            self._gradients.clear()

    def _sum_up_share(self, ranks: Ranks, indices: NDArray[np.int64], losses: Losses) -> None:
        before = self._step.non_finite
        try:
            self._sum_up(ranks.share(indices), losses)
        except BaseException:
            ranks.agree(True, 0)
            raise
        self._step.non_finite = before + ranks.agree(False, self._step.non_finite - before)

    def _parts(self, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The batch in parts of nearly equal size that fit in memory."""
        if not len(indices):
            return []
        if self._part is None:
            # The comparison with brute force has just shown what an example takes.
            self._part = max(1, min(PART_EXAMPLES, PART_BYTES // max(1, self._gradients.bytes_per_example)))
        return [indices] if len(indices) <= self._part else np.array_split(indices, -(-len(indices) // self._part))

    def _refuse_outside(self, *_: object) -> None:
        if not self._inside:
            raise PluginError("The training loop called the optimizer's own step: that step would have had no noise.")

    def _refuse_others(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if optimizer is not self._optimizer and any(p in self._trained for group in optimizer.param_groups for p in group["params"]):
            raise PluginError("The training loop stepped another optimizer over parameters in private training: that step would have had no noise.")

    def close(self) -> None:
        """Take everything off the module and the optimizer; calling it twice is harmless."""
        if self._closed:
            return
        self._closed = True
        for guard in self._guards:
            guard.remove()
        self._step.clear()
        self._gradients.close()
        changed = (name for name, buffer in self._module.named_buffers() if not _same(buffer, self._buffers.get(name)))
        self.buffers_changed = next(changed, None)
        # Also a parameter that was put in the place of a trained one.
        now = {name: parameter for name, parameter in self._module.named_parameters() if parameter not in self._trained}
        moved = (name for name in {**self._frozen, **now} if name not in now or tensor_digest(now[name]) != self._frozen.get(name))
        self.frozen_changed = next(moved, None)


def _same(buffer: torch.Tensor, before: torch.Tensor | None) -> bool:
    return before is not None and torch.equal(torch.nan_to_num(buffer), torch.nan_to_num(before))
