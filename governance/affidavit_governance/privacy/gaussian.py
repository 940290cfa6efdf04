"""Gaussian noise whose released sums lie on one lattice: Box-Muller over AES words, decided in single precision wherever that is certain.

The release of a sum x is g · round((x + n) / g), with n Gaussian of deviation s and the lattice step g a power of two between s/128 and
s/64. For real numbers that is the Gaussian mechanism followed by rounding, which is post-processing (Dwork and Roth 2014, proposition
2.1): the rounding costs neither sensitivity nor ε, and a variance of g²/12, at most s²/49152. For floating-point numbers the rounding is
what closes the gaps that attacks read (Mironov 2012; Jin et al. 2022; Haney et al. 2022): whatever x is, every lattice point can come out.
How near its probability is to the ideal one follows from how finely n is drawn and computed against g:

- n comes from 128 random bits a pair. Radii lie closer together than g/256 but for the far tail, whose probability is below 2⁻⁷⁰.
- n is computed to 2⁻⁴⁵ s (at radii r below 2⁻⁸, which come up once in 2¹⁷, to 2⁻⁵³ s/r). The edges of each point's cell are therefore off
  by about 2⁻³⁸ g, and its probability by a relative 2⁻³⁷.

Nearly always the first 64 of a pair's bits and single precision, which is quicker, decide which point comes out: where they put
the sum farther from its cell's edges than they can be wrong. For the others, one pair in 290, the remaining bits are drawn and n is computed
as above. So every release is the point that all 128 bits give (tested). Which pairs these are depends on the sum's place in its cell, which
the noise, a hundred cells wide, makes uniform: their number tells nothing of x. Apart from them every pair takes the same work: there is no
rejection whose time would tell the noise, as there is in samplers of the discrete Gaussian (Jin et al. 2022, section VI).

Weighed and not taken. Google's differential-privacy library rounds x to the lattice before adding noise from it, and Canonne, Kamath and
Steinke (2020) draw such noise as a discrete Gaussian: rounding x first can move two neighbouring sums of d numbers apart by another g √d, so
that g has to be tiny, and tables of the noise need the two levels of Micciancio and Walter (2017). The sum of four draws (Holohan and
Braghin 2021) costs more, and makes the gaps harder to read instead of closing them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Sums = NDArray[np.float32] | NDArray[np.float64]

PAIRS = 65_536
"""Pairs of numbers made at a time: 4 MB of buffers, however large the model is."""

BLOCKS = 8
"""Blocks of so many pairs whose undecided ones are settled together."""

FINENESS = 6
"""The lattice step is the largest power of two that is at most 2⁻⁶ deviations."""

LEAST_WORD, MOST_WORD = 2**20, 2**32 - 2**20
"""Radii from words beyond these, above 4 and below 1/45 deviations, take all bits: there the logarithm of a few is inexact."""

CERTAIN = 0.5 - 3 * 2.0**-12
"""Distance from the middle of a cell, in lattice steps, up to which single precision decides.

It is wrong by less than 2.8 · 2⁻¹² steps, and in tests by less than 2⁻¹². A number has at most 128 √(24 ln 2) = 522 steps. Of these
the angle costs 1.2 · 2⁻¹² (three roundings of up to π), the radius 0.8 · 2⁻¹² (bits not drawn; a logarithm to 4 units in the last place, as
numpy's are; two products, a root), the cosine or the sine 0.5 · 2⁻¹² (4 units in the last place), the product and the sum 0.25 · 2⁻¹².
"""

_TURN = 2.0 * math.pi


class Keystream(Protocol):
    """The random bits of one release, in two halves."""

    def fill(self, buffer: memoryview) -> None:
        """The next bytes of the first half."""
        ...

    def rest(self, pairs: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Two words for each of `pairs` from the second half, shape (2, pairs)."""
        ...


def lattice_step(deviation: float) -> float:
    """The power of two on whose multiples sums with noise of `deviation` are released."""
    return 2.0 ** (math.floor(math.log2(deviation)) - FINENESS)


def least_deviation(dtype: torch.dtype) -> float:
    """The least deviation whose lattice lies among the normal numbers of `dtype`. Below them sums are rounded coarsely, and noise to zero."""
    return torch.finfo(dtype).tiny * 2.0 ** (FINENESS + 1)


def gaussian_pairs(first: NDArray[np.uint32], rest: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Standard normal numbers from all bits of each pair.

    The radius is √(-2 ln u) with u in (0, 1] from the 64 bits of the upper words and the last 24 of the lower ones, without which radii
    beyond 9 deviations would lie further apart than the lattice. That these bits are the angle's too shows nowhere on the lattice: angles
    with equal last bits lie 2⁻³⁸ apart.

    Parameters
    ----------
    first, rest
        The more and the less significant halves of two 64-bit words a pair, each of shape (2, pairs).

    Returns
    -------
    NDArray
        Shape (2, pairs).
    """
    words = (first.astype(np.uint64) << np.uint64(32)) | rest
    below = (words[1] & np.uint64(2**24 - 1)).astype(np.float64) * 2.0**-24
    radius = np.sqrt(-2.0 * np.log((words[0].astype(np.float64) + (1.0 - below)) * 2.0**-64))
    angle = words[1].view(np.int64).astype(np.float64) * (_TURN * 2.0**-64)
    numbers: NDArray[np.float64] = radius * np.stack([np.cos(angle), np.sin(angle)])
    return numbers


def rounded(sums: NDArray[np.float64], noise: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """`sums` with noise, which is given in lattice steps, on the lattice."""
    scaled = sums / step
    # Whole steps apart: what is left of a large sum keeps all its digits beside the noise.
    whole = np.rint(scaled)
    # Adding zero makes -0.0, whose sign would tell the sum's, to 0.0.
    return (whole + np.rint(noise + (scaled - whole))) * step + 0.0


class Undecided(NamedTuple):
    """Pairs that take all bits: their numbers in the stream, and for both of a pair the first words, the places among the sums, the sums."""

    pairs: NDArray[np.int64]
    words: NDArray[np.uint32]
    places: NDArray[np.int64]
    sums: Sums


class GaussianSource:
    """Adds Gaussian noise, in buffers that each release uses again."""

    def __init__(self) -> None:
        self._words = np.empty(2 * PAIRS, dtype=np.uint32)
        self._sums = np.empty((2, 2 * PAIRS), dtype=np.float64)
        self._noise = np.empty((2, 2 * PAIRS), dtype=np.float32)
        self._polar = np.empty((2, PAIRS), dtype=np.float32)

    def add_(self, sums: Sums, deviation: float, stream: Keystream, before: int) -> None:
        """Add noise to an even number of sums, in place, by the pairs of `stream` after the `before` first."""
        step = lattice_step(deviation)
        blocks = []
        for start in range(0, len(sums), 2 * PAIRS):
            block = sums[start : start + 2 * PAIRS]
            pairs = len(block) // 2
            words = self._words[: 2 * pairs]
            stream.fill(memoryview(words.data).cast("B"))
            words, halves = words.reshape(2, pairs), block.reshape(2, pairs)
            # As in `rounded`.
            rest, whole = self._sums.view(block.dtype)[:, : len(block)]
            np.multiply(block, block.dtype.type(1.0 / step), out=rest)
            np.rint(rest, out=whole)
            rest -= whole
            steps, some = self._decide(words, rest, deviation / step)
            whole += steps
            blocks.append(Undecided(some + (before + start // 2), words[:, some], some + np.array([[start], [start + pairs]]), halves[:, some]))
            np.multiply(whole, block.dtype.type(step), out=block)
            block += 0.0
        left = Undecided(*(np.concatenate(parts, axis=-1) for parts in zip(*blocks, strict=True)))
        noise = gaussian_pairs(left.words, stream.rest(left.pairs)) * (deviation / step)
        sums[left.places] = rounded(left.sums.astype(np.float64), noise, step)

    def _decide(self, words: NDArray[np.uint32], rest: Sums, scale: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """``rint(rest + scale · noise)`` from the first words alone, in single precision, and the pairs for which that is not certain."""
        single, pairs = np.float32, words.shape[1]
        radius, angle = self._polar[:, :pairs]
        noise, steps = self._noise[:, : 2 * pairs]
        both = noise.reshape(2, pairs)
        # What is infinite or no number in here is not certain.
        with np.errstate(divide="ignore", invalid="ignore"):
            np.copyto(radius, words[0], casting="unsafe")
            radius *= single(2.0**-32)
            np.log(radius, out=radius)
            radius *= single(-2.0 * scale * scale)
            np.sqrt(radius, out=radius)
            np.copyto(angle, words[1].view(np.int32), casting="unsafe")
            angle *= single(_TURN * 2.0**-32)
            np.cos(angle, out=both[0])
            np.sin(angle, out=both[1])
            both *= radius
            noise += rest
            np.rint(noise, out=steps)
            noise -= steps
            np.abs(noise, out=noise)
            certain = np.less_equal(both, single(CERTAIN))
        certain[0] &= certain[1]
        # A difference of unsigned words is large where the word is too small.
        certain[0] &= words[0] - np.uint32(LEAST_WORD) <= np.uint32(MOST_WORD - LEAST_WORD)
        return steps, np.flatnonzero(~certain[0])


def add_noise_(sums: Sequence[Tensor], deviation: float, stream: Keystream, source: GaussianSource) -> None:
    """Add noise of `deviation` to each number of `sums`, in place, and round to the lattice; see `Randomness.add_noise_`."""
    before = 0
    for tensor in sums:
        flat = tensor.detach().view(-1)
        for start in range(0, len(flat), 2 * PAIRS * BLOCKS):
            part = flat[start : start + 2 * PAIRS * BLOCKS]
            values = (part if part.dtype == torch.float32 else part.double()).cpu().numpy()
            if len(values) % 2:
                values = np.append(values, values.dtype.type(0))
            source.add_(values, deviation, stream, before)
            before += len(values) // 2
            if part.data_ptr() != values.ctypes.data:
                part.copy_(torch.from_numpy(values)[: len(part)])
