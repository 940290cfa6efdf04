"""Opacus's DP optimizer with clipping that survives a bad example, noise from the operating system's entropy, and a public divisor."""

from __future__ import annotations

import math

import torch

from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training._opacus import DPOptimizer


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Clips each example's gradient to norm C, adds noise σC to the sum once a step, and divides by the expected batch size.

    Attributes
    ----------
    non_finite
        Examples whose gradient was NaN or infinite; they count as zero.
    released
        Noisy sums that were made: the steps to account for.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, noise_multiplier: float, max_grad_norm: float, expected_batch_size: float, source: Randomness
    ) -> None:
        super().__init__(optimizer, noise_multiplier=noise_multiplier, max_grad_norm=max_grad_norm, expected_batch_size=expected_batch_size)
        self._source = source
        self.non_finite = 0
        self.released = 0

    def clip_and_accumulate(self) -> None:
        """Add the clipped per-example gradients of one part of the batch to the sum.

        Abadi et al. (2016), algorithm 1, with Opacus's factor min(1, C / (norm + 1e-6)). An example without a finite norm is left out by
        selection: multiplied by zero, a NaN would still be one.
        """
        parameters = self.params
        norms = torch.stack([_row_norms(parameter.grad_sample) for parameter in parameters], dim=1).norm(2, dim=1)
        finite = torch.isfinite(norms)
        bad = int((~finite).sum())
        self.non_finite += bad
        factor = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1.0).masked_fill(~finite, 0.0)
        for parameter in parameters:
            samples = parameter.grad_sample
            if bad:
                samples = samples.masked_fill(~finite.view(-1, *[1] * (samples.dim() - 1)), 0.0)
            clipped = torch.einsum("i,i...", factor.to(parameter.dtype), samples.to(parameter.dtype))
            parameter.summed_grad = clipped if parameter.summed_grad is None else parameter.summed_grad + clipped

    def add_noise(self) -> None:
        """Add the step's noise to the sums, and round them to the lattice of their release."""
        parameters = self.params
        # Counted before the noise exists: whatever fails from here on, the step is paid for.
        self.released += 1
        sums = [parameter.summed_grad.contiguous() for parameter in parameters]
        self._source.add_noise_(sums, self.noise_multiplier * self.max_grad_norm, Purpose.GRADIENT_NOISE, self.released)
        for parameter, noisy in zip(parameters, sums, strict=True):
            parameter.grad = noisy.view_as(parameter).to(parameter.dtype)

    def clear(self) -> None:
        """Forget every gradient, also those that an abandoned step left behind."""
        self._step_skip_queue.clear()
        self._is_last_step_skipped = False
        self.zero_grad(set_to_none=True)

    def detach(self) -> None:
        """Take Opacus's attributes off the parameters."""
        self.clear()
        for parameter in self.params:
            for name in ("grad_sample", "summed_grad"):
                if hasattr(parameter, name):
                    delattr(parameter, name)


def _row_norms(samples: torch.Tensor) -> torch.Tensor:
    wide = torch.promote_types(samples.dtype, torch.float32)
    rows: torch.Tensor = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    return torch.sqrt(rows.to(wide).square().sum(dim=1))
