"""Signed notes, verifier keys, DSSE envelopes, tiles and the container: published values, round trips and changed bytes."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from affidavit.errors import IntegrityError, UsageError
from affidavit_governance.audit import container, tiles
from affidavit_governance.audit.dsse import canonical_json, pae, read_canonical, read_statement, seal_statement, statement, subjects
from affidavit_governance.audit.merkle import Tree, leaf_hash
from affidavit_governance.audit.note import Checkpoint, VerifierKey, open_checkpoint, open_note, signed_note

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
KEY = VerifierKey("affidavit/test", PRIVATE.public_key().public_bytes_raw())
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)


def checkpoint_note() -> bytes:
    text = Checkpoint(KEY.name, 5, b"\x01" * 32).text()
    return signed_note(text, KEY, PRIVATE.sign(text.encode()))


def test_the_published_note_of_the_go_implementation_opens() -> None:
    # golang.org/x/mod/sumdb/note, package example.
    key = VerifierKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert str(key) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    assert open_note(f"{text}\n— PeterNeumann {signature}\n".encode(), key) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "a+b+c", "name+00000000+" + base64.b64encode(b"\x01" + KEY.public_key).decode(), str(KEY)[:-4], str(KEY).replace("+A", "+Q", 1),
        "\x1b[2J" + str(KEY),
    ],
)  # fmt: skip
def test_a_damaged_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        VerifierKey.parse(text)


def test_a_checkpoint_opens_with_its_key_and_no_changed_byte_does() -> None:
    note = checkpoint_note()
    assert open_checkpoint(note, KEY) == Checkpoint(KEY.name, 5, b"\x01" * 32)
    for position in range(len(note)):
        for bit in (1, 0x20, 0x80):
            changed = bytearray(note)
            changed[position] ^= bit
            with pytest.raises(IntegrityError):
                open_checkpoint(bytes(changed), KEY)


def test_other_signatures_on_a_note_are_passed_over_but_never_enough() -> None:
    text = Checkpoint(KEY.name, 5, b"\x01" * 32).text()
    other = VerifierKey("witness", OTHER.public_key().public_bytes_raw())
    theirs = signed_note(text, other, OTHER.sign(text.encode()))
    line = theirs.decode().rpartition("\n\n")[2].encode()
    assert open_checkpoint(checkpoint_note() + line, KEY).size == 5
    with pytest.raises(IntegrityError, match="no signature of the key"):
        open_note(theirs, KEY)


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    text = Checkpoint("somebody/else", 5, b"\x01" * 32).text()
    with pytest.raises(IntegrityError, match="somebody/else"):
        open_checkpoint(signed_note(text, KEY, PRIVATE.sign(text.encode())), KEY)


ROOT = base64.b64encode(b"\x01" * 32).decode()


@pytest.mark.parametrize("text", ["o\n5\n", f"o\n05\n{ROOT}\n", f"o\n-1\n{ROOT}\n", "o\n5\nAA==\n", f"o\n5\n{ROOT}\nmore\n", f"\n5\n{ROOT}\n"])
def test_a_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        Checkpoint.parse(text)


def test_pae_is_the_published_one() -> None:
    # The example of the DSSE v1 protocol description.
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def envelope() -> bytes:
    content = statement({"b": "22" * 32, "a": "11" * 32}, "urn:test:v1", {"figure": 0.5, "text": "é"})
    return seal_statement(content, key_id=KEY.key_id.hex(), sign=PRIVATE.sign)


def test_a_statement_survives_the_round_trip_and_no_changed_byte_does() -> None:
    sealed = envelope()
    content = read_statement(sealed, "it", KEY)
    assert subjects(content) == {"a": "11" * 32, "b": "22" * 32}
    assert content["predicate"] == {"figure": 0.5, "text": "é"}
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1 << position % 8
        with pytest.raises(IntegrityError, match="it"):
            read_statement(bytes(changed), "it", KEY)


def test_another_key_does_not_open_a_statement() -> None:
    with pytest.raises(IntegrityError, match="not signed by the key"):
        read_statement(envelope(), "it", VerifierKey("affidavit/test", OTHER.public_key().public_bytes_raw()))


@pytest.mark.parametrize(
    "text", [b'{"a":1,"a":2}', b'{"a": 1}', b"[1.50]", b"NaN", b"[1e400]", b"[" * 100_000, b"\xff", b'{"b":1,"a":2}', b"1" * 10_000]
)
def test_json_in_any_but_the_canonical_form_is_refused(text: bytes) -> None:
    with pytest.raises(IntegrityError, match="the file"):
        read_canonical(text, "the file")


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"}, {"subject": []}, {"subject": [{"name": "a", "digest": {"sha256": "XY" * 32}}]},
        {"predicate": 1}, {"subject": [{"name": "a", "digest": {"sha256": "11" * 32}}] * 2}, {"more": 1},
        {"subject": [{"name": "a", "digest": {"sha512": "11" * 32}}]},
    ],
)  # fmt: skip
def test_a_signed_value_that_is_no_statement_is_refused(change: dict[str, object]) -> None:
    content = {**statement({"a": "11" * 32}, "urn:test:v1", {}), **change}
    with pytest.raises(IntegrityError, match="no signed statement"):
        read_statement(seal_statement(content, key_id=KEY.key_id.hex(), sign=PRIVATE.sign), "it", KEY)


def test_tile_paths_are_those_of_the_specification() -> None:
    assert tiles.Tile(0, 1234067, 256).path == "tile/0/x001/x234/067"
    assert tiles.Tile(3, 0, 8).path == "tile/3/000.p/8"
    assert tiles.Tile(None, 1000, 256).path == "tile/entries/x001/000"


def test_tiles_of_a_tree_are_those_of_the_specification() -> None:
    # The example of c2sp.org/tlog-tiles: a tree of 70,000 leaves.
    names = [tile.path for tile in tiles.tiles_of(70_000) if tile.level is not None]
    assert len([name for name in names if name.startswith("tile/0/")]) == 274
    assert names[273:] == ["tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]


@given(st.integers(0, 800), st.integers(0, 800))
def test_the_tiles_that_growth_adds_are_the_ones_that_differ(first: int, second: int) -> None:
    before, after = sorted((first, second))
    new = set(tiles.tiles_of(after)) - set(tiles.tiles_of(before))
    assert set(tiles.tiles_of(after, before)) == new


def test_a_tile_holds_the_hashes_of_its_level() -> None:
    leaves = [leaf_hash(n.to_bytes(2, "big")) for n in range(600)]
    tree = Tree(leaves)
    assert tiles.tile_bytes(tree, tiles.Tile(0, 1, 256)) == b"".join(leaves[256:512])
    assert tiles.tile_bytes(tree, tiles.Tile(1, 0, 2)) == Tree(leaves[:256]).root() + Tree(leaves[256:512]).root()


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_entry_bundles_survive_the_round_trip(entries: list[bytes]) -> None:
    assert tiles.decode_entries(tiles.encode_entries(entries), "it") == entries


def test_an_entry_bundle_that_is_cut_short_is_refused() -> None:
    data = tiles.encode_entries([b"first", b"second"])
    for length in set(range(1, len(data))) - {7}:  # after 7 bytes the first entry is whole: the caller counts entries
        with pytest.raises(IntegrityError, match="it is cut short"):
            tiles.decode_entries(data[:length], "it")


def test_an_entry_that_uint16_cannot_measure_is_refused() -> None:
    with pytest.raises(IntegrityError):
        tiles.encode_entries([b"x" * 65536])


FILES = {"b/two.txt": b"second", "a.txt": b"", "c": bytes(range(256))}


def test_other_tools_read_the_container() -> None:
    with zipfile.ZipFile(io.BytesIO(container.encode(FILES))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert all(info.compress_type == zipfile.ZIP_STORED and info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist())


def test_the_container_depends_on_nothing_but_its_files() -> None:
    assert container.encode(FILES) == container.encode(dict(reversed(FILES.items())))
    assert container.decode(container.encode(FILES)) == FILES


def test_no_byte_of_the_container_can_change_unseen() -> None:
    data = container.encode(FILES)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        try:
            found = container.decode(bytes(changed))
        except IntegrityError:
            continue
        assert found != FILES or container.encode(found) != bytes(changed)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a//b", ".hidden", "a/.b", "", "a\\b", "é", "a\n", "C:", "x" * 201])
def test_names_that_could_leave_a_folder_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        container.encode({name: b""})
    if name.isascii() and len(name) == 2:
        data = container.encode({"zz": b"1"}).replace(b"zz", name.encode())
        with pytest.raises(IntegrityError):
            container.decode(data)


def test_a_name_that_stands_twice_is_refused() -> None:
    data = container.encode({"a1": b"1", "a2": b"2"}).replace(b"a2", b"a1")
    with pytest.raises(IntegrityError, match="twice"):
        container.decode(data)


def test_a_compressed_archive_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 10_000_000)
    data = buffer.getvalue()
    with contextlib.suppress(IntegrityError):
        assert container.encode(container.decode(data)) != data


def test_canonical_json_is_sorted_compact_and_utf8() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()
    assert json.loads(canonical_json({"x": 1e-300})) == {"x": 1e-300}
