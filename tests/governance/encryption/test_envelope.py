"""The envelope: known answers, its documented layout read independently, and tampering with every byte."""

from __future__ import annotations

import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from hypothesis import given
from hypothesis import strategies as st

from affidavit.errors import AffidavitError, IntegrityError
from affidavit_governance.encryption import envelope
from affidavit_governance.encryption.envelope import Context, open_sealed, seal

KEY = bytes(range(32))
KEY_ID = b"key-id-8"
HERE = Context("a" * 32, "artifact", "weights")


# -- known answers of what it is built from ----------------------------------------------------------------------------------------------


def test_hkdf_sha256_gives_the_answers_of_rfc_5869_appendix_a() -> None:
    salt, info = bytes(range(13)), bytes(range(0xF0, 0xFA))
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = bytes.fromhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    assert HKDF(algorithm=hashes.SHA256(), length=42, salt=salt, info=info).derive(b"\x0b" * 22) == okm
    assert HKDFExpand(algorithm=hashes.SHA256(), length=42, info=info).derive(prk) == okm
    assert hkdf_expand(prk, info, 42) == okm  # the reference that the layout test below uses


def test_key_wrap_gives_the_answer_of_rfc_3394_section_4_6() -> None:
    key_data = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = bytes.fromhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
    assert aes_key_wrap(bytes(range(32)), key_data) == wrapped
    assert aes_key_unwrap(bytes(range(32)), wrapped) == key_data


def test_aes_256_gcm_gives_the_answer_of_the_gcm_specification_s_case_16() -> None:
    """McGrew and Viega, The Galois/Counter Mode of Operation, appendix B (the vectors that NIST adopted)."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    ciphertext = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    )
    tag = bytes.fromhex("76fc6ece0f4e1768cddf8853bb2d551b")
    assert AESGCM(key).encrypt(bytes.fromhex("cafebabefacedbaddecaf888"), plaintext, aad) == ciphertext + tag


# -- layout ------------------------------------------------------------------------------------------------------------------------------


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, from the standard library."""
    block, result = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        result += block
    return result[:length]


def test_an_independent_reader_of_the_documented_layout_opens_it() -> None:
    sealed = seal(KEY, KEY_ID, b"the weights", HERE)
    assert sealed[:13] == b"AFDV\x02key-id-8"
    data_key = aes_key_unwrap(KEY, sealed[13:53])
    nonce, commitment = sealed[53:65], sealed[65:97]
    parts = [b"AFDV\x02" + nonce, b"a" * 32, b"artifact", b"weights"]
    bound = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    derived = hkdf_expand(data_key, b"affidavit envelope v2\0" + bound, 64)
    assert derived[32:] == commitment
    assert AESGCM(derived[:32]).decrypt(nonce, sealed[97:], bound) == b"the weights"


def test_an_envelope_of_version_2_stays_readable() -> None:
    """Sealed when version 2 was made and kept here."""
    sealed = bytes.fromhex(
        "41464456026b65792d69642d386557b219f63a48ad0ebf786d895ffeb8b931f2b3ef72d3217d82510e4ba1b763acb0eb64139e6f67025d5d06"
        "8446e54ad6c14a79169a52e28d25312cc8969cd10c4d3a7051fdbe62cfc4ac055e129c64eb1743ac758d0e45d897f2b7eb7e84ca7b7c9a5ce8b4d21e"
    )
    assert open_sealed(KEY, KEY_ID, sealed, HERE) == b"kept"


def test_an_exchanged_head_opens_the_same_body_under_another_key() -> None:
    sealed = seal(KEY, KEY_ID, b"the weights", HERE)
    other, other_id = os.urandom(32), b"other-id"
    head = envelope.wrap(other, other_id, envelope.unwrap(KEY, sealed, HERE))
    moved = head + sealed[envelope.HEAD_BYTES :]
    assert open_sealed(other, other_id, moved, HERE) == b"the weights"
    with pytest.raises(IntegrityError, match="sealed with key"):
        open_sealed(KEY, KEY_ID, moved, HERE)


def test_the_head_of_another_envelope_does_not_open_this_one() -> None:
    """The attack on exchangeable heads: bring in a data key that one knows, or that belongs to other content."""
    one, two = seal(KEY, KEY_ID, b"the weights", HERE), seal(KEY, KEY_ID, b"the weights", HERE)
    with pytest.raises(IntegrityError, match="'weights'.* has changed"):
        open_sealed(KEY, KEY_ID, two[: envelope.HEAD_BYTES] + one[envelope.HEAD_BYTES :], HERE)


def test_an_envelope_of_version_1_stays_readable() -> None:
    """Sealed by the first version of Affidavit and kept here."""
    sealed = bytes.fromhex(
        "41464456016b65792d69642d387a31f5352159993aaafccccbdf64f0ccb12071375e7eda833fc1dc65903b1e58737cf7739438c632e5007d256ef"
        "53f0d5dbc91457b7c5878fc48ac99739c40657aa9dfcec5b572340dc43e81df77b2b66b6e9f36c89604f12842bd2dd58e7563940b13d770915018"
    )
    assert open_sealed(KEY, KEY_ID, sealed, HERE) == b"kept"


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20))
def test_what_is_sealed_opens_under_the_same_context(plaintext: bytes, purpose: str, name: str) -> None:
    context = Context("w", purpose, name)
    sealed = seal(KEY, KEY_ID, plaintext, context)
    assert open_sealed(KEY, KEY_ID, sealed, context) == plaintext
    assert len(sealed) == len(plaintext) + envelope.OVERHEAD


def test_every_envelope_has_its_own_key_and_nonce() -> None:
    sealed = [seal(KEY, KEY_ID, b"same" * 10, HERE) for _ in range(50)]
    for field in (slice(13, 53), slice(53, 65), slice(65, 97), slice(97, None)):
        assert len({each[field] for each in sealed}) == 50


# -- tampering ---------------------------------------------------------------------------------------------------------------------------


def test_a_change_of_any_byte_is_refused_and_names_the_object() -> None:
    sealed = seal(KEY, KEY_ID, b"the weights", HERE)
    for position in range(len(sealed)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(sealed)
            changed[position] ^= flip
            with pytest.raises(IntegrityError, match="'weights'"):
                open_sealed(KEY, KEY_ID, bytes(changed), HERE)


def test_a_cut_or_lengthened_envelope_is_refused() -> None:
    sealed = seal(KEY, KEY_ID, b"the weights", HERE)
    for length in range(len(sealed)):
        with pytest.raises(IntegrityError, match="'weights'"):
            open_sealed(KEY, KEY_ID, sealed[:length], HERE)
    with pytest.raises(IntegrityError):
        open_sealed(KEY, KEY_ID, sealed + b"\0", HERE)


@pytest.mark.parametrize(
    "there",
    [
        Context("b" * 32, "artifact", "weights"),
        Context("a" * 32, "manifest", "weights"),
        Context("a" * 32, "artifact", "weight"),
        Context("a" * 32, "artifactw", "eights"),
        Context("a" * 31, "aartifact", "weights"),
        Context("a" * 32, "weights", "artifact"),
    ],
)
def test_an_envelope_moved_to_another_workspace_purpose_or_name_is_refused(there: Context) -> None:
    sealed = seal(KEY, KEY_ID, b"the weights", HERE)
    with pytest.raises(IntegrityError, match=f"'{there.name}'"):
        open_sealed(KEY, KEY_ID, sealed, there)


def test_another_key_is_refused_and_both_are_named() -> None:
    sealed = seal(KEY, KEY_ID, b"the weights", HERE)
    with pytest.raises(IntegrityError, match=f"sealed with key {KEY_ID.hex()}, and this workspace's key is {b'other-id'.hex()}"):
        open_sealed(KEY, b"other-id", sealed, HERE)
    with pytest.raises(IntegrityError, match="has changed"):
        open_sealed(bytes(32), KEY_ID, sealed, HERE)


def test_halves_of_two_envelopes_do_not_make_one() -> None:
    one, two = seal(KEY, KEY_ID, b"the weights", HERE), seal(KEY, KEY_ID, b"the biases!", HERE)
    for cut in (53, 65, 97):
        with pytest.raises(IntegrityError):
            open_sealed(KEY, KEY_ID, one[:cut] + two[cut:], HERE)


def test_a_newer_version_is_refused_as_such() -> None:
    sealed = bytearray(seal(KEY, KEY_ID, b"x", HERE))
    sealed[4] = 3
    with pytest.raises(IntegrityError, match="envelope version 3"):
        open_sealed(KEY, KEY_ID, bytes(sealed), HERE)


def test_an_envelope_cannot_pass_for_one_of_the_older_version() -> None:
    sealed = bytearray(seal(KEY, KEY_ID, b"x", HERE))
    sealed[4] = 1
    with pytest.raises(IntegrityError, match="has changed"):
        open_sealed(KEY, KEY_ID, bytes(sealed), HERE)


def test_the_commitment_rejects_a_ciphertext_that_a_second_key_would_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows two data keys can make AES-GCM accept one ciphertext under both. Without the comparison the forgery would open."""
    data_key, other = os.urandom(32), os.urandom(32)
    bound = envelope.encode(b"AFDV\x02" + bytes(12), HERE)
    forged = envelope.wrap(KEY, KEY_ID, other) + bytes(12) + envelope._derive(data_key, bound)[32:]
    forged += AESGCM(envelope._derive(other, bound)[:32]).encrypt(bytes(12), b"another model", bound)
    with pytest.raises(IntegrityError, match="has changed"):
        open_sealed(KEY, KEY_ID, forged, HERE)
    monkeypatch.setattr(envelope.constant_time, "bytes_eq", lambda a, b: True)
    assert open_sealed(KEY, KEY_ID, forged, HERE) == b"another model"


def test_more_than_one_call_can_encrypt_is_refused_with_its_size() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**31

    with pytest.raises(AffidavitError, match=r"'weights' has 2147483648 bytes"):
        seal(KEY, KEY_ID, Huge(), HERE)
