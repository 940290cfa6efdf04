"""Randomness that privacy rests on: AES-256 in counter mode, keyed once from the operating system's entropy."""

from __future__ import annotations

import math
import os
from enum import IntEnum

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

BLOCK = 16_384
"""Normal numbers made at a time: the work stays in the processor's cache, and a large model needs no more memory than a small one."""


class Purpose(IntEnum):
    """What a stream of random words is for; each has streams of its own."""

    SAMPLING = 1
    GRADIENT_NOISE = 2
    STATISTICS_NOISE = 3


class Randomness:
    """Random words and Gaussian noise, addressed by purpose and step.

    A stream is the AES-256-CTR keystream (NIST SP 800-38A) whose counter block starts with the purpose and the step, so that no two streams
    overlap and each step's draws do not depend on how much earlier steps drew. A stream must be drawn only once.

    Parameters
    ----------
    key
        32 bytes. None, for everything but replay in tests, takes them from ``os.urandom``.
    """

    description = "AES-256-CTR keyed from os.urandom"

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(32) if key is None else key

    def _keystream(self, purpose: Purpose, step: int) -> CipherContext:
        # 4 bytes purpose, 8 bytes step, 4 bytes block counter: 64 GiB a stream.
        start = int(purpose).to_bytes(4, "big") + step.to_bytes(8, "big") + bytes(4)
        return Cipher(algorithms.AES(self._key), modes.CTR(start)).encryptor()

    def words(self, purpose: Purpose, step: int, count: int) -> NDArray[np.uint64]:
        """`count` independent uniform 64-bit words."""
        return np.frombuffer(self._keystream(purpose, step).update(bytes(8 * count)), dtype="<u8").astype(np.uint64, copy=False)

    def sample(self, step: int, rows: int, rate: float) -> NDArray[np.int64]:
        """A Poisson sample: each of `rows` indices with probability `rate`, independently."""
        if rate >= 1:
            return np.arange(rows, dtype=np.int64)
        threshold = np.uint64(int(rate * 2.0**64))
        return np.flatnonzero(self.words(Purpose.SAMPLING, step, rows) < threshold).astype(np.int64, copy=False)

    def normal(self, purpose: Purpose, step: int, count: int) -> NDArray[np.float64]:
        """`count` independent standard normal numbers.

        Each is a sum of four Box-Muller draws from two independent calls, over two. The sum hides the gaps between floating-point numbers
        that one draw can reach and that attacks read (Mironov 2012; Jin et al. 2022): section 5.1 of Holohan and Braghin (2021) with n = 2,
        an effort of 2¹⁵⁹, as Opacus does in its secure mode.
        """
        import torch  # vectorises logarithm and cosine where numpy does not: three times as quick

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
