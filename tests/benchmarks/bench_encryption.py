"""Encrypted streams in memory against `AESGCM.encrypt_into` alone with a reused buffer, alternating, in one run."""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from affidavit_governance.encryption.stream import CHUNK, TAG_BYTES, decrypt_stream, encrypt_stream

SIZE = 64 << 20
ROUNDS = 15
KEY = bytes(range(32))


class Nowhere:
    """Takes everything and keeps nothing, as the peer does."""

    def write(self, data: memoryview) -> int:
        """Say that all was taken."""
        return len(data)


def main() -> None:
    """Print one line a way of writing."""
    data = os.urandom(SIZE)
    source, sealed, opened = io.BytesIO(data), io.BytesIO(), io.BytesIO(bytes(SIZE))
    encrypt_stream(source, sealed, KEY)

    def peer() -> None:
        cipher, buffer, view = AESGCM(KEY), memoryview(bytearray(CHUNK)), memoryview(data)
        for number, begin in enumerate(range(0, SIZE, CHUNK - TAG_BYTES)):
            part = view[begin : begin + CHUNK - TAG_BYTES]
            cipher.encrypt_into(number.to_bytes(12, "big"), part, None, buffer[: len(part) + TAG_BYTES])

    def rewound(call: Callable[..., object], *files: object) -> Callable[[], None]:
        def run() -> None:
            for file in files:
                if isinstance(file, io.BytesIO):
                    file.seek(0)
            call(*files, KEY)

        return run

    ways = {
        "encrypt, chunks handed on": rewound(encrypt_stream, source, Nowhere()),
        "encrypt, memory used before": rewound(encrypt_stream, source, sealed),
        "decrypt, memory used before": rewound(decrypt_stream, sealed, opened),
        "encrypt, memory that grows": lambda: rewound(encrypt_stream, source, io.BytesIO())(),
    }
    print(f"{SIZE >> 20} MiB in chunks of {CHUNK >> 10} KiB, processor time, medians of {ROUNDS} pairs; target: a ratio of 0.5 or more")
    print(f"{'way':<28} {'encrypt_into':>14} {'stream':>12} {'ratio':>6}")
    for way, ours in ways.items():
        pairs = [(_seconds(peer), _seconds(ours)) for _ in range(ROUNDS)]
        theirs, mine = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(their / my for their, my in pairs)
        print(f"{way:<28} {SIZE / theirs / 1e9:9.2f} GB/s {SIZE / mine / 1e9:7.2f} GB/s {ratio:6.2f}")


def _seconds(call: Callable[[], None]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin
