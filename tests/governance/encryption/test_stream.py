"""Encrypted streams: Tink's own files, and every attack on a stream that its format promises to show."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit_governance.encryption import stream
from affidavit_governance.encryption.stream import HEADER_BYTES, TAG_BYTES, StreamReader, decrypt_stream, encrypt_stream, encrypt_with_header

KEY = bytes(range(32))
CHUNK = 64
FIRST, REST = CHUNK - HEADER_BYTES - TAG_BYTES, CHUNK - TAG_BYTES
TINK = json.loads((Path(__file__).parent / "data" / "tink_streams.json").read_text())


def sealed(data: bytes, bound: bytes = b"", key: bytes = KEY, chunk: int = CHUNK) -> bytes:
    sink = io.BytesIO()
    assert encrypt_stream(io.BytesIO(data), sink, key, bound, chunk=chunk) == len(data)
    return sink.getvalue()


def opened(data: bytes, bound: bytes = b"", key: bytes = KEY, chunk: int = CHUNK) -> bytes:
    sink = io.BytesIO()
    assert decrypt_stream(io.BytesIO(data), sink, key, bound, name="letters.csv", chunk=chunk) == len(sink.getvalue())
    return sink.getvalue()


def refused(data: bytes, bound: bytes = b"", key: bytes = KEY) -> str:
    """The message, after both ways of reading were seen to refuse and to release nothing but a genuine beginning."""
    sink = io.BytesIO()
    with pytest.raises(IntegrityError, match=r"'letters\.csv'") as error:
        decrypt_stream(io.BytesIO(data), sink, key, bound, name="letters.csv", chunk=CHUNK)
    assert PLAIN.startswith(sink.getvalue())
    with pytest.raises(IntegrityError, match=r"'letters\.csv'"):
        StreamReader(io.BytesIO(data), key, bound, name="letters.csv", chunk=CHUNK).read()
    return str(error.value)


PLAIN = bytes(range(FIRST + 4 * REST))
SEALED = sealed(PLAIN, b"bound")
CHUNKS = [SEALED[begin : begin + CHUNK] for begin in range(0, len(SEALED), CHUNK)]


# -- Tink --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TINK["cases"], ids=lambda case: f"{case['chunk']}-{case['plaintext_bytes']}-{case['associated_data']}")
def test_tinks_streams_open_and_ours_are_the_same_bytes(case: dict[str, Any]) -> None:
    theirs, bound = base64.b64decode(case["stream"]), bytes.fromhex(case["associated_data"])
    plain = bytes(i * 7 % 251 for i in range(case["plaintext_bytes"]))
    key = bytes.fromhex(TINK["key"])
    assert opened(theirs, bound, key, case["chunk"]) == plain
    sink = io.BytesIO()
    encrypt_with_header(io.BytesIO(plain), sink, key, bound, theirs[:HEADER_BYTES], name="", chunk=case["chunk"], progress=None)
    assert sink.getvalue() == theirs


def test_the_layout_is_the_published_one_read_independently() -> None:
    header, key = SEALED[:HEADER_BYTES], HKDF(hashes.SHA256(), 32, SEALED[1:33], b"bound").derive(KEY)
    assert header[0] == 40
    nonces = [header[33:] + index.to_bytes(4, "big") + bytes([index == 4]) for index in range(5)]
    parts = [AESGCM(key).decrypt(nonce, part, None) for nonce, part in zip(nonces, [CHUNKS[0][40:], *CHUNKS[1:]], strict=True)]
    assert b"".join(parts) == PLAIN


# -- what comes back ---------------------------------------------------------------------------------------------------------------------


class Pieces(io.BytesIO):
    """Gives a few bytes at a time, as a pipe may."""

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer)[: random.Random(self.tell()).randint(1, 9)])


class Slow(io.BytesIO):
    """Takes a few bytes at a time, as an unbuffered file may."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data)[:5])


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=20))
def test_what_was_encrypted_comes_back_in_whatever_pieces_it_is_read_and_written(data: bytes, bound: bytes) -> None:
    hidden, shown = Slow(), Slow()
    encrypt_stream(Pieces(data), hidden, KEY, bound, chunk=CHUNK)
    decrypt_stream(Pieces(hidden.getvalue()), shown, KEY, bound, chunk=CHUNK)
    assert shown.getvalue() == data


@settings(deadline=None)
@given(st.integers(0, 300), st.lists(st.tuples(st.integers(0, 310), st.integers(0, 130)), max_size=8))
def test_any_part_can_be_read_alone(size: int, reads: list[tuple[int, int]]) -> None:
    data = random.Random(size).randbytes(size)
    reader = StreamReader(io.BytesIO(b"before" + sealed(data)), KEY, start=6, chunk=CHUNK)
    assert reader.size == reader.seek(0, os.SEEK_END) == size
    for offset, length in reads:
        reader.seek(offset)
        assert reader.read(length) == data[offset : offset + length]
    reader.seek(0)
    assert reader.read() == data


def test_the_same_plaintext_is_never_the_same_stream() -> None:
    assert sealed(PLAIN)[HEADER_BYTES:] != sealed(PLAIN)[HEADER_BYTES:]


def test_progress_counts_plaintext_to_the_end() -> None:
    seen: list[int] = []
    encrypt_stream(io.BytesIO(PLAIN), io.BytesIO(), KEY, chunk=CHUNK, progress=seen.append)
    assert seen == [FIRST, FIRST + REST, FIRST + 2 * REST, FIRST + 3 * REST, len(PLAIN)]
    seen.clear()
    decrypt_stream(io.BytesIO(SEALED), io.BytesIO(), KEY, b"bound", chunk=CHUNK, progress=seen.append)
    assert seen[-1] == len(PLAIN)


def test_memory_stays_flat_however_long_the_stream() -> None:
    class Zeros:
        left = 40 << 20

        def readinto(self, buffer: memoryview) -> int:
            taken = min(self.left, len(buffer))
            self.left -= taken
            return taken

    class Nowhere:
        def write(self, data: memoryview) -> int:
            return len(data)

    tracemalloc.start()
    encrypt_stream(Zeros(), Nowhere(), KEY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


# -- attacks -----------------------------------------------------------------------------------------------------------------------------


def test_a_change_of_any_byte_is_refused() -> None:
    for position in range(len(SEALED)):
        changed = bytearray(SEALED)
        changed[position] ^= 1 << position % 8
        message = refused(bytes(changed), b"bound")
        if position >= HEADER_BYTES:
            assert f"hunk {position // CHUNK} " in message


def test_a_stream_cut_short_anywhere_is_refused() -> None:
    for length in range(len(SEALED)):
        refused(SEALED[:length], b"bound")


@pytest.mark.parametrize("kept", range(1, len(CHUNKS)))
def test_a_stream_cut_at_a_chunks_border_is_named_as_cut(kept: int) -> None:
    assert f"is cut short: its end is missing after chunk {kept - 1}" in refused(b"".join(CHUNKS[:kept]), b"bound")


@pytest.mark.parametrize(
    "more", [b"\0", b"\0" * TAG_BYTES, CHUNKS[-1], CHUNKS[1]], ids=["a zero", "an empty tag", "its last chunk", "its second chunk"]
)
def test_an_extended_stream_is_refused(more: bytes) -> None:
    assert "is extended: more follows its last chunk 4" in refused(SEALED + more, b"bound")


def test_chunks_in_another_order_doubled_or_left_out_are_refused() -> None:
    for one in range(1, len(CHUNKS)):
        refused(b"".join(CHUNKS[:one] + CHUNKS[one + 1 :]), b"bound")
        refused(b"".join(CHUNKS[: one + 1] + CHUNKS[one:]), b"bound")
        for other in range(1, one):
            swapped = list(CHUNKS)
            swapped[one], swapped[other] = CHUNKS[other], CHUNKS[one]
            assert f"Chunk {other} " in refused(b"".join(swapped), b"bound")


def test_chunks_of_another_stream_under_the_same_key_are_refused() -> None:
    other = sealed(PLAIN, b"bound")
    refused(SEALED[: 2 * CHUNK] + other[2 * CHUNK :], b"bound")
    refused(other[:HEADER_BYTES] + SEALED[HEADER_BYTES:], b"bound")


def test_an_empty_chunk_after_the_last_full_one_is_refused_though_it_authenticates() -> None:
    header, key = SEALED[:HEADER_BYTES], HKDF(hashes.SHA256(), 32, SEALED[1:33], b"bound").derive(KEY)
    full = AESGCM(key).encrypt(header[33:] + bytes(5), bytes(FIRST), None)
    empty = AESGCM(key).encrypt(header[33:] + b"\0\0\0\1\1", b"", None)
    with pytest.raises(IntegrityError, match="at chunk 1"):
        opened(header + full + empty, b"bound")


def test_another_key_other_associated_data_and_another_chunk_size_are_refused() -> None:
    assert "another key, other associated data" in refused(SEALED, b"other")
    assert "another key, other associated data" in refused(SEALED, b"bound", bytes(32))
    with pytest.raises(IntegrityError):
        opened(SEALED, b"bound", chunk=CHUNK + 1)


def test_what_is_no_stream_is_refused() -> None:
    assert "is no encrypted stream" in refused(b"")
    assert "is no encrypted stream" in refused(b"\x28" * 20)
    assert "is no encrypted stream" in refused(b"PK" + bytes(200))


def test_more_chunks_than_the_nonce_can_count_are_refused_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_CHUNKS", 5)
    assert opened(sealed(PLAIN)) == PLAIN
    monkeypatch.setattr(stream, "MAX_CHUNKS", 4)
    with pytest.raises(AffidavitError, match="more than 4 chunks"):
        sealed(PLAIN)
    with pytest.raises(IntegrityError, match="chunk 4"):
        opened(SEALED, b"bound")


def test_the_last_chunk_that_the_nonce_can_count_is_encrypted_and_the_next_has_no_nonce() -> None:
    cipher = stream._Cipher(KEY, SEALED[:HEADER_BYTES], b"bound", CHUNK)
    out, back = memoryview(bytearray(CHUNK)), memoryview(bytearray(CHUNK))
    written = cipher.encrypt(2**32 - 1, True, memoryview(b"last"), out)
    assert cipher.decrypt(2**32 - 1, True, out[:written], back, "x") == 4
    with pytest.raises(OverflowError):
        cipher.encrypt(2**32, True, memoryview(b"last"), out)
    with pytest.raises(IntegrityError, match=str(2**32)):
        cipher.decrypt(2**32, True, out[:written], back, "x")


@pytest.mark.parametrize(("key", "chunk"), [(b"short", CHUNK), (KEY, 56), (KEY, 1 << 31)])
def test_a_short_key_or_an_impossible_chunk_size_is_refused(key: bytes, chunk: int) -> None:
    with pytest.raises(UsageError):
        encrypt_stream(io.BytesIO(), io.BytesIO(), key, chunk=chunk)


def test_a_position_before_the_beginning_is_refused() -> None:
    with pytest.raises(UsageError, match="before the beginning"):
        StreamReader(io.BytesIO(SEALED), KEY, b"bound", chunk=CHUNK).seek(-1)


def test_a_refusal_reaches_who_reads_from_memory_in_a_with_block() -> None:
    changed = sealed(bytes(500))[:-1] + b"!"
    with pytest.raises(IntegrityError, match="does not open"), io.BytesIO(changed) as source:
        decrypt_stream(source, io.BytesIO(), KEY, chunk=CHUNK)

    def broken(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), io.BytesIO(bytes(500)) as source:
        encrypt_stream(source, io.BytesIO(), KEY, chunk=CHUNK, progress=broken)


def test_a_source_that_has_nothing_yet_is_not_taken_for_one_that_has_ended() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, b"the beginning")
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb"), pytest.raises(UsageError, match="non-blocking"):
        encrypt_stream(source, io.BytesIO(), KEY, chunk=CHUNK)
