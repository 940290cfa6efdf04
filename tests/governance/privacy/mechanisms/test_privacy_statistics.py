"""Private centres and scales: sensitivity by brute force, accuracy on columns of every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from affidavit_governance.privacy.mechanisms.statistics import EDGES, center_and_scale, log_histogram, uniform_histogram

ANY = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(ANY, ANY, ANY), min_size=1, max_size=6))
def test_one_record_adds_at_most_one_count_to_each_column(rows: list[tuple[float, ...]]) -> None:
    columns = np.array(rows)
    low, high = np.array([-1.0, 0.0, 1e-3]), np.array([1.0, 1e9, 2e-3])
    for histogram in (log_histogram, lambda values: uniform_histogram(values, low, high)):
        difference = histogram(columns) - histogram(columns[:-1])
        assert np.linalg.norm(difference) <= np.sqrt(columns.shape[1])
        assert (difference.sum(axis=1) == np.isfinite(columns[-1])).all()


def test_values_count_in_the_bin_that_holds_them() -> None:
    values = np.array([0.0, 1.0, 1.5, -3.0, 1e-300, 1e300, -1e300])[:, None]
    counts = log_histogram(values)[0]
    for value in (0.0, 1.2, -3.0):
        index = np.searchsorted(EDGES, value, side="right") - 1
        assert EDGES[index] <= value < EDGES[index + 1]
        assert counts[index] == 2 if value != -3.0 else 1
    assert counts[0] == counts[-1] == 1
    assert counts.sum() == len(values)


def noise(seed: int, deviation: float):  # type: ignore[no-untyped-def]  # a closure for tests
    generator = np.random.default_rng(seed)

    def release(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        return counts + generator.normal(0, deviation, counts.shape), deviation

    return release


@pytest.mark.parametrize("seed", range(3))
def test_columns_of_every_size_are_centred_and_scaled(seed: int) -> None:
    generator = np.random.default_rng(100 + seed)
    rows = 750
    columns = np.column_stack(
        [
            generator.integers(19, 76, rows),  # age
            generator.lognormal(7.8, 0.8, rows),  # amount
            generator.integers(2000, 2021, rows),  # year: a narrow range far from zero
            generator.normal(0, 1e-3, rows),
            generator.normal(-5e6, 1e5, rows),
            generator.integers(0, 2, rows),
        ]
    ).astype(float)
    center, scale, undetermined = center_and_scale(columns, noise(seed, 15.0))
    standardised = (columns - center) / scale
    assert undetermined == 0
    assert (np.abs(np.median(standardised, axis=0)) < 1.1).all()
    assert ((standardised.std(axis=0) > 0.1) & (standardised.std(axis=0) < 5.0)).all()


def test_without_noise_centre_and_scale_are_mean_and_deviation_up_to_a_bin() -> None:
    columns = np.random.default_rng(0).uniform(0, 16, (5000, 1))
    center, scale, _ = center_and_scale(columns, lambda counts: (counts, 1.0))
    assert center[0] == pytest.approx(columns.mean(), abs=0.1)
    assert scale[0] == pytest.approx(columns.std(), abs=0.1)


def test_an_outlier_hardly_moves_anything() -> None:
    columns = np.random.default_rng(0).normal(50, 5, (1000, 1))
    moved = columns.copy()
    moved[0] = 1e30
    one, other = center_and_scale(columns, noise(1, 15.0)), center_and_scale(moved, noise(1, 15.0))
    assert one[0] == pytest.approx(other[0], rel=0.05)
    assert one[1] == pytest.approx(other[1], rel=0.2)


@pytest.mark.parametrize("columns", [np.full((200, 1), np.nan), np.empty((0, 1)), np.arange(5.0)[:, None]])
def test_columns_of_which_nothing_can_be_seen_are_left_alone(columns: NDArray[np.float64]) -> None:
    center, scale, undetermined = center_and_scale(columns, noise(0, 15.0))
    assert (center, scale, undetermined) == (pytest.approx([0.0]), pytest.approx([1.0]), 1)


def test_a_constant_column_gets_a_positive_scale() -> None:
    center, scale, _ = center_and_scale(np.full((500, 1), 7.0), noise(0, 10.0))
    assert 0 < scale[0] < 1
    assert center[0] == pytest.approx(7.0, abs=1.0)
