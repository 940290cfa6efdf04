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
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

PAIRS = 65_536
"""Pairs of numbers made at a time: 6 MB of buffers, however large the model is."""

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
    """Makes Gaussian numbers, in buffers that each draw uses again.

    By numpy, in one thread. Its logarithm and root take half of torch's time where there is AVX-512. And torch would share each of some twenty
    short passes between two threads: a tenth faster where both cores are idle, and several times slower where others work on them too,
    because every pass waits for the later thread.
    """

    def __init__(self) -> None:
        self._zeros, self._bytes = bytes(16 * PAIRS), bytearray(16 * PAIRS)
        self._integers = np.empty(PAIRS, dtype=np.int64)
        self._floats = np.empty((3, PAIRS))
        self._points = np.empty((2, PAIRS), dtype=np.complex128)
        angles = np.arange(1 << _TABLE_BITS) * (2.0 * math.pi / (1 << _TABLE_BITS))
        self._circle = np.cos(angles) + 1j * np.sin(angles)

    def draw(self, stream: CipherContext, count: int, scale: float) -> NDArray[np.float64]:
        """`count` ≤ 2 · `PAIRS` independent numbers of deviation `scale`, from 16 bytes of keystream a pair.

        Returns
        -------
        ndarray
            Shape ``(count,)``: a buffer that the next call fills again.
        """
        pairs = -(-count // 2)
        keystream = memoryview(self._bytes)[: 16 * pairs]
        stream.update_into(memoryview(self._zeros)[: 16 * pairs], keystream)
        first, second = np.frombuffer(keystream, dtype="<i8").reshape(2, pairs)
        radius = self._radius(first, second, scale)
        return self._turn(second, radius).view(np.float64)[:count]

    def _radius(self, first: NDArray[np.int64], second: NDArray[np.int64], scale: float) -> NDArray[np.float64]:
        """√(-2 ln u) · `scale` with u in (0, 1] from 63 bits of the first words and the low 24 of the second.

        With 63 bits alone, radii beyond 8 deviations would lie further apart than the lattice, and such tails come up in a long run.
        """
        radius: NDArray[np.float64]
        bits, (radius, low) = self._integers[: len(first)], self._floats[:2, : len(first)]
        np.multiply(np.bitwise_and(first, 2**63 - 1, out=bits), 2.0**-63, out=radius)
        # The low bits less 2²⁴: never 0, and so neither is u.
        np.multiply(np.bitwise_or(second, -(1 << _LOW_BITS), out=bits), 2.0 ** -(63 + _LOW_BITS), out=low)
        np.log(np.subtract(radius, low, out=radius), out=radius)
        np.sqrt(np.multiply(radius, -2.0 * scale * scale, out=radius), out=radius)
        return radius

    def _turn(self, words: NDArray[np.int64], radius: NDArray[np.float64]) -> NDArray[np.complex128]:
        """The points radius · (cos t + i sin t) with t uniform from `words`.

        The 13 high bits take a point of the unit circle from a table, and the others turn it by f, |f| ≤ 2π/2¹⁴, where 1 - f²/2 and
        f - f³/6 are off by less than 1e-15: faster than a cosine and a sine. That the low bits also refine far radii shows nowhere on the
        lattice: points with equal low bits lie 2⁻³⁰ deviations apart.
        """
        points: NDArray[np.complex128]
        bits, (points, turns), (angle, along) = self._integers[: len(words)], self._points[:, : len(words)], self._floats[1:, : len(words)]
        np.right_shift(words.view(np.uint64), np.uint64(64 - _TABLE_BITS), out=bits.view(np.uint64))
        np.take(self._circle, bits, out=points, mode="wrap")  # all are in the table; the default mode would copy
        np.multiply(np.left_shift(words, _TABLE_BITS, out=bits), 2.0 * math.pi * 2.0 ** -(64 + _TABLE_BITS), out=angle)
        np.multiply(radius, angle, out=along)  # r f
        term = bits.view(np.float64)
        np.multiply(np.multiply(along, angle, out=term), -1.0 / 2.0, out=term)  # -r f²/2
        np.add(radius, term, out=turns.real)
        np.multiply(np.multiply(term, angle, out=term), 1.0 / 3.0, out=term)  # -r f³/6
        np.add(along, term, out=turns.imag)
        np.multiply(points, turns, out=points)
        return points

    def add_(self, values: NDArray[np.floating], deviation: float, step: float, stream: CipherContext) -> None:
        """Add numbers of `deviation` to at most 2 · `PAIRS` `values`, in place, and round to multiples of `step`, a power of two."""
        noise = self.draw(stream, len(values), deviation / step)
        scaled = self._floats.reshape(-1)[: len(values)]
        # In units of the step, which is exact; the sum is rounded once to double precision, and then to the lattice.
        np.add(noise, np.multiply(values, 1.0 / step, out=scaled, dtype=np.float64), out=noise)
        np.multiply(np.rint(noise, out=noise), step, out=noise)
        values[:] = noise


def add_noise_(sums: Sequence[Tensor], deviation: float, stream: CipherContext, source: GaussianSource) -> None:
    """Add noise of `deviation` to each number of `sums`, in place, and round to the lattice; see `Randomness.add_noise_`."""
    step = lattice_step(deviation)
    for tensor in sums:
        for part in torch.split(tensor.detach().view(-1), 2 * PAIRS):
            # The part itself, where numpy can write to it.
            wide = part.to("cpu", torch.promote_types(part.dtype, torch.float32))
            source.add_(wide.numpy(), deviation, step, stream)
            if wide is not part:
                part.copy_(wide)
