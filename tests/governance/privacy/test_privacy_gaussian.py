"""Noise on a lattice: exact numbers from given words, the distribution, and the attacks on floating-point gaps that it withstands."""

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
from affidavit_governance.privacy.gaussian import LEAST_WORD, MOST_WORD, PAIRS, GaussianSource, gaussian_pairs, lattice_step, least_deviation
from affidavit_governance.privacy.randomness import Purpose, Randomness

KEY = bytes(range(32))
NOISE = Purpose.GRADIENT_NOISE


def noisy(values: torch.Tensor, deviation: float = 1.0, step: int = 1) -> torch.Tensor:
    result = values.clone()
    Randomness(KEY).add_noise_([result], deviation, NOISE, step)
    return result


class Given:
    """A keystream of the words that a test gives: the more significant halves of two words a pair, and the others."""

    def __init__(self, first: NDArray[np.uint32], rest: NDArray[np.uint32]) -> None:
        self._first, self._rest, self.asked = first, rest, 0

    def fill(self, buffer: memoryview) -> None:
        buffer[:] = self._first.astype("<u4").tobytes()

    def rest(self, pairs: NDArray[np.int64]) -> NDArray[np.uint32]:
        self.asked += len(pairs)
        return self._rest[:, pairs]


def words_of(count: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Words of `count` pairs, the first 100 of them the extreme ones that no test would meet by chance."""
    words = Randomness(KEY).words(Purpose.SAMPLING, 1, 2 * count).view(np.uint32).reshape(2, 2, count)
    first, rest = words[0].copy(), words[1].copy()
    first[0, :33] = np.uint64(2**32 - 1) >> np.arange(33, dtype=np.uint64)
    first[0, 33:66], rest[0, 33:66] = 0, first[0, :33]
    first[1, 66:74] = [0, 1, 2**24 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1]
    first[:, 74:78], rest[:, 74:78] = [[0] * 4, [0, 0, 5, 5]], [[0] * 4, [0, 2**24 - 1, 0, 2**24 - 1]]
    first[:, 78:82], rest[:, 78:82] = 2**32 - 1, [[2**32 - 1] * 4, [0, 1, 2**24, 2**32 - 1]]
    edges = [LEAST_WORD - 1, LEAST_WORD, LEAST_WORD + 1, MOST_WORD - 1, MOST_WORD, MOST_WORD + 1]
    first[0, 82:100] = np.repeat(edges, 3)
    return first, rest


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="the reference needs a long double of 64 bits, which this machine has not")
def test_numbers_are_computed_to_2_to_the_minus_45_deviations() -> None:
    first, rest = words_of(100_000)
    radius_word, angle_word = (first.astype(np.uint64) << np.uint64(32)) | rest
    low = (angle_word & np.uint64(2**24 - 1)).astype(np.longdouble)
    uniform = radius_word.astype(np.longdouble) / np.longdouble(2) ** 64 + (1 - low / 2**24) / np.longdouble(2) ** 64
    angle = 2 * np.longdouble("3.14159265358979323846264338327950288") * (angle_word.astype(np.longdouble) / np.longdouble(2) ** 64)
    expected = np.sqrt(-2 * np.log(uniform)) * np.array([np.cos(angle), np.sin(angle)])
    drawn = gaussian_pairs(first, rest)
    assert (np.abs(drawn - expected) < 2.0**-45 + 2.0**-53 / np.maximum(np.hypot(*expected), 2.0**-60)).all()
    assert np.hypot(*drawn).max() == pytest.approx(math.sqrt(2 * 88 * math.log(2)))


def test_the_farthest_tail_has_steps_below_the_lattice_down_to_a_probability_of_2_to_the_minus_70() -> None:
    # Two neighbours among the numbers at u = 2⁻⁷⁰: the first word 0, the low bits of the second next to each other.
    low = 2**24 - 2**18
    one, two = np.hypot(*gaussian_pairs(np.zeros((2, 2), dtype=np.uint32), np.array([[0, 0], [low, low + 1]], dtype=np.uint32)))
    assert math.exp(-(one**2) / 2) == pytest.approx(2.0**-70)
    assert 0 < two - one < lattice_step(1.0) / 256


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e5])
def test_every_release_is_the_point_that_all_bits_give(kind: type, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    first, rest = words_of(PAIRS)
    asked = []
    for deviation in (1.0, 1.99, 0.003):
        sums = (size * deviation * np.random.default_rng(0).normal(size=2 * PAIRS)).astype(kind)
        quick, whole = sums.copy(), sums.copy()
        for values, certain in ((quick, gaussian.CERTAIN), (whole, -1.0)):
            stream = Given(first, rest)
            monkeypatch.setattr(gaussian, "CERTAIN", certain)
            GaussianSource().add_(values, deviation, stream, 0)
            asked.append(stream.asked)
            monkeypatch.undo()
        assert np.array_equal(quick, whole)
        points = whole / lattice_step(deviation)
        expected = sums / lattice_step(deviation) + gaussian_pairs(first, rest).reshape(-1) * (deviation / lattice_step(deviation))
        assert (np.abs(points - expected) <= 0.5 + 1e-6 + np.spacing(np.abs(points)) / 2).all()
    assert asked[1::2] == [PAIRS] * 3
    assert max(asked[::2]) < 0.005 * PAIRS


def test_single_precision_decides_with_room_to_spare_and_not_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {}
    zeros = torch.zeros(8_000_000)
    right = noisy(zeros, 1.99)
    for margin in (1.0, 0.0):
        monkeypatch.setattr(gaussian, "CERTAIN", 0.5 - margin * 2.0**-12)
        wrong[margin] = int((noisy(zeros, 1.99) != right).sum())
    # It is allowed three times as much; without the check it is wrong now and then.
    assert wrong[1.0] == 0
    assert wrong[0.0] > 20


def test_how_many_pairs_take_all_bits_tells_nothing_of_the_sums() -> None:
    first, rest = (words[:, 100:] for words in words_of(PAIRS + 100))
    asked = []
    for value in (0.0, 0.5, 0.499, 0.25, -1e6 / 3):
        stream = Given(first, rest)
        GaussianSource().add_(np.full(2 * PAIRS, value * lattice_step(1.0), dtype=np.float32), 1.0, stream, 0)
        asked.append(stream.asked)
    expected = float(np.mean(asked))
    assert expected == pytest.approx(PAIRS * (12 * 2.0**-12 + 2.0**-11), rel=0.1)
    assert all(abs(number - expected) < 4 * math.sqrt(expected) for number in asked)


def test_a_released_zero_has_no_sign() -> None:
    for value in (-0.0, -0.3, -1e-30):
        for kind in (torch.float32, torch.float64):
            drawn = noisy(torch.full((500_000,), value * lattice_step(1.0), dtype=kind)).numpy()
            assert (drawn == 0).sum() > 200
            assert not np.signbit(drawn[drawn == 0]).any()


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
    assert kept.sum() > 400
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
    assert deviation / 128 < lattice <= deviation / 64
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
        reached.append(set(points[np.abs(points) <= 200].tolist()))
    assert all(points == set(range(-200, 201)) for points in reached)


def test_noise_does_not_depend_on_what_it_is_added_to_how_it_is_cut_or_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = noisy(torch.zeros(10, dtype=torch.float64))
    shifted = noisy(torch.arange(10, dtype=torch.float64))
    assert torch.equal(shifted - torch.arange(10), alone)
    long = noisy(torch.zeros(3000, dtype=torch.float64))
    monkeypatch.setattr(gaussian, "PAIRS", 500)
    monkeypatch.setattr(gaussian, "BLOCKS", 2)
    parts = [torch.zeros(1000, dtype=torch.float64), torch.zeros(25, 40), torch.zeros(1000, dtype=torch.float64)]
    Randomness(KEY).add_noise_(parts, 1.0, NOISE, 1)
    blocks = noisy(torch.zeros(3000, dtype=torch.float64))
    assert torch.equal(torch.cat([part.view(-1).double() for part in parts]), blocks)
    assert not torch.equal(blocks, long)  # pairs lie a block's half apart, so the order is another one
    for one, other in ((blocks[:1000], blocks[1000:2000]), (blocks[:500], blocks[500:1000]), (blocks[1000:2000], blocks[2000:])):
        assert (one == other).double().mean() < 0.02


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
