"""AES-SIV for many values: the vectors of RFC 5297, the library's one-value implementation, and every changed bit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import UsageError
from affidavit_governance.encryption import siv
from affidavit_governance.encryption.siv import SIV

KEY = bytes(range(64))


def array(values: list[bytes]) -> pa.Array:
    return pa.array(values, pa.large_binary())


RFC_5297 = {
    "A.1": (
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0 f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        ["101112131415161718191a1b1c1d1e1f2021222324252627"],
        "112233445566778899aabbccddee",
        "85632d07c6e8f37f950acd320a2ecc93 40c02b9690c4dc04daef7f6afe5c",
    ),
    "A.2": (
        "7f7e7d7c7b7a79787776757473727170 404142434445464748494a4b4c4d4e4f",
        [
            "00112233445566778899aabbccddeeff deaddadadeaddadaffeeddccbbaa99887766554433221100",
            "102030405060708090a0",
            "09f911029d74e35bd84156c5635688c0",
        ],
        "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
        "7bdb6e3b432667eb06f4d14bff2fbd0f cb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
    ),
}


@pytest.mark.parametrize("copies", [1, 100], ids=["one value", "many values"])
@pytest.mark.parametrize("name", RFC_5297)
def test_vectors_of_rfc_5297(name: str, copies: int) -> None:
    key, associated, plain, sealed = RFC_5297[name]
    cipher = SIV(bytes.fromhex(key), [bytes.fromhex(text) for text in associated])
    values = array([bytes.fromhex(plain)] * copies)
    assert cipher.encrypt(values).to_pylist() == [bytes.fromhex(sealed)] * copies
    opened, authentic = cipher.decrypt(cipher.encrypt(values))
    assert opened.to_pylist() == values.to_pylist()
    assert authentic.all()


@given(
    st.lists(st.binary(max_size=70), max_size=60),
    st.lists(st.binary(max_size=40), max_size=4),
    st.sampled_from([32, 48, 64]),
)
@settings(max_examples=150, deadline=None)
def test_the_same_bytes_as_the_librarys_aessiv(values: list[bytes], associated: list[bytes], size: int) -> None:
    one, many = AESSIV(KEY[:size]), SIV(KEY[:size], associated)
    sealed = many.encrypt(array(values))
    # The library takes no empty plaintext, so such ones are opened only.
    assert [s for s, v in zip(sealed.to_pylist(), values, strict=True) if v] == [one.encrypt(value, associated) for value in values if value]
    opened, authentic = many.decrypt(sealed)
    assert opened.to_pylist() == values
    assert authentic.all()


def test_every_length_on_either_side_of_the_blocks_and_of_the_ways() -> None:
    """Sixteen of each length, so that they go through the arrays; up to where the library takes over."""
    values = [bytes([n % 251]) * n for n in range(1, 1100, 7) for _ in range(16)] + [b"x" * n for n in range(1, 100) for _ in range(16)]
    one, many = AESSIV(KEY), SIV(KEY, [b"a"])
    assert many.encrypt(array(values)).to_pylist() == [one.encrypt(value, [b"a"]) for value in values]
    assert many.decrypt(many.encrypt(array(values)))[0].to_pylist() == values


def test_several_tiles_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siv, "_TILE", 32)
    values = [f"{i}".encode() * (i % 5 + 1) for i in range(500)]
    one, many = AESSIV(KEY), SIV(KEY)
    assert many.encrypt(array(values)).to_pylist() == [one.encrypt(value, []) for value in values]
    same = [f"{i:08d}".encode() for i in range(500)]
    sealed = many.encrypt(array(same))
    assert sealed.to_pylist() == [one.encrypt(value, []) for value in same]
    assert many.decrypt(sealed)[0].to_pylist() == same


def test_slices_are_read_where_they_stand() -> None:
    values = array([b"one", b"three", b"seventeen letters", b"x"] * 10)
    assert SIV(KEY).encrypt(values.slice(3, 20)).to_pylist() == SIV(KEY).encrypt(values).to_pylist()[3:23]


@pytest.mark.parametrize("plain", [b"", b"0123456789", b"0123456789abcdef", b"0123456789abcdef0123456789abc", b"z" * 1100])
def test_every_changed_bit_is_seen_and_the_other_values_open(plain: bytes) -> None:
    cipher = SIV(KEY, [b"column"])
    good = cipher.encrypt(array([plain]))[0].as_py()
    bits = range(8 * len(good)) if len(good) < 100 else [0, 127, 128, 8 * len(good) - 1]
    changed = [bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(good)) for bit in bits]
    changed += [good[:-1], good + b"\x00", good[:15], b""]
    opened, authentic = cipher.decrypt(array([good, *changed, good]))
    assert authentic.tolist() == [True] + [False] * len(changed) + [True]
    assert opened.to_pylist() == [plain, *[b""] * len(changed), plain]


def test_another_key_or_other_associated_data_open_nothing() -> None:
    values = array([b"value", b"another value of more than a block"] * 20)
    sealed = SIV(KEY, [b"a", b"b"]).encrypt(values)
    for other in (SIV(KEY[::-1], [b"a", b"b"]), SIV(KEY, [b"b", b"a"]), SIV(KEY, [b"ab"]), SIV(KEY, [b"a"]), SIV(KEY, [b"a", b"b", b""])):
        opened, authentic = other.decrypt(sealed)
        assert not authentic.any()
        assert set(opened.to_pylist()) == {b""}


def test_nothing_in_gives_nothing_out() -> None:
    assert SIV(KEY).encrypt(array([])).to_pylist() == []
    opened, authentic = SIV(KEY).decrypt(array([]))
    assert (opened.to_pylist(), authentic.tolist()) == ([], [])


def test_keys_of_other_lengths_and_too_many_strings_are_refused() -> None:
    for size in (0, 16, 33, 128):
        with pytest.raises(UsageError, match="32, 48 or 64 bytes"):
            SIV(bytes(size))
    with pytest.raises(UsageError, match="126 associated strings"):
        SIV(KEY, [b""] * 127)


def test_equal_values_give_equal_tokens_and_no_two_values_one() -> None:
    rng = np.random.default_rng(7)
    values = [rng.bytes(int(rng.integers(0, 40))) for _ in range(3000)]
    sealed = SIV(KEY).encrypt(array(values)).to_pylist()
    assert len(set(sealed)) == len(set(values))
    assert len(set(zip(values, sealed, strict=True))) == len(set(values))
