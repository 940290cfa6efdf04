"""The random streams: what they are, that none repeats, and that samples and words are distributed as they say."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from affidavit.errors import UsageError
from affidavit_governance.privacy.randomness import BLOCK, Purpose, Randomness, _Halves

KEY = bytes(range(32))


class FromHere(Randomness):
    """Streams that start at a counter block of the test's choice."""

    def _keystream(self, purpose: Purpose, step: int):  # type: ignore[no-untyped-def]
        block = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
        return Cipher(algorithms.AES(self._key), modes.CTR(block)).encryptor()


def test_words_are_the_keystream_of_sp_800_38a_f_5_5() -> None:
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    cipher = bytes.fromhex("601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5")
    drawn = FromHere(key).words(Purpose.SAMPLING, 1, 4).tobytes()
    assert drawn == bytes(a ^ b for a, b in zip(plain, cipher, strict=True))


def test_the_counter_block_is_purpose_then_step_then_zeros() -> None:
    block = (1).to_bytes(4, "big") + (9).to_bytes(8, "big") + bytes(4)
    encryptor = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    assert Randomness(KEY).words(Purpose.SAMPLING, 9, 2).tobytes() == encryptor.update(block)


def test_the_halves_of_a_release_are_blocks_of_its_stream_that_never_meet() -> None:
    start, ecb = (2).to_bytes(4, "big") + (9).to_bytes(8, "big"), Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    halves = _Halves(Randomness(KEY), Purpose.GRADIENT_NOISE, 9)
    first = bytearray(40)
    for buffer in (memoryview(first)[:24], memoryview(first)[24:]):
        halves.fill(buffer)
    assert bytes(first) == b"".join(ecb.update(start + counter.to_bytes(4, "big")) for counter in (2, 3, 4))[:40]
    pairs = np.array([0, 1, 2, 2**32 - 1])
    counters = (2**31, 2**31, 2**31 + 1, 2**32 - 1)
    blocks = [ecb.update(start + counter.to_bytes(4, "big")) for counter in counters]
    expected = [block[8 * (pair % 2) :][:8] for block, pair in zip(blocks, pairs.tolist(), strict=True)]
    assert halves.rest(pairs).T.tobytes() == b"".join(expected)
    # A release of the most pairs ends its first half where the other begins.
    source, most = Randomness(KEY), 2 * (2**32 - 4)
    with pytest.raises(UsageError, match="a stream has"):
        source.add_noise_([Long(most + 1)], 1.0, Purpose.GRADIENT_NOISE, 1)  # type: ignore[list-item]  # no memory is that large
    assert 2 + 8 * (most // 2) // 16 == 2**31


class Long:
    """A tensor with so many numbers."""

    dtype = torch.float32

    def __init__(self, count: int) -> None:
        self._count = count

    def numel(self) -> int:
        return self._count


def test_streams_of_other_steps_and_purposes_and_keys_differ() -> None:
    source = Randomness(KEY)
    drawn = [source.words(purpose, step, 4).tobytes() for purpose in Purpose for step in (0, 1, 2)]
    drawn += [Randomness().words(Purpose.SAMPLING, 0, 4).tobytes() for _ in range(2)]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("again", [5, 4, 0])
def test_a_stream_is_drawn_once(again: int) -> None:
    source = Randomness(KEY)
    source.normal(Purpose.GRADIENT_NOISE, 5, 3)
    source.sample(5, 10, 0.5)
    for draw in (
        lambda: source.normal(Purpose.GRADIENT_NOISE, again, 3),
        lambda: source.words(Purpose.SAMPLING, again, 1),
        lambda: source.sample(again, 10, 0.5),
    ):
        with pytest.raises(UsageError, match="was drawn before"):
            draw()
    assert source.normal(Purpose.GRADIENT_NOISE, 6, 3).tolist() == Randomness(KEY).normal(Purpose.GRADIENT_NOISE, 6, 3).tolist()


def test_a_stream_never_runs_into_the_next_step() -> None:
    with pytest.raises(UsageError, match="a stream has 68719476736"):
        Randomness(KEY).words(Purpose.SAMPLING, 1, 2**33 + 1)


def test_normal_numbers_are_standard_normal() -> None:
    drawn = Randomness(KEY).normal(Purpose.GRADIENT_NOISE, 1, 200_000)
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    assert stats.kurtosis(drawn) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_normal_numbers_come_in_the_length_asked_for_without_a_repeated_block(count: int) -> None:
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


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 30), rate=st.floats(0, 1, exclude_max=True), step=st.integers(0, 2**40))
def test_a_row_is_drawn_if_its_64_bit_number_is_below_the_rate(rows: int, rate: float, step: int) -> None:
    high = np.frombuffer(Randomness(KEY)._keystream(Purpose.SAMPLING, step).update(bytes(4 * rows)), dtype="<u4")
    low = np.frombuffer(Randomness(KEY)._keystream(Purpose.SAMPLING_TIES, step).update(bytes(4 * rows)), dtype="<u4")
    numbers = [(int(a) << 32) + int(b) for a, b in zip(high, low, strict=True)]
    assert Randomness(KEY).sample(step, rows, rate).tolist() == [row for row, number in enumerate(numbers) if number < int(rate * 2**64)]


@pytest.mark.parametrize("row", range(12))
def test_a_tie_in_the_first_32_bits_is_decided_by_the_next(row: int) -> None:
    high = np.frombuffer(Randomness(KEY)._keystream(Purpose.SAMPLING, 3).update(bytes(48)), dtype="<u4")
    low = np.frombuffer(Randomness(KEY)._keystream(Purpose.SAMPLING_TIES, 3).update(bytes(48)), dtype="<u4")
    # A rate is a double: 53 bits from the first one bit of the number on, so that the last 11 bits or so are zeros.
    number = (int(high[row]) << 32) + int(low[row])
    below, above = (number >> 12) * 2.0**-52, ((number >> 12) + 1) * 2.0**-52
    assert int(below * 2**32) == int(above * 2**32) == int(high[row])
    assert row not in Randomness(KEY).sample(3, 12, below)
    assert row in Randomness(KEY).sample(3, 12, above)


def test_a_number_equal_to_the_rate_is_not_drawn() -> None:
    class Given(Randomness):
        """One row, whose number is 3·2³² + 5."""

        def _blocks(self, purpose: Purpose, step: int, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
            return np.full((len(numbers), 4), 5, dtype=np.uint32)

        def _keystream(self, purpose: Purpose, step: int):  # type: ignore[no-untyped-def]
            word = (3).to_bytes(4, "little")

            class Stream:
                def update(self, data: bytes) -> bytes:
                    return word * (len(data) // 4)

                def update_into(self, data: bytes, buffer: bytearray) -> None:
                    buffer[:] = self.update(data)

            return Stream()

    number = 3 * 2**32 + 5
    assert [len(Given(KEY).sample(1, 1, (number + more) * 2.0**-64)) for more in (-1, 0, 1)] == [0, 0, 1]


def test_large_samples_go_on_past_one_block_of_rows() -> None:
    drawn = Randomness(KEY).sample(1, 300_000, 0.3)
    counts = np.histogram(drawn, bins=30, range=(0, 300_000))[0]
    assert stats.chisquare(counts).pvalue > 0.01
    assert len(drawn) == pytest.approx(90_000, abs=1500)
    assert (np.diff(drawn) > 0).all()


def test_a_sample_of_all_rows_takes_all_rows_and_one_at_rate_zero_none() -> None:
    assert Randomness(KEY).sample(1, 5, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert Randomness(KEY).sample(1, 5, 0.0).tolist() == []
    assert Randomness(KEY).sample(1, 0, 0.5).tolist() == []


def test_removing_the_last_row_leaves_the_other_rows_draws() -> None:
    whole, without = Randomness(KEY).sample(3, 100, 0.5), Randomness(KEY).sample(3, 99, 0.5)
    assert without.tolist() == [index for index in whole if index < 99]


def test_a_source_cannot_be_copied_or_pickled() -> None:
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(UsageError, match="cannot be copied"):
            copied(Randomness(KEY))


def test_a_forked_process_does_not_repeat_the_noise_of_its_parent() -> None:
    source = Randomness(KEY)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # in the child
        try:
            source.words(Purpose.GRADIENT_NOISE, 1, 2)
            os.write(writing, b"drawn")
        except UsageError:
            os.write(writing, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    answer = os.read(reading, 16)
    os.close(reading)
    os.close(writing)
    assert answer == b"refused"
    assert len(source.words(Purpose.GRADIENT_NOISE, 1, 2)) == 2
