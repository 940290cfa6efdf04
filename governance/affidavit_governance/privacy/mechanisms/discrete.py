"""Exact samplers in whole numbers: no floating point, so that no gap between its numbers can tell what the noise was added to.

Algorithms 1 and 2 of Canonne, Kamath and Steinke (2020), "The discrete Gaussian for differential privacy". Only their running time depends on
the draws.
"""

from __future__ import annotations

import math
from fractions import Fraction

from affidavit_governance.privacy.randomness import Purpose, Randomness

BLOCK = 256
"""Words drawn from a stream at a time."""


class Integers:
    """Uniform whole numbers from `source`, which nothing else may draw discrete noise from."""

    def __init__(self, source: Randomness) -> None:
        self._source = source
        self._step = 0
        self._words: list[int] = []

    def _word(self) -> int:
        if not self._words:
            self._step += 1
            self._words = [int(word) for word in self._source.words(Purpose.DISCRETE_NOISE, self._step, BLOCK)]
        return self._words.pop()

    def below(self, number: int) -> int:
        """A uniform number from 0 to ``number - 1``: random bits, again and again until they are below."""
        bits = (number - 1).bit_length()
        while True:
            drawn = 0
            for _ in range(-(-bits // 64)):
                drawn = drawn << 64 | self._word()
            drawn >>= -bits % 64
            if drawn < number:
                return drawn


def bernoulli(integers: Integers, probability: Fraction) -> bool:
    """True with exactly this probability."""
    return integers.below(probability.denominator) < probability.numerator


def bernoulli_exp(integers: Integers, exponent: Fraction) -> bool:
    """True with probability exp(-exponent), for an exponent of at least 0 (algorithm 1)."""
    while exponent > 1:
        if not bernoulli_exp(integers, Fraction(1)):
            return False
        exponent -= 1
    number = 1
    while bernoulli(integers, exponent / number):
        number += 1
    return number % 2 == 1


def discrete_laplace(integers: Integers, scale: Fraction) -> int:
    """A draw from P(x) ∝ exp(-|x|/scale) over all whole numbers (algorithm 2)."""
    while True:
        part = integers.below(scale.numerator)
        if not bernoulli_exp(integers, Fraction(part, scale.numerator)):
            continue
        whole = 0
        while bernoulli_exp(integers, Fraction(1)):
            whole += 1
        size = (part + scale.numerator * whole) // scale.denominator
        negative = bernoulli(integers, Fraction(1, 2))
        if not (negative and size == 0):
            return -size if negative else size


def laplace_deviation(scale: Fraction) -> float:
    """Standard deviation of `discrete_laplace`."""
    ratio = math.exp(-1 / float(scale))
    return math.sqrt(2 * ratio) / (1 - ratio)


def laplace_half_width(scale: Fraction, confidence: float) -> int:
    """The smallest k with P(|x| ≤ k) of at least `confidence`: P(|x| > k) = 2 exp(-(k+1)/scale) / (1 + exp(-1/scale))."""
    decay = 1 / float(scale)
    return max(0, math.ceil(math.log(2 / ((1 - confidence) * (1 + math.exp(-decay)))) / decay - 1))
