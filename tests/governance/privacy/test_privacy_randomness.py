"""The random streams: what they are, that they do not overlap, and that their distributions are right."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from affidavit_governance.privacy.randomness import BLOCK, Purpose, Randomness

KEY = bytes(range(32))


def test_words_are_the_aes_256_keystream_of_sp_800_38a() -> None:
    # Appendix F.5.5 uses another first counter block; the keystream of a block is its encryption, which ECB gives alone.
    block = (1).to_bytes(4, "big") + (9).to_bytes(8, "big") + bytes(4)
    encryptor = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    assert Randomness(KEY).words(Purpose.SAMPLING, 9, 2).tobytes() == encryptor.update(block)


def test_streams_of_other_steps_and_purposes_and_keys_differ() -> None:
    source = Randomness(KEY)
    drawn = [source.words(purpose, step, 4).tobytes() for purpose in Purpose for step in (0, 1, 2)]
    drawn += [Randomness().words(Purpose.SAMPLING, 0, 4).tobytes() for _ in range(2)]
    assert len(set(drawn)) == len(drawn)


def test_noise_is_standard_normal() -> None:
    drawn = Randomness(KEY).normal(Purpose.GRADIENT_NOISE, 1, 200_000)
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    assert stats.kurtosis(drawn) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_noise_has_the_length_asked_for_and_no_repeated_block(count: int) -> None:
    drawn = Randomness(KEY).normal(Purpose.GRADIENT_NOISE, 1, count)
    assert drawn.shape == (count,)
    assert len(np.unique(drawn)) == count


def test_samples_are_poisson() -> None:
    source = Randomness(KEY)
    rows, rate, steps = 400, 0.15, 2000
    taken = np.zeros((steps, rows), dtype=bool)
    for step in range(steps):
        taken[step, source.sample(step, rows, rate)] = True
    sizes = taken.sum(axis=1)
    assert taken.mean() == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / taken.size))
    assert sizes.var() == pytest.approx(rows * rate * (1 - rate), rel=0.15)
    assert abs(np.corrcoef(taken[:, 0], taken[:, 1])[0, 1]) < 0.1


def test_a_sample_of_all_rows_takes_all_rows() -> None:
    assert Randomness(KEY).sample(1, 5, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert Randomness(KEY).sample(1, 0, 0.5).tolist() == []


def test_removing_the_last_row_leaves_the_other_rows_draws() -> None:
    whole, without = Randomness(KEY).sample(3, 100, 0.5), Randomness(KEY).sample(3, 99, 0.5)
    assert without.tolist() == [index for index in whole if index < 99]
