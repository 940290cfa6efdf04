"""The private step of any torch optimizer: clipped sums of a batch over a public divisor, and noise once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.distributed import Ranks
from affidavit_governance.privacy.training.gradients import Gradients


class PrivateStep:
    """Clips each example's gradient to norm C, adds noise σC to the sum once a step, and divides by the expected batch size B.

    B divides each example's factor and the noise's deviation, so that nothing has to pass over the sums for it. They are kept in single
    precision at least, whatever the parameters have.

    Attributes
    ----------
    non_finite
        Examples whose gradient was NaN or infinite; they count as zero.
    released
        Noisy sums that were made: the steps to account for; from `taken` on, which earlier processes of the run made. `count` hears of each.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        source: Randomness,
        taken: int = 0,
        count: Callable[[int], None] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._optimizer, self._parameters, self._source = optimizer, list(parameters), source
        self._deviation = noise_multiplier * max_grad_norm / expected_batch_size
        self._max_grad_norm, self._expected_batch_size = max_grad_norm, expected_batch_size
        self.non_finite = 0
        self.released, self._count, self._ranks = taken, count, ranks
        self._flat = _flat_sums(self._parameters)
        self._sums = [view for flat, group in self._flat for view in _views(flat, group)]
        self._order = [parameter for _, group in self._flat for parameter in group]
        self._dirty = False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters, in the order of the sums."""
        return self._order

    def clear(self) -> None:
        """Forget the sums and every gradient, also those that an abandoned step or a stranger left behind."""
        if self._dirty:
            for flat, _ in self._flat:
                flat.zero_()
            self._dirty = False
        self._forget_gradients()

    def _forget_gradients(self) -> None:
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def add(self, gradients: Gradients, squared_norms: Tensor) -> None:
        """Add the clipped per-example gradients of one part of the batch to the sums.

        Abadi et al. (2016), algorithm 1, with Opacus's factor min(1, C / (norm + 1e-6)). An example without a finite norm is left out by
        selection: multiplied by zero, a NaN would still be one.
        """
        share = 1.0 / self._expected_batch_size
        factors = (self._max_grad_norm * share / (squared_norms.sqrt() + 1e-6)).clamp_(max=share)
        # One look at the sum, which is finite only where all are, spares nearly every step the search.
        if not math.isfinite(float(squared_norms.sum())):
            bad = ~torch.isfinite(squared_norms)
            self.non_finite += int(bad.sum())
            factors.masked_fill_(bad, 0.0)
            gradients.drop(bad)
        self._dirty = True
        gradients.add_sums(factors, self._sums)

    @torch.no_grad()
    def take(self) -> None:
        """Add the step's noise to the sums, and let the optimizer step."""
        # Counted before the noise exists: whatever fails from here on, the step is paid for.
        self.released += 1
        if self._count is not None:
            self._count(self.released)
        self._dirty = True
        flats = [flat for flat, _ in self._flat]
        if self._ranks is not None:
            self._ranks.add_up(flats)
        if self._deviation and (self._ranks is None or self._ranks.first):
            self._source.add_noise_(flats, self._deviation, Purpose.GRADIENT_NOISE, self.released)
        if self._ranks is not None:
            self._ranks.send(flats)
        # Also those of parameters that train only since: the training loop may have left one there, of rows and without noise.
        self._forget_gradients()
        for parameter, total in zip(self._order, self._sums, strict=True):
            parameter.grad = total.to(parameter.dtype)
        self._optimizer.step()


def _flat_sums(parameters: list[nn.Parameter]) -> list[tuple[Tensor, list[nn.Parameter]]]:
    """Zeros for all parameters of one precision and device, in one piece."""
    groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((torch.promote_types(parameter.dtype, torch.float32), parameter.device), []).append(parameter)
    return [
        (torch.zeros(sum(parameter.numel() for parameter in group), dtype=dtype, device=device), group) for (dtype, device), group in groups.items()
    ]


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]
