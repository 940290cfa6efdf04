"""Gaussian blur along chosen axes, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SPREADS = 4
"""The Gaussian is cut after so many standard deviations, where it has less than a ten-thousandth of its height."""


def blurred(values: NDArray[np.float64], axes: list[int]) -> NDArray[np.float64]:
    """Each row (the first axis) blurred along `axes` (counted from the second), with a standard deviation of an eighth of each axis.

    At the borders the mean is over what is there, so that a constant stays what it is.
    """
    for axis in axes:
        moved = np.moveaxis(values, axis + 1, -1)
        values = np.moveaxis(_along_last(moved, max(1.0, moved.shape[-1] / 8)), -1, axis + 1)
    return values


def _along_last(values: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    length = values.shape[-1]
    reach = min(length - 1, int(_SPREADS * spread))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    size = length + 2 * reach

    def smooth(signal: NDArray[np.float64]) -> NDArray[np.float64]:
        full: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(kernel, size), size)
        return full[..., reach : reach + length]

    weight = smooth(np.ones(length))
    mean: NDArray[np.float64] = smooth(values) / weight
    return mean
