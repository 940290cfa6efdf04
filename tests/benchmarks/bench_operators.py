"""Masking operators on a million short values, beside what people write by hand: one core, medians of CPU seconds, ratios in one run.

The peers are ``hmac``, a keyed ``hashlib.blake2b`` and ``cryptography``'s ``AESSIV`` called for each value, and FF1 written plainly from the
standard with one AES call a block. They run on a part of the values, and their figures are scaled.
"""

from __future__ import annotations

import hashlib
import hmac
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from affidavit.interfaces.masking import MaskContext
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.operators.catalogue import BUNDLED

ROWS = 1_000_000
KEY = bytes(range(32))
PEER_ROWS = 100_000
REPEATS = 5


def rate(work: Callable[[], Any], rows: int) -> float:
    """Million values in a CPU second, by the median of the repeats."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return rows / statistics.median(seconds) / 1e6


def by_hmac(values: list[bytes]) -> list[str]:
    """What most people write."""
    return [hmac.new(KEY, value, "sha256").hexdigest() for value in values]


def by_blake2b(values: list[bytes]) -> list[str]:
    """The same with the faster keyed hash."""
    return [hashlib.blake2b(value, key=KEY, digest_size=16).hexdigest() for value in values]


def by_aessiv(values: list[bytes]) -> list[bytes]:
    """The library's AES-SIV for each value."""
    cipher = AESSIV(KEY + KEY[::-1])
    return [cipher.encrypt(value, [b"affidavit token v1", b""]) for value in values]


def by_plain_ff1(values: list[bytes]) -> list[str]:
    """FF1 on 16 digits as the standard writes it, with Python's integers and one cipher object."""
    aes = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    header = aes.update(bytes([1, 2, 1, 0, 0, 10, 10, 8, 0, 0, 0, 16, 0, 0, 0, 0]))
    state = int.from_bytes(header, "big")
    results = []
    for value in values:
        a, b = int(value[:8]), int(value[8:])
        for i in range(10):
            block = aes.update((state ^ (i << 32 | b)).to_bytes(16, "big"))
            a, b = b, (a + int.from_bytes(block[:8], "big")) % 10**8
        results.append(f"{a:08d}{b:08d}")
    return results


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(7)
    distinct = pa.chunked_array([pa.array([f"{number:016d}" for number in rng.permutation(10 * ROWS)[:ROWS]])])
    few = distinct.take(pa.array(rng.integers(0, 10_000, ROWS)))
    mails = pa.chunked_array([pa.array([f"user{number}@example.com" for number in range(ROWS)])])
    raw = [value.encode() for value in distinct.slice(0, PEER_ROWS).to_pylist()]
    raw_few = [value.encode() for value in few.slice(0, PEER_ROWS).to_pylist()]
    print(f"{'operator':<12} {'values':<22} {'M/s':>7} {'needed':>7}   {'peer':<22} {'M/s':>7} {'ratio':>7}")
    jobs: list[tuple[str, str, pa.ChunkedArray, float | None, str, Callable[[], Any]]] = [
        ("pseudonym", "1M distinct", distinct, 1.5, "hmac SHA-256", lambda: by_hmac(raw)),
        ("pseudonym", "1M distinct", distinct, 1.5, "blake2b, one by one", lambda: by_blake2b(raw)),
        ("pseudonym", "10k distinct in 1M", few, 15.0, "hmac SHA-256", lambda: by_hmac(raw_few)),
        ("token", "1M distinct", distinct, 0.5, "AESSIV, one by one", lambda: by_aessiv(raw)),
        ("token", "1M e-mail addresses", mails, 0.5, "AESSIV, one by one", lambda: by_aessiv(raw)),
        ("ff1", "1M of 16 digits", distinct, 1.0, "FF1, one by one", lambda: by_plain_ff1(raw)),
        ("partial", "1M distinct", distinct, None, "", lambda: None),
    ]
    context, field = MaskContext(KEY, table="bench"), Field("value", FieldType.TEXT)
    for name, what, values, needed, peer, work in jobs:
        operator = BUNDLED[name]()
        ours = rate(lambda operator=operator, values=values: operator.apply(values, field, context), ROWS)  # type: ignore[misc]
        theirs = rate(work, PEER_ROWS) if peer else None
        floor = "" if needed is None else f"{needed:7.1f}"
        beside = "" if theirs is None else f"{peer:<22} {theirs:7.2f} {ours / theirs:6.1f}×"
        print(f"{name:<12} {what:<22} {ours:7.2f} {floor:>7}   {beside}", flush=True)
        if operator.reversible:
            masked = operator.apply(values, field, context)
            assert masked is not None
            back = rate(lambda operator=operator, masked=masked: operator.reverse(masked, field, context), ROWS)  # type: ignore[misc]
            print(f"{'':<12} {'and back':<22} {back:7.2f}", flush=True)
