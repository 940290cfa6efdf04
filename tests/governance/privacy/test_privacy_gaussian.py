"""Noise on a lattice: exact numbers from given words, the distribution, and the attack on floating-point gaps that it withstands."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from affidavit.errors import UsageError
from affidavit_governance.privacy import gaussian
from affidavit_governance.privacy.gaussian import PAIRS, GaussianSource, lattice_step, least_deviation
from affidavit_governance.privacy.randomness import Purpose, Randomness

KEY = bytes(range(32))
NOISE = Purpose.GRADIENT_NOISE


def noisy(values: torch.Tensor, deviation: float = 1.0, step: int = 1) -> torch.Tensor:
    result = values.clone()
    Randomness(KEY).add_noise_([result], deviation, NOISE, step)
    return result


def exact(words: NDArray[np.uint64]) -> NDArray[np.longdouble]:
    """The numbers that pairs of words stand for, in the 64-bit mantissas of an x86's long double; words has shape 2 × pairs."""
    first = (words[0] & np.uint64(2**63 - 1)).astype(np.longdouble)
    low = (words[1] & np.uint64(2**24 - 1)).astype(np.longdouble)
    uniform = (first + 1 - low / 2**24) / np.longdouble(2) ** 63
    index = (words[1] >> np.uint64(64 - 13)).astype(np.longdouble)
    rest = (words[1] << np.uint64(13)).view(np.int64).astype(np.longdouble)
    angle = 2 * np.longdouble("3.14159265358979323846264338327950288") * (index / 2**13 + rest / np.longdouble(2) ** 77)
    return np.sqrt(-2 * np.log(uniform)) * np.array([np.cos(angle), np.sin(angle)])


class Given:
    """A keystream of the words that a test gives."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._bytes = words.astype("<u8").tobytes()

    def update_into(self, data: bytes, buffer: memoryview) -> int:
        buffer[:] = self._bytes
        return len(buffer)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="the reference needs a long double of 64 bits, which this machine has not")
def test_numbers_are_computed_to_2_to_the_minus_45_deviations() -> None:
    words = Randomness(KEY).words(Purpose.SAMPLING, 1, 2 * PAIRS).reshape(2, PAIRS).copy()
    # Far tails too, which no test would meet by chance: every number of leading zeros, to the last.
    words[0, :64] = np.uint64(2**63 - 1) >> np.arange(64, dtype=np.uint64)
    words[1, 64:72] = np.array([0, 1, 2**24 - 1, 2**24, 2**50, 2**51, 2**51 - 1, 2**64 - 1], dtype=np.uint64)
    words[:, 72:74] = np.array([[0, 0], [0, 2**24 - 1]], dtype=np.uint64)
    drawn = GaussianSource().draw(Given(words), 2 * PAIRS, 1.0).numpy().reshape(PAIRS, 2).T  # type: ignore[arg-type]  # a keystream of our own
    reference = exact(words)
    radius = np.maximum(np.hypot(*reference), 2.0**-60)
    assert (np.abs(drawn - reference) < 2.0**-45 + 2.0**-53 / radius).all()
    assert np.hypot(*drawn).max() == pytest.approx(math.sqrt(2 * 87 * math.log(2)))


def test_the_farthest_tail_has_steps_below_the_lattice_down_to_a_probability_of_2_to_the_minus_70() -> None:
    # Two neighbours among the numbers at u = 2⁻⁷⁰: the first word 0, the low bits of the second next to each other.
    low = 2**24 - 2**17
    words = np.array([[0, 0], [low, low + 1]], dtype=np.uint64)
    one, two = np.hypot(*GaussianSource().draw(Given(words), 4, 1.0).numpy().reshape(2, 2).T)  # type: ignore[arg-type]
    assert math.exp(-(one**2) / 2) == pytest.approx(2.0**-70)
    assert 0 < two - one < lattice_step(1.0) / 256


def test_noise_has_the_moments_distribution_and_tails_of_a_gaussian() -> None:
    drawn = noisy(torch.zeros(2_000_000, dtype=torch.float64)).numpy()
    count = len(drawn)
    assert abs(drawn.mean()) < 4 / math.sqrt(count)
    assert drawn.var() == pytest.approx(1, abs=4 * math.sqrt(2 / count))
    assert abs(stats.skew(drawn)) < 4 * math.sqrt(6 / count)
    assert abs(stats.kurtosis(drawn)) < 4 * math.sqrt(24 / count)
    assert stats.kstest(drawn + np.random.default_rng(0).uniform(-0.5, 0.5, count) * lattice_step(1.0), "norm").pvalue > 0.01
    for beyond in (2.0, 3.0, 4.0, 4.5):
        expected = 2 * count * stats.norm.sf(beyond)
        assert abs((np.abs(drawn) >= beyond).sum() - expected) < 4 * math.sqrt(expected) + 1
    halves = drawn.reshape(-1, 2).T
    for left, right in ((drawn[:-1], drawn[1:]), halves, np.abs(halves), halves**2):
        assert abs(np.corrcoef(left, right)[0, 1]) < 4 / math.sqrt(len(left))


@pytest.mark.parametrize("value", [0.0, 0.3, 1e-9, -77.77])
def test_each_lattice_point_has_the_probability_of_its_cell(value: float) -> None:
    count, step = 1_000_000, lattice_step(8.0)
    points = noisy(torch.full((count,), value, dtype=torch.float64), 8.0).numpy() / step
    found = np.bincount((points - round(value / step) + 600).astype(int).clip(0, 1200), minlength=1201)[1:-1]
    edges = (np.arange(1, 1201) - 600 + round(value / step) - 0.5) * step
    expected = count * np.diff(stats.norm.cdf(edges, value, 8.0))
    kept = expected > 20
    assert kept.sum() > 900
    assert stats.chisquare(found[kept], expected[kept] / expected[kept].sum() * found[kept].sum()).pvalue > 0.001


@settings(max_examples=60, deadline=None)
@given(
    value=st.floats(-1e6, 1e6),
    deviation=st.floats(1e-12, 1e12),
    kind=st.sampled_from([torch.float64, torch.float32]),
    step=st.integers(0, 2**40),
)
def test_every_released_number_is_on_the_lattice(value: float, deviation: float, kind: torch.dtype, step: int) -> None:
    lattice = lattice_step(deviation)
    assert deviation / 512 < lattice <= deviation / 256
    assert math.frexp(lattice)[0] == 0.5
    for number in noisy(torch.full((5,), value * deviation * 1e-3, dtype=kind), deviation, step).tolist():
        ratio = number / lattice
        assert ratio == round(ratio)


def fine_bits(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mironov's test: has the number bits below 2⁻⁵³, which a sum with a number of size one cannot have?"""
    return np.asarray(values * 2.0**53 != np.round(values * 2.0**53))


def test_the_attack_on_gaps_tells_naive_noise_apart_and_not_ours() -> None:
    # An attacker who knows that the true sum is 0 or 1 looks at releases between -1/4 and 1/4, which either can give.
    def verdicts(releases: NDArray[np.float64]) -> NDArray[np.bool_]:
        return fine_bits(releases[np.abs(releases) < 0.25])

    count = 100_000
    noise = np.random.default_rng(0).normal(size=count)
    zero, one = verdicts(0.0 + noise), verdicts(1.0 + noise)
    assert zero.mean() > 0.8
    assert not one.any()
    ours = [noisy(torch.full((count,), value, dtype=torch.float64)).numpy() for value in (0.0, 1.0)]
    assert not verdicts(ours[0]).any()
    assert not verdicts(ours[1]).any()


def test_neighbouring_sums_reach_the_same_points() -> None:
    count = 1_000_000
    reached = []
    for value in (0.0, 1e-17, 1 / 3, 0.5 * lattice_step(1.0)):
        points = noisy(torch.full((count,), value, dtype=torch.float64)).numpy() / lattice_step(1.0)
        reached.append(set(points[np.abs(points) <= 300].tolist()))
    assert all(points == set(range(-300, 301)) for points in reached)


def test_noise_does_not_depend_on_what_it_is_added_to_how_it_is_cut_or_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = noisy(torch.zeros(10, dtype=torch.float64))
    shifted = noisy(torch.arange(10, dtype=torch.float64))
    assert torch.equal(shifted - torch.arange(10), alone)
    long = noisy(torch.zeros(3000, dtype=torch.float64))
    monkeypatch.setattr(gaussian, "PAIRS", 500)
    parts = [torch.zeros(1000, dtype=torch.float64), torch.zeros(25, 40), torch.zeros(1000, dtype=torch.float64)]
    Randomness(KEY).add_noise_(parts, 1.0, NOISE, 1)
    blocks = noisy(torch.zeros(3000, dtype=torch.float64))
    assert torch.equal(torch.cat([part.view(-1).double() for part in parts]), blocks)
    assert not torch.equal(blocks, long)  # pairs lie a block's half apart, so the order is another one
    assert len(torch.unique(blocks)) > 500


@pytest.mark.parametrize("count", [0, 1, 2, 3, 2 * PAIRS - 1, 2 * PAIRS + 1, 4 * PAIRS + 5])
def test_every_number_gets_noise_of_its_own(count: int) -> None:
    drawn = noisy(torch.zeros(count, dtype=torch.float64), 2.0**40).numpy()
    assert drawn.shape == (count,)
    assert np.count_nonzero(drawn) >= 0.99 * count - 1
    half = count // 2
    if half > 100:
        assert np.mean(drawn[:half] == drawn[half : 2 * half]) < 0.01


def test_narrow_types_and_other_shapes_get_the_same_noise_rounded_once_more() -> None:
    wide = noisy(torch.zeros(4, 6, dtype=torch.float64))
    assert torch.equal(noisy(torch.zeros(4, 6)).double(), wide)
    assert torch.equal(noisy(torch.zeros(4, 6, dtype=torch.bfloat16)), wide.to(torch.bfloat16))


def test_gradient_noise_is_drawn_once_a_step_and_needs_a_deviation() -> None:
    source, sums = Randomness(KEY), [torch.zeros(3)]
    source.add_noise_(sums, 1.0, NOISE, 1)
    with pytest.raises(UsageError, match="was drawn before"):
        source.add_noise_(sums, 1.0, NOISE, 1)
    for deviation in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="positive and finite"):
            source.add_noise_(sums, deviation, NOISE, 2)


def test_memory_does_not_grow_with_the_model() -> None:
    source = Randomness(KEY)
    source.add_noise_([torch.zeros(10)], 1.0, NOISE, 1)
    held = source._gaussian
    source.add_noise_([torch.zeros(10 * PAIRS)], 1.0, NOISE, 2)
    assert source._gaussian is held


@pytest.mark.parametrize(("deviation", "dtype"), [(1e-310, torch.float64), (1e-50, torch.float32), (1e-44, torch.float32), (1e-3, torch.float16)])
def test_noise_that_the_sums_cannot_hold_is_refused_and_leaves_them_as_they_are(deviation: float, dtype: torch.dtype) -> None:
    sums = torch.tensor([0.0, 1.0], dtype=dtype)
    with pytest.raises(UsageError, match="would be lost"):
        Randomness(KEY).add_noise_([sums], deviation, NOISE, 1)
    assert sums.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_least_noise_that_is_accepted_is_still_there(dtype: torch.dtype) -> None:
    least = least_deviation(dtype)
    drawn = noisy(torch.zeros(2000, dtype=dtype), least).double() / least
    assert drawn.std().item() == pytest.approx(1.0, abs=0.08)
    assert np.count_nonzero(drawn.numpy()) > 1950
