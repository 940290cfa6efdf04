"""AES-FF1: NIST's samples, Wycheproof's cases, and a reference written straight from SP 800-38G."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit_governance.masking import ff1
from affidavit_governance.masking.ff1 import FF1, MAX_LENGTH

VECTORS = Path(__file__).resolve().parents[3] / "../shared/vectors/ff1"
KEY = bytes(range(32))

K128 = "2B7E151628AED2A6ABF7158809CF4F3C"
K192 = K128 + "EF4359D8D580AA4F"
K256 = K192 + "7F036D6F04FC6A94"
T1, T2 = "39383736353433323130", "3737373770717273373737"
SAMPLES = [
    (K128, 10, "", "0123456789", "2433477484"),
    (K128, 10, T1, "0123456789", "6124200773"),
    (K128, 36, T2, "0123456789abcdefghi", "a9tv40mll9kdu509eum"),
    (K192, 10, "", "0123456789", "2830668132"),
    (K192, 10, T1, "0123456789", "2496655549"),
    (K192, 36, T2, "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"),
    (K256, 10, "", "0123456789", "6657667009"),
    (K256, 10, T1, "0123456789", "1001623463"),
    (K256, 36, T2, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"),
]


@pytest.mark.parametrize(("key", "radix", "tweak", "plain", "sealed"), SAMPLES)
def test_the_nine_samples_of_sp_800_38g(key: str, radix: int, tweak: str, plain: str, sealed: str) -> None:
    cipher = FF1(bytes.fromhex(key), radix=radix)
    assert cipher.encrypt(plain, bytes.fromhex(tweak)) == sealed
    assert cipher.decrypt(sealed, bytes.fromhex(tweak)) == plain


# -- a plain implementation, line by line as in the standard (section 5.1, algorithms 7 and 8) ---------------------------------------------


def reference(key: bytes, radix: int, numerals: list[int], tweak: bytes, *, decrypt: bool = False) -> list[int]:
    def ciph(block: bytes) -> bytes:
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)

    def prf(text: bytes) -> bytes:
        y = bytes(16)
        for at in range(0, len(text), 16):
            y = ciph(bytes(a ^ b for a, b in zip(y, text[at : at + 16], strict=True)))
        return y

    def num(x: list[int]) -> int:
        value = 0
        for digit in x:
            value = value * radix + digit
        return value

    def string(value: int, length: int) -> list[int]:
        digits = []
        for _ in range(length):
            digits.append(value % radix)
            value //= radix
        return digits[::-1]

    n, t = len(numerals), len(tweak)
    u = n // 2
    v = n - u
    a, b = numerals[:u], numerals[u:]
    width = -(-((radix**v - 1).bit_length()) // 8)
    d = 4 * -(-width // 4) + 4
    p = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256]) + n.to_bytes(4, "big") + t.to_bytes(4, "big")
    for i in reversed(range(10)) if decrypt else range(10):
        q = tweak + bytes((-t - width - 1) % 16) + bytes([i]) + num(a if decrypt else b).to_bytes(width, "big")
        r = prf(p + q)
        s = r
        j = 1
        while len(s) < d:
            s += ciph(bytes(x ^ y for x, y in zip(r, j.to_bytes(16, "big"), strict=True)))
            j += 1
        y = int.from_bytes(s[:d], "big")
        m = u if i % 2 == 0 else v
        if decrypt:
            a, b = string((num(b) - y) % radix**m, m), a
        else:
            a, b = b, string((num(a) + y) % radix**m, m)
    return a + b


def test_the_reference_gives_the_samples_too() -> None:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    for key, radix, tweak, plain, sealed in SAMPLES:
        numbers = [digits.index(c) for c in plain]
        made = reference(bytes.fromhex(key), radix, numbers, bytes.fromhex(tweak))
        assert "".join(digits[number] for number in made) == sealed
        assert reference(bytes.fromhex(key), radix, made, bytes.fromhex(tweak), decrypt=True) == numbers


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_many_at_once_as_the_reference_one_by_one(data: st.DataObject) -> None:
    """Radixes up to 65536 and lengths on both sides of where halves leave 63 bits."""
    radix = data.draw(st.one_of(st.integers(2, 64), st.sampled_from([2**8, 2**8 + 1, 1000, 2**15, 2**16 - 1, 2**16])))
    cipher = FF1(KEY, alphabet="".join(chr(0x10000 + number) for number in range(radix)))
    length = data.draw(st.integers(cipher.min_length, cipher.min_length + 70))
    tweak = data.draw(st.binary(max_size=40))
    edge = st.sampled_from([0, radix - 1])
    row = st.one_of(st.lists(edge, min_size=length, max_size=length), st.lists(st.integers(0, radix - 1), min_size=length, max_size=length))
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    sealed = cipher.encrypt_numerals(np.array(rows, np.uint16), tweak)
    assert sealed.tolist() == [reference(KEY, radix, row, tweak) for row in rows]
    assert cipher.decrypt_numerals(sealed, tweak).tolist() == rows
    assert cipher.decrypt_numerals(np.array(rows, np.uint16), tweak).tolist() == [reference(KEY, radix, row, tweak, decrypt=True) for row in rows]


@given(st.text("0123456789", min_size=6, max_size=60), st.binary(max_size=20), st.sampled_from([16, 24, 32]))
@settings(max_examples=100, deadline=None)
def test_decrypting_gives_back_what_was_encrypted(text: str, tweak: bytes, size: int) -> None:
    cipher = FF1(KEY[:size], radix=10)
    sealed = cipher.encrypt(text, tweak)
    assert len(sealed) == len(text)
    assert sealed.isdecimal()
    assert cipher.decrypt(sealed, tweak) == text


def test_a_million_values_map_onto_themselves_one_to_one() -> None:
    every = np.array(np.unravel_index(np.arange(10**6), (10,) * 6), dtype=np.uint16).T
    sealed = FF1(KEY, radix=10).encrypt_numerals(every).astype(np.int64) @ 10 ** np.arange(5, -1, -1)
    assert len(np.unique(sealed)) == 10**6
    assert (sealed == np.arange(10**6)).sum() < 10, "a random permutation has one fixed point on average"


def test_several_tiles_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ff1, "_TILE", 7)
    rows = np.random.default_rng(3).integers(0, 10, (50, 12)).astype(np.uint16)
    assert FF1(KEY, radix=10).encrypt_numerals(rows, b"t").tolist() == [reference(KEY, 10, row, b"t") for row in rows.tolist()]


def test_no_rows_give_no_rows() -> None:
    assert FF1(KEY, radix=10).encrypt_numerals(np.zeros((0, 16), np.uint16)).shape == (0, 16)
    assert FF1(KEY, radix=10).encrypt_numerals(np.zeros((0, 80), np.uint16)).shape == (0, 80)


# -- refusals -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radix", "least"), [(2, 20), (10, 6), (16, 5), (26, 5), (32, 4), (36, 4)])
def test_fewer_than_a_million_possible_strings_are_refused(radix: int, least: int) -> None:
    cipher = FF1(KEY, radix=radix)
    assert cipher.min_length == least
    assert radix**least >= 10**6 > radix ** (least - 1)
    assert len(cipher.encrypt("0" * least)) == least
    for short in ("", "0", "0" * (least - 1)):
        with pytest.raises(InvalidInput, match=f"takes {least} to"):
            cipher.encrypt(short)
        with pytest.raises(InvalidInput):
            cipher.decrypt(short)


def test_too_long_strings_are_refused_and_the_longest_works() -> None:
    cipher = FF1(KEY, radix=10)
    longest = "7" * MAX_LENGTH
    assert cipher.decrypt(cipher.encrypt(longest)) == longest
    with pytest.raises(InvalidInput, match="4097"):
        cipher.encrypt(longest + "7")


def test_characters_outside_the_alphabet_are_refused_without_being_quoted() -> None:
    with pytest.raises(InvalidInput, match="not in the alphabet") as caught:
        FF1(KEY, radix=10).encrypt("123456x78")
    assert "123456" not in str(caught.value)
    with pytest.raises(InvalidInput, match="not below the radix 10"):
        FF1(KEY, radix=10).encrypt_numerals(np.full((1, 6), 10, np.uint16))


@pytest.mark.parametrize("arguments", [{}, {"radix": 1}, {"radix": 37}, {"radix": 10, "alphabet": "ab"}, {"alphabet": "a"}, {"alphabet": "aba"}])
def test_alphabets_that_are_none_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="FF1"):
        FF1(KEY, **arguments)


def test_keys_of_other_lengths_are_refused() -> None:
    for size in (0, 8, 31, 40):
        with pytest.raises(UsageError, match="16, 24 or 32 bytes"):
            FF1(bytes(size), radix=10)


# -- Wycheproof -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared vectors are not beside this checkout")
@pytest.mark.parametrize(("name", "cases"), [("radix10", 3845), ("base36", 2854)])
def test_all_of_wycheproofs_cases(name: str, cases: int) -> None:
    """Valid ones pass. Invalid ones are refused, and so are the ones flagged small: valid by the first edition of the standard, whose
    hundred possible strings revision 1 raised to a million; their arithmetic is checked all the same."""
    groups = json.loads(gzip.decompress((VECTORS / f"aes_ff1_{name}_test.json.gz").read_bytes()))["testGroups"]
    seen: Counter[str] = Counter()
    for group in groups:
        alphabet = group.get("alphabet", "0123456789")
        for case in group["tests"]:
            key, tweak = bytes.fromhex(case["key"]), bytes.fromhex(case["tweak"])
            plain, sealed = (
                [alphabet[n] if 0 <= n < len(alphabet) else "?" for n in x] if isinstance(x, list) else list(x) for x in (case["msg"], case["ct"])
            )
            small = "SmallMessageSize" in case["flags"]
            if case["result"] == "valid" and not small:
                cipher = FF1(key, alphabet=alphabet)
                assert cipher.encrypt("".join(plain), tweak) == "".join(sealed), case["tcId"]
                assert cipher.decrypt("".join(sealed), tweak) == "".join(plain), case["tcId"]
                seen["valid"] += 1
                continue
            with pytest.raises(AffidavitError):
                FF1(key, alphabet=alphabet).encrypt("".join(plain), tweak)
            seen["small" if small else "invalid"] += 1
            if small:
                network = ff1._Feistel(FF1(key, alphabet=alphabet)._cipher.encryptor(), len(alphabet), len(plain), tweak)
                made = network.run(np.array([[alphabet.index(c) for c in plain]], np.uint16), range(10))
                assert [alphabet[number] for number in made[0]] == sealed
    assert seen.total() == cases
    assert min(seen["valid"], seen["small"], seen["invalid"]) > 5


def test_one_cipher_serves_many_threads() -> None:
    cipher = FF1(KEY, radix=10)
    numerals = np.arange(20_000 * 16, dtype=np.uint16).reshape(-1, 16) % 10
    expected = cipher.encrypt_numerals(numerals)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(cipher.encrypt_numerals, [numerals] * 12):
            assert np.array_equal(found, expected)
