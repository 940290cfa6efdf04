"""AES-FF1 (NIST SP 800-38G, section 5.1): format-preserving encryption of numeral strings.

Many strings of one length are encrypted at once: a Feistel round needs one block of AES for each string, and all of them go through one
call of the library. Halves are held as 64-bit integers where radix^v < 2⁶³, which covers 36 digits, and as Python's integers beyond.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from affidavit.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 10
MIN_DOMAIN = 1_000_000
"""SP 800-38G revision 1: fewer possible strings could be tried through."""
MAX_LENGTH = 4096
"""The standard leaves the greatest length to the implementation. The time for one string grows with the square of its length."""
_MAX_RADIX = 1 << 16
_BLOCK = 16
_TILE = 1 << 15  # strings that are worked on together, so that their blocks stay in the processor's cache


class FF1:
    """Encrypts strings to strings of the same length over the same alphabet.

    Parameters
    ----------
    key
        An AES key: 16, 24 or 32 bytes.
    radix
        Between 2 and 36: the digits 0 to 9, then the letters a to z.
    alphabet
        In the place of `radix`: the characters in the order of their numbers, 2 to 65536 distinct ones.

    Raises
    ------
    UsageError
        The key, radix or alphabet is none of these.
    """

    def __init__(self, key: bytes, *, radix: int | None = None, alphabet: str | None = None) -> None:
        if len(key) not in (16, 24, 32):
            raise UsageError(f"An AES key has 16, 24 or 32 bytes, this one has {len(key)}.")
        if (radix is None) == (alphabet is None):
            raise UsageError("FF1 takes either a radix or an alphabet.")
        if alphabet is None:
            if radix is None or not 2 <= radix <= 36:
                raise UsageError("FF1's radix is between 2 and 36.", hint="Give a larger alphabet as alphabet=….")
            alphabet = (string.digits + string.ascii_lowercase)[:radix]
        self.alphabet = alphabet
        self.radix = len(alphabet)
        if not 2 <= self.radix <= _MAX_RADIX or len(set(alphabet)) != self.radix:
            raise UsageError("FF1's alphabet has 2 to 65536 distinct characters.")
        self.min_length = next(n for n in range(2, 21) if self.radix**n >= MIN_DOMAIN)
        self._number = {character: number for number, character in enumerate(alphabet)}
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())

    def encrypt(self, text: str, tweak: bytes = b"") -> str:
        """The ciphertext of one string, of the same length.

        Raises
        ------
        InvalidInput
            A character is not in the alphabet, or the string is too short (fewer than a million strings have its length) or too long.
        """
        return self._text(self.encrypt_numerals(self._numerals(text), tweak))

    def decrypt(self, text: str, tweak: bytes = b"") -> str:
        """The string that `encrypt` was given. FF1 authenticates nothing: with another key or tweak the answer is another string."""
        return self._text(self.decrypt_numerals(self._numerals(text), tweak))

    def encrypt_numerals(self, numerals: NDArray[np.uint16], tweak: bytes = b"") -> NDArray[np.uint16]:
        """The ciphertexts of many strings of one length, given as numbers below the radix: one row a string.

        Raises
        ------
        InvalidInput
            The strings are too short or too long, or hold a number that is not below the radix.
        """
        return self._run(numerals, tweak, range(ROUNDS))

    def decrypt_numerals(self, numerals: NDArray[np.uint16], tweak: bytes = b"") -> NDArray[np.uint16]:
        """What `encrypt_numerals` was given."""
        return self._run(numerals, tweak, range(ROUNDS - 1, -1, -1))

    def _numerals(self, text: str) -> NDArray[np.uint16]:
        try:
            return np.array([[self._number[character] for character in text]], dtype=np.uint16)
        except KeyError:
            raise InvalidInput("FF1: the text has a character that is not in the alphabet.") from None

    def _text(self, numerals: NDArray[np.uint16]) -> str:
        return "".join(self.alphabet[number] for number in numerals[0])

    def _run(self, numerals: NDArray[np.uint16], tweak: bytes, rounds: range) -> NDArray[np.uint16]:
        length = numerals.shape[1]
        if not self.min_length <= length <= MAX_LENGTH:
            raise InvalidInput(
                f"FF1 over {self.radix} characters takes {self.min_length} to {MAX_LENGTH} of them, not {length}.",
                hint=f"Fewer than {self.min_length} make under a million possible strings, which can be tried through.",
            )
        if numerals.size and int(numerals.max()) >= self.radix:
            raise InvalidInput(f"FF1: a numeral is not below the radix {self.radix}.")
        # An encryptor of its own for each call: the library's takes one thread at a time.
        return _Feistel(self._cipher.encryptor(), self.radix, length, tweak).run(numerals, rounds)


class _Feistel:
    """The network for strings of one length under one tweak. Names in the comments are the standard's."""

    def __init__(self, aes: object, radix: int, length: int, tweak: bytes) -> None:
        self._aes = aes
        self._radix = radix
        self._left, self._right = length // 2, length - length // 2  # u, v
        self._bytes = -(-(radix**self._right - 1).bit_length() // 8)  # b = ⌈⌈v·log₂ radix⌉/8⌉
        self._taken = 4 * -(-self._bytes // 4) + 4  # d
        header = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, self._left % 256])  # P
        header += length.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        # Q = tweak, zeros, round number, NUM(B): only its end differs from string to string, so the CBC-MAC of what comes before is kept.
        fixed = tweak + bytes((-len(tweak) - self._bytes - 1) % _BLOCK)
        whole = (len(fixed)) // _BLOCK * _BLOCK
        state = bytes(_BLOCK)
        for first in range(0, len(header + fixed[:whole]), _BLOCK):
            block = (header + fixed[:whole])[first : first + _BLOCK]
            state = self._encrypt(bytes(a ^ b for a, b in zip(state, block, strict=True)))
        self._state, self._tail = state, fixed[whole:]

    def _encrypt(self, blocks: bytes | memoryview) -> bytes:
        found: bytes = self._aes.update(blocks)  # type: ignore[attr-defined]
        return found

    def run(self, numerals: NDArray[np.uint16], rounds: range) -> NDArray[np.uint16]:
        # In the fast way NUM(B) and its round number share a block with the end of the tweak, and one block is all that S takes of R.
        if self._radix**self._right < 1 << 63:
            tiles = [self._fast(numerals[first : first + _TILE], rounds) for first in range(0, len(numerals), _TILE)]
            return np.concatenate(tiles) if tiles else numerals
        return np.array([self._exact(row, rounds) for row in numerals.tolist()], dtype=np.uint16).reshape(numerals.shape)

    def _fast(self, numerals: NDArray[np.uint16], rounds: range) -> NDArray[np.uint16]:
        columns = np.ascontiguousarray(numerals.T)
        a, b = _joined(columns[: self._left], self._radix), _joined(columns[self._left :], self._radix)
        blocks = np.empty((len(numerals), _BLOCK), dtype=np.uint8)
        start = bytes(x ^ y for x, y in zip(self._state, (self._tail + bytes(_BLOCK))[:_BLOCK], strict=True))
        blocks[:] = np.frombuffer(start, dtype=np.uint8)
        fixed = np.frombuffer(start, dtype=">u8")[1].astype(np.uint64)
        last = blocks.view(">u8")[:, 1]
        place = _BLOCK - 1 - self._bytes  # of the round number
        for i in rounds:
            modulus = self._radix ** (self._right if i % 2 else self._left)
            given, other = (b, a) if rounds.step > 0 else (a, b)
            if self._bytes < 8:
                last[:] = given ^ fixed ^ np.uint64(i << (8 * self._bytes))
            else:
                last[:] = given ^ fixed
                blocks[:, place] = start[place] ^ i
            y = self._reduced(np.frombuffer(self._encrypt(blocks.data), dtype=">u4").reshape(-1, 4), modulus)
            if rounds.step > 0:
                a, b = b, _mod(other + y, modulus)
            else:
                a, b = _mod(other + (np.uint64(modulus) - y), modulus), a
        result = np.empty_like(columns)
        _split(a, self._radix, result[: self._left])
        _split(b, self._radix, result[self._left :])
        return result.T

    def _reduced(self, words: NDArray[np.uint32], modulus: int) -> NDArray[np.uint64]:
        """The first d bytes of each block as one number, modulo `modulus`."""
        first = words[:, 0].astype(np.uint64) << np.uint64(32) | words[:, 1]
        rest = _mod(first, modulus)
        step = min(32, 64 - modulus.bit_length())
        for word in range(2, self._taken // 4):
            given = words[:, word].astype(np.uint64)
            done = 0
            while done < 32:
                taken = min(step, 32 - done)
                done += taken
                digit = given >> np.uint64(32 - done) & np.uint64((1 << taken) - 1)
                rest = _mod(rest << np.uint64(taken) | digit, modulus)
        return rest

    def _exact(self, row: list[int], rounds: range) -> list[int]:
        a, b = self._number(row[: self._left]), self._number(row[self._left :])
        for i in rounds:
            modulus = self._radix ** (self._right if i % 2 else self._left)
            if rounds.step > 0:
                a, b = b, (a + self._y(i, b)) % modulus
            else:
                a, b = (b - self._y(i, a)) % modulus, a
        return self._digits(a, self._left) + self._digits(b, self._right)

    def _y(self, i: int, number: int) -> int:
        text = self._tail + bytes([i]) + number.to_bytes(self._bytes, "big")
        state = self._state
        for first in range(0, len(text), _BLOCK):
            block = int.from_bytes(state, "big") ^ int.from_bytes(text[first : first + _BLOCK], "big")
            state = self._encrypt(block.to_bytes(_BLOCK, "big"))
        base = int.from_bytes(state, "big")
        counted = b"".join((base ^ j).to_bytes(_BLOCK, "big") for j in range(1, -(-self._taken // _BLOCK)))
        return int.from_bytes((state + self._encrypt(counted))[: self._taken], "big")

    def _number(self, numerals: list[int]) -> int:
        number = 0
        for numeral in numerals:
            number = number * self._radix + numeral
        return number

    def _digits(self, number: int, length: int) -> list[int]:
        digits = []
        for _ in range(length):
            number, digit = divmod(number, self._radix)
            digits.append(digit)
        return digits[::-1]


def _joined(columns: NDArray[np.uint16], radix: int) -> NDArray[np.uint64]:
    """NUM of each string, whose first numerals are in the first row."""
    number = np.zeros(columns.shape[1], dtype=np.uint64)
    for numerals in columns:
        number *= np.uint64(radix)
        number += numerals
    return number


def _split(number: NDArray[np.uint64], radix: int, columns: NDArray[np.uint16]) -> None:
    """STR: write the numerals of each number."""
    for row in range(len(columns) - 1, -1, -1):
        quotient = number // np.uint64(radix)
        columns[row] = number - quotient * np.uint64(radix)
        number = quotient


def _mod(number: NDArray[np.uint64], modulus: int) -> NDArray[np.uint64]:
    """The remainder by way of the quotient, because numpy divides by one number with vector instructions but takes remainders one by one."""
    divisor = np.uint64(modulus)
    return number - number // divisor * divisor
