"""Gaussian noise whose released sums lie on one lattice: Box-Muller over AES words, in blocks that stay in the processor's cache.

The release of a sum x is g · round((x + n) / g), with n Gaussian of deviation s and the lattice step g a power of two between s/512 and
s/256. For real numbers that is the Gaussian mechanism followed by rounding, which is post-processing (Dwork and Roth 2014, proposition
2.1): the rounding costs neither sensitivity nor ε, and a variance of g²/12, a millionth of s². For floating-point numbers the rounding is
what closes the gaps that attacks read (Mironov 2012; Jin et al. 2022; Haney et al. 2022): whatever x is, every lattice point can come out.
How near its probability is to the ideal one follows from how finely n is drawn and computed against g:

- n comes from 128 random bits a pair. Radii lie closer together than g/256 but for the far tail, whose probability is below 2⁻⁷⁰.
- n is computed to 2⁻⁴⁵ s (at radii r below 2⁻⁸, which come up once in 2¹⁷, to 2⁻⁵³ s/r). The edges of each point's cell are therefore off
  by about 2⁻³⁶ g, and its probability by a relative 2⁻³⁵.

Every pair takes the same work: there is no rejection whose time would tell the noise, as there is in samplers of the discrete Gaussian (Jin
et al. 2022, section VI).

Weighed and not taken. Google's differential-privacy library rounds x to the lattice before adding noise from it, and Canonne, Kamath and
Steinke (2020) draw such noise as a discrete Gaussian: rounding x first can move two neighbouring sums of d numbers apart by another g √d, so
that g has to be tiny, and tables of the noise need the two levels of Micciancio and Walter (2017). The sum of four draws (Holohan and
Braghin 2021) costs four times as much, and makes the gaps harder to read instead of closing them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

PAIRS = 65_536
"""Pairs of numbers made at a time: 6 MB of buffers, however large the model is, and enough for torch to use its threads."""

FINENESS = 8
"""The lattice step is the largest power of two that is at most 2⁻⁸ deviations."""

_TABLE_BITS = 13
_LOW_BITS = 24


def lattice_step(deviation: float) -> float:
    """The power of two on whose multiples sums with noise of `deviation` are released."""
    return 2.0 ** (math.floor(math.log2(deviation)) - FINENESS)


def least_deviation(dtype: torch.dtype) -> float:
    """The least deviation whose lattice lies among the normal numbers of `dtype`. Below them sums are rounded coarsely, and noise to zero."""
    return torch.finfo(dtype).tiny * 2.0 ** (FINENESS + 1)


class GaussianSource:
    """Makes Gaussian numbers, in buffers that each draw uses again."""

    def __init__(self) -> None:
        self._zeros, self._bytes = bytes(16 * PAIRS), bytearray(16 * PAIRS)
        self._integers = torch.empty(PAIRS, dtype=torch.int64)
        self._floats = torch.empty(3, PAIRS, dtype=torch.float64)
        self._points = torch.empty(2, PAIRS, dtype=torch.complex128)
        angles = torch.arange(1 << _TABLE_BITS, dtype=torch.float64) * (2.0 * math.pi / (1 << _TABLE_BITS))
        self._circle = torch.complex(angles.cos(), angles.sin())

    def draw(self, stream: CipherContext, count: int, scale: float) -> Tensor:
        """`count` ≤ 2 · `PAIRS` independent numbers of deviation `scale`, from 16 bytes of keystream a pair.

        Returns
        -------
        Tensor
            Shape ``(count,)``, float64: a buffer that the next call fills again.
        """
        pairs = -(-count // 2)
        keystream = memoryview(self._bytes)[: 16 * pairs]
        stream.update_into(memoryview(self._zeros)[: 16 * pairs], keystream)
        words = torch.frombuffer(keystream, dtype=torch.int64).view(2, pairs)
        radius, *spare = self._floats[:, :pairs]
        points, turns = self._points[:, :pairs]
        self._radius(words, scale, radius, spare[0])
        self._turn(words[1], radius, spare, points, turns)
        return torch.view_as_real(points).view(-1)[:count]

    def _radius(self, words: Tensor, scale: float, radius: Tensor, spare: Tensor) -> None:
        """√(-2 ln u) · `scale` with u in (0, 1] from 63 bits of the first words and the low 24 of the second.

        With 63 bits alone, radii beyond 8 deviations would lie further apart than the lattice, and such tails come up in a long run.
        """
        low = self._integers[: len(radius)]
        radius.copy_(words[0].bitwise_and_(2**63 - 1))
        torch.bitwise_or(words[1], -(1 << _LOW_BITS), out=low)  # the low bits less 2²⁴: never 0, and so neither is u
        radius.sub_(spare.copy_(low), alpha=2.0**-_LOW_BITS).mul_(2.0**-63)
        # numpy's logarithm and root take half of torch's time where there is AVX-512.
        values = radius.numpy()
        np.log(values, out=values)
        np.sqrt(np.multiply(values, -2.0 * scale * scale, out=values), out=values)

    def _turn(self, words: Tensor, radius: Tensor, spare: Sequence[Tensor], points: Tensor, turns: Tensor) -> None:
        """The points radius · (cos t + i sin t) with t uniform from `words`.

        The 13 high bits take a point of the unit circle from a table, and the others turn it by f, |f| ≤ 2π/2¹⁴, where 1 - f²/2 and
        f - f³/6 are off by less than 1e-15: faster than a cosine and a sine. That the low bits also refine far radii shows nowhere on the
        lattice: points with equal low bits lie 2⁻³⁰ deviations apart.
        """
        angle, scaled = spare
        index = self._integers[: len(words)]
        torch.bitwise_right_shift(words, 64 - _TABLE_BITS, out=index).bitwise_and_((1 << _TABLE_BITS) - 1)
        torch.index_select(self._circle, 0, index, out=points)
        angle.copy_(words.bitwise_left_shift_(_TABLE_BITS)).mul_(2.0 * math.pi * 2.0 ** -(64 + _TABLE_BITS))
        torch.mul(radius, angle, out=scaled)
        real, imaginary = torch.view_as_real(turns).unbind(1)
        torch.addcmul(radius, scaled, angle, value=-0.5, out=real)
        torch.addcmul(scaled, scaled, angle.mul_(angle), value=-1.0 / 6.0, out=imaginary)
        points.mul_(turns)


def add_noise_(sums: Sequence[Tensor], deviation: float, stream: CipherContext, source: GaussianSource) -> None:
    """Add noise of `deviation` to each number of `sums`, in place, and round to the lattice; see `Randomness.add_noise_`."""
    step = lattice_step(deviation)
    for tensor in sums:
        flat = tensor.detach().view(-1)
        for start in range(0, len(flat), 2 * PAIRS):
            part = flat[start : start + 2 * PAIRS]
            noise = source.draw(stream, len(part), deviation / step)
            # In units of g, which is exact; the sum is rounded once to double precision, and then to the lattice.
            noise.add_(part.cpu(), alpha=1.0 / step).round_().mul_(step)
            part.copy_(noise)
