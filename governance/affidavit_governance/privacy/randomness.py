"""Randomness that privacy rests on: AES-256 in counter mode, keyed once from the operating system's entropy."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn, SupportsIndex

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from affidavit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from affidavit_governance.privacy.gaussian import GaussianSource

BLOCK = 16_384
"""Normal numbers made at a time: the work stays in the processor's cache, and a large model needs no more memory than a small one."""

_ROWS = 65_536
_ZEROS = memoryview(bytes(2**19))
_COUNTERS = 2**32


class Purpose(IntEnum):
    """What a stream of random words is for; each has streams of its own."""

    SAMPLING = 1
    GRADIENT_NOISE = 2
    STATISTICS_NOISE = 3
    SAMPLING_TIES = 4
    SHUFFLING = 5
    RELEASE_NOISE = 6
    CONTRIBUTIONS = 7
    SAMPLING_KEY = 8
    DISCRETE_NOISE = 9


class Randomness:
    """Random words, samples and Gaussian noise, addressed by purpose and step.

    A stream is the AES-256-CTR keystream (NIST SP 800-38A) whose counter block starts with the purpose and the step, so that no two streams
    overlap and each step's draws do not depend on how much earlier steps drew. A stream is drawn once: the steps of one purpose must
    ascend, and a step that was drawn is refused. A copy, or a forked process, would draw the same streams again: neither can be had.

    Parameters
    ----------
    key
        32 bytes. None, for everything but replay in tests, takes them from ``os.urandom``.

    Raises
    ------
    UsageError
        By every drawing method: the purpose's stream of this or a later step was drawn before, one stream is too short for the count, or
        this is not the process that made the object.
    """

    description = "AES-256-CTR keyed from os.urandom"

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(32) if key is None else key
        self._cipher = Cipher(algorithms.AES(self._key), modes.ECB()).encryptor()
        self._latest: dict[Purpose, int] = {}
        self._gaussian: GaussianSource | None = None
        self._process = os.getpid()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """No copies, by ``copy`` or ``pickle``: they would repeat noise, and carry the key."""
        raise UsageError("A source of private randomness cannot be copied: both would draw the same noise.", hint="Make another one.")

    def _once(self, purpose: Purpose, step: int, size: int) -> None:
        """Claim `size` bytes of a stream."""
        if os.getpid() != self._process:
            raise UsageError(
                "A forked process draws from the random streams of its parent: both would have the same noise.",
                hint="Begin private training in the process that trains.",
            )
        if step <= self._latest.get(purpose, -1):
            raise UsageError(
                f"The random stream {purpose.name} of step {step} was drawn before: noise or a sample would repeat.",
                hint="Give each draw of a purpose a step of its own, in ascending order.",
            )
        if size > 16 * _COUNTERS:
            raise UsageError(f"One step asks for {size} random bytes; a stream has {16 * _COUNTERS}.")
        self._latest[purpose] = step

    def _start(self, purpose: Purpose, step: int) -> bytes:
        # 4 bytes purpose, 8 bytes step, and 4 bytes block counter follow: 64 GiB a stream.
        return int(purpose).to_bytes(4, "big") + step.to_bytes(8, "big")

    def _keystream(self, purpose: Purpose, step: int) -> CipherContext:
        return Cipher(algorithms.AES(self._key), modes.CTR(self._start(purpose, step) + bytes(4))).encryptor()

    def _blocks(self, purpose: Purpose, step: int, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Single blocks of a stream by their numbers, four words each, shape (blocks, 4): counter mode is the encrypted counter."""
        counters = np.empty((len(numbers), 4), dtype=">u4")
        counters[:, :3] = np.frombuffer(self._start(purpose, step), dtype=">u4")
        counters[:, 3] = numbers
        return np.frombuffer(self._cipher.update(counters.tobytes()), dtype="<u4").reshape(-1, 4)

    def words(self, purpose: Purpose, step: int, count: int) -> NDArray[np.uint64]:
        """`count` independent uniform 64-bit words."""
        self._once(purpose, step, 8 * count)
        buffer = bytearray(8 * count)
        self._keystream(purpose, step).update_into(bytes(8 * count), buffer)
        return np.frombuffer(buffer, dtype="<u8").astype(np.uint64, copy=False)

    def sample(self, step: int, rows: int, rate: float) -> NDArray[np.int64]:
        """A Poisson sample: each of `rows` indices independently with probability `rate`, rounded down to a multiple of 2⁻⁶⁴.

        A row is drawn by the first 32 bits of its number; those of the few rows that are neither below nor above decide by 32 more.
        """
        self._once(Purpose.SAMPLING, step, 4 * rows)
        if rate >= 1:
            return np.arange(rows, dtype=np.int64)
        high, low = divmod(int(rate * 2.0**64), 2**32)
        stream, size = self._keystream(Purpose.SAMPLING, step), 4 * min(rows, _ROWS)
        zeros, buffer = bytes(size), bytearray(size)
        words = np.frombuffer(buffer, dtype="<u4")
        drawn, ties = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for start in range(0, rows, _ROWS):
            stream.update_into(zeros, buffer)
            part = words[: rows - start]
            found = np.flatnonzero(part <= np.uint32(high))
            drawn.append(found + start)
            ties.append(found[part[found] == np.uint32(high)] + start)
        chosen, tied = np.concatenate(drawn), np.concatenate(ties)
        if not len(tied):
            return chosen
        # Each row's further bits have a place of their own, so that another row's fate never moves them.
        further = self._blocks(Purpose.SAMPLING_TIES, step, tied // 4)[np.arange(len(tied)), tied % 4]
        return chosen[~np.isin(chosen, tied[further >= low])]

    def add_noise_(self, sums: Sequence[Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        """Add independent Gaussian noise of `deviation` to each number, in place, so that no floating-point gap tells what it was added to.

        Parameters
        ----------
        sums
            Contiguous torch tensors of any floating-point type, on any device; all of them together are one release. The noise is made on
            the CPU, in blocks. The noisy sums are multiples of one power of two, rounded once more where the type is too narrow for these.
            `affidavit_governance.privacy.gaussian` tells why that is private.

        Raises
        ------
        UsageError
            Also for a deviation that is no positive number, or so small that the type of the sums cannot hold its noise.
        """
        from affidavit_governance.privacy.gaussian import GaussianSource, add_noise_, least_deviation  # needs torch, which sampling does not

        if not 0 < deviation < math.inf:
            raise UsageError(f"Noise of deviation {deviation} cannot be added.", hint="The deviation must be positive and finite.")
        least = max((least_deviation(tensor.dtype) for tensor in sums), default=0.0)
        if deviation < least:
            raise UsageError(
                f"Noise of deviation {deviation} would be lost in the sums, whose numbers end there.", hint="Use a larger clipping bound."
            )
        # 64 bytes more, because the first half begins at the stream's third block: so it ends before the second half.
        self._once(purpose, step, 64 + sum(16 * (-(-tensor.numel() // 2)) for tensor in sums))
        self._gaussian = self._gaussian or GaussianSource()
        add_noise_(sums, deviation, _Halves(self, purpose, step), self._gaussian)

    def normal(self, purpose: Purpose, step: int, count: int) -> NDArray[np.float64]:
        """`count` independent standard normal numbers.

        Each is a sum of four Box-Muller draws from two independent calls, over two. The sum hides the gaps between floating-point numbers
        that one draw can reach and that attacks read (Mironov 2012; Jin et al. 2022): section 5.1 of Holohan and Braghin (2021) with n = 2,
        an effort of 2¹⁵⁹, as Opacus does in its secure mode.
        """
        import torch  # vectorises logarithm and cosine where numpy does not: three times as quick

        self._once(purpose, step, 32 * (count + BLOCK))
        stream = self._keystream(purpose, step)
        block = max(1, min(count, BLOCK))
        zeros, buffer = bytes(4 * 8 * block), bytearray(4 * 8 * block)
        words = np.frombuffer(buffer, dtype="<u8").reshape(4, block)
        result = torch.empty(count, dtype=torch.float64)
        for start in range(0, count, block):
            stream.update_into(zeros, buffer)
            # The middle of each of 2⁵³ cells: never 0, where the logarithm ends.
            uniform = torch.from_numpy((words >> np.uint64(11)).view(np.int64)).double().add_(0.5).mul_(2.0**-53)
            radius = uniform[:2].log_().mul_(-2.0).sqrt_()
            # One call's two draws sum to r (cos t + sin t) = √2 r cos(t - π/4), and with t its shift by π/4 is uniform: one cosine does.
            draws = radius.mul_(uniform[2:].mul_(2.0 * math.pi).cos_()).sum(0).div_(math.sqrt(2.0))
            result[start : start + block] = draws[: count - start]
        return np.asarray(result.numpy())


class _Halves:
    """The stream of one release of noise: the first half in order, and the second one by place. See `gaussian.Keystream`."""

    def __init__(self, source: Randomness, purpose: Purpose, step: int) -> None:
        self._source, self._purpose, self._step = source, purpose, step
        # OpenSSL makes the same keystream more quickly for GCM, whose counter begins at 2 (NIST SP 800-38D, 7.1). No tag is asked for.
        self._first = Cipher(algorithms.AES(source._key), modes.GCM(source._start(purpose, step))).encryptor()

    def fill(self, buffer: memoryview) -> None:
        for start in range(0, len(buffer), len(_ZEROS)):
            part = buffer[start : start + len(_ZEROS)]
            self._first.update_into(_ZEROS[: len(part)], part)

    def rest(self, pairs: NDArray[np.int64]) -> NDArray[np.uint32]:
        words = self._source._blocks(self._purpose, self._step, _COUNTERS // 2 + pairs // 2).reshape(-1, 2, 2)
        return words[np.arange(len(pairs)), pairs % 2].T
