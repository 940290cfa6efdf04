"""Keccak-256 as Ethereum uses it: the sponge of FIPS 202's SHA3-256 with the padding of Keccak's submission, which hashlib lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Lanes = list[npt.NDArray[np.uint64]]

_RATE = 136


def _round_constants() -> list[int]:
    """The 24 constants of step ι, from its linear feedback shift register (FIPS 202, algorithm 5)."""
    register, constants = 1, []
    for _ in range(24):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants


def _rotations() -> list[int]:
    """How far step ρ rotates lane x + 5y (FIPS 202, algorithm 2)."""
    offsets, x, y = [0] * 25, 1, 0
    for t in range(24):
        offsets[x + 5 * y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return offsets


_CONSTANTS = [np.uint64(constant) for constant in _round_constants()]
_OFFSETS = _rotations()


def _rotate(lane: npt.NDArray[np.uint64], by: int) -> npt.NDArray[np.uint64]:
    return (lane << np.uint64(by)) | (lane >> np.uint64(64 - by)) if by else lane


def _permute(lanes: Lanes) -> Lanes:
    """Keccak-f[1600] (FIPS 202, section 3.3), of many states at once."""
    for constant in _CONSTANTS:
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        theta = [columns[x - 1] ^ _rotate(columns[(x + 1) % 5], 1) for x in range(5)]
        moved = [lanes[0]] * 25
        for y in range(5):
            for x in range(5):
                moved[y + 5 * ((2 * x + 3 * y) % 5)] = _rotate(lanes[x + 5 * y] ^ theta[x], _OFFSETS[x + 5 * y])
        lanes = [moved[5 * y + x] ^ (~moved[5 * y + (x + 1) % 5] & moved[5 * y + (x + 2) % 5]) for y in range(5) for x in range(5)]
        lanes[0] = lanes[0] ^ constant
    return lanes


def keccak_256(messages: Sequence[bytes]) -> list[bytes]:
    """The 32-byte hash of each message; all are computed together. Messages have at most 135 bytes, one block of the sponge.

    Raises
    ------
    ValueError
        A message is longer.
    """
    if not messages:
        return []
    if max(map(len, messages)) >= _RATE:
        raise ValueError("keccak_256 takes messages of at most 135 bytes")
    blocks = np.zeros((len(messages), _RATE), np.uint8)
    for row, message in zip(blocks, messages, strict=True):
        row[: len(message)] = np.frombuffer(message, np.uint8)
        row[len(message)] ^= 0x01
        row[-1] ^= 0x80
    words = blocks.view("<u8").astype(np.uint64)
    lanes = [words[:, i].copy() for i in range(_RATE // 8)] + [np.zeros(len(messages), np.uint64)] * (25 - _RATE // 8)
    digest = np.stack(_permute(lanes)[:4], axis=1).astype("<u8")
    return [row.tobytes() for row in digest]
