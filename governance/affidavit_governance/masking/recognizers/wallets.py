"""Checksums of cryptocurrency addresses: pure functions with published definitions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from affidavit_governance.masking.recognizers.keccak import keccak_256

_BASE58 = {char: value for value, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BECH32 = {char: value for value, char in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_FINAL = 1
_BECH32M_FINAL = 0x2BC830A3

BASE58_VERSIONS = {
    0x00: "Bitcoin", 0x05: "Bitcoin", 0x30: "Litecoin", 0x32: "Litecoin", 0x1E: "Dogecoin", 0x4C: "Dash", 0x41: "Tron",
}  # fmt: skip
"""What the first byte of a 21-byte Base58Check payload says: the chain parameters of each network's reference client."""

SEGWIT_PREFIXES = {"bc": "Bitcoin", "ltc": "Litecoin"}
"""Human-readable parts of segregated witness addresses (SLIP-0173)."""


def base58check(text: str) -> str | None:
    """The network of a Base58Check address (21 bytes and the first 4 of their double SHA-256), or None."""
    number = 0
    for char in text:
        if char not in _BASE58:
            return None
        number = number * 58 + _BASE58[char]
    zeros = len(text) - len(text.lstrip("1"))
    size = (number.bit_length() + 7) // 8
    if zeros + size != 25:
        return None
    data = number.to_bytes(25, "big")
    if hashlib.sha256(hashlib.sha256(data[:21]).digest()).digest()[:4] != data[21:]:
        return None
    return BASE58_VERSIONS.get(data[0])


def segwit(text: str) -> str | None:
    """The network of a segregated witness address in Bech32 (BIP-173, version 0) or Bech32m (BIP-350, later versions), or None."""
    if text not in (text.lower(), text.upper()) or len(text) > 90:
        return None
    prefix, _, payload = text.lower().rpartition("1")
    if prefix not in SEGWIT_PREFIXES or len(payload) < 7 or not all(char in _BECH32 for char in payload):
        return None
    values = [_BECH32[char] for char in payload]
    final = _polymod([ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix] + values)
    program = _to_bytes(values[1:-6])
    version = values[0]
    if final != (_BECH32M_FINAL if version else _BECH32_FINAL) or version > 16 or program is None or not 2 <= len(program) <= 40:
        return None
    return None if version == 0 and len(program) not in (20, 32) else SEGWIT_PREFIXES[prefix]


def _polymod(values: Sequence[int]) -> int:
    """BIP-173's checksum polynomial."""
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            check ^= factor if top >> bit & 1 else 0
    return check


def _to_bytes(values: Sequence[int]) -> bytes | None:
    """Groups of five bits as bytes; None where more than four bits are left over, or one that is set."""
    bits = 5 * len(values)
    number = 0
    for value in values:
        number = number << 5 | value
    left = bits % 8
    if left > 4 or number & ((1 << left) - 1):
        return None
    return (number >> left).to_bytes(bits // 8, "big")


def eip55(addresses: Sequence[str]) -> list[bool]:
    """For each ``0x`` and forty hexadecimal digits, whether the capitals among them are right (EIP-55). All are computed together."""
    hashes = keccak_256([address[2:].lower().encode() for address in addresses])
    return [
        all(char.isdigit() or char.isupper() == (nibble in "89abcdef") for char, nibble in zip(address[2:], digest.hex(), strict=False))
        for address, digest in zip(addresses, hashes, strict=True)
    ]
