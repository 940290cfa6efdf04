"""The keyring: where its secret comes from, what it refuses, and what it never shows."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import multiprocessing
import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from keys_workspace import open_and_identify

from affidavit.errors import AffidavitError, IntegrityError, InvalidInput, UsageError
from affidavit.store import Objects, Store
from affidavit_governance.encryption import open_keyring
from affidavit_governance.encryption.keyfile import FILE
from affidavit_governance.encryption.keyring import LocalKeyring

NEW_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def folder_store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "ws") as store:
        yield store


# -- making and opening -------------------------------------------------------------------------------------------------------------------


def test_the_same_keys_come_back_at_every_open(store: Store) -> None:
    first, second = open_keyring(store), open_keyring(store)
    assert first.key_id == second.key_id
    assert first.public_key == second.public_key
    assert first.derive("pseudonym") == second.derive("pseudonym")
    assert second.open(first.seal(b"x", purpose="p", name="n"), purpose="p", name="n") == b"x"
    assert first.sign(b"x") == second.sign(b"x")


def test_by_default_the_key_lies_outside_the_workspace_for_its_owner_alone(folder_store: Store, home: Path) -> None:
    open_keyring(folder_store)
    path = home / "keys" / f"{folder_store.workspace_id}.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(folder_store.files.read(FILE))["provider"] == {"type": "file"}


def test_a_missing_key_file_is_one_clear_error_and_no_new_key_is_made(folder_store: Store, home: Path) -> None:
    before = open_keyring(folder_store), folder_store.files.read(FILE)
    path = home / "keys" / f"{folder_store.workspace_id}.key"
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(AffidavitError, match=r"key file '.*\.key' .* cannot be read: No such file"):
        open_keyring(folder_store)
    assert not path.exists()
    assert folder_store.files.read(FILE) == before[1]
    path.write_bytes(kept)
    path.chmod(0o600)
    assert open_keyring(folder_store).key_id == before[0].key_id


@pytest.mark.parametrize("content", [b"", b"garbage", b"affidavit-key-1 c2hvcnQ=", b"affidavit-key-2 " + NEW_KEY.encode(), b"\xff" * 60])
def test_a_damaged_key_file_is_refused(folder_store: Store, home: Path, content: bytes) -> None:
    open_keyring(folder_store)
    (home / "keys" / f"{folder_store.workspace_id}.key").write_bytes(content)
    with pytest.raises(AffidavitError, match=r"\.key'"):
        open_keyring(folder_store)


def test_the_key_file_of_another_workspace_does_not_open_this_one(folder_store: Store, tmp_path: Path, home: Path) -> None:
    open_keyring(folder_store)
    with Store.open(tmp_path / "other") as other:
        open_keyring(other)
        (home / "keys" / f"{folder_store.workspace_id}.key").write_bytes((home / "keys" / f"{other.workspace_id}.key").read_bytes())
    with pytest.raises(AffidavitError, match="does not open workspace"):
        open_keyring(folder_store)


def test_a_key_file_that_others_can_read_is_refused(folder_store: Store, home: Path) -> None:
    open_keyring(folder_store)
    path = home / "keys" / f"{folder_store.workspace_id}.key"
    path.chmod(0o640)
    with pytest.raises(AffidavitError, match="can be read by other users") as caught:
        open_keyring(folder_store)
    assert "chmod 600" in str(caught.value)


def test_a_key_file_inside_the_workspace_is_refused(folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(folder_store.spool))
    with pytest.raises(UsageError, match="inside the workspace"):
        open_keyring(folder_store)
    assert not folder_store.files.exists(FILE)
    monkeypatch.undo()


def test_a_passphrase_is_stretched_by_the_second_recommended_option_of_rfc_9106(folder_store: Store) -> None:
    keyring = open_keyring(folder_store, passphrase="correct horse")
    provider = json.loads(folder_store.files.read(FILE))["provider"]
    salt = base64.b64decode(provider.pop("salt"))
    assert provider == {"type": "passphrase", "kdf": "argon2id", "iterations": 3, "lanes": 4, "memory_kib": 65536}
    assert len(salt) == 16
    assert open_keyring(folder_store, passphrase="correct horse").key_id == keyring.key_id


def test_argon2id_gives_the_answer_of_rfc_9106_section_5_3() -> None:
    argon2id = Argon2id(salt=b"\2" * 16, length=32, iterations=3, lanes=4, memory_cost=32, ad=b"\4" * 12, secret=b"\3" * 8)
    assert argon2id.derive(b"\1" * 32).hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


@pytest.mark.usefixtures("cheap_argon2id")
def test_a_wrong_or_missing_passphrase_is_one_clear_error_and_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = open_keyring(store, passphrase="correct horse")
    before = store.files.read(FILE)
    with pytest.raises(AffidavitError, match="The passphrase does not open workspace") as caught:
        open_keyring(store, passphrase="battery staple")
    assert "battery" not in str(caught.value)
    with pytest.raises(AffidavitError, match="none was given"):
        open_keyring(store)
    monkeypatch.setenv("AFFIDAVIT_PASSPHRASE", "correct horse")
    assert open_keyring(store).key_id == keyring.key_id
    assert store.files.read(FILE) == before


@pytest.mark.usefixtures("cheap_argon2id")
def test_a_passphrase_typed_in_another_unicode_form_opens(folder_store: Store) -> None:
    assert open_keyring(folder_store, passphrase="pässwörd").key_id == open_keyring(folder_store, passphrase="pa\u0308sswo\u0308rd").key_id


def test_an_empty_passphrase_is_refused(folder_store: Store) -> None:
    with pytest.raises(AffidavitError, match="none was given"):
        open_keyring(folder_store, passphrase="")
    assert not folder_store.files.exists(FILE)


def test_a_key_from_the_environment_seals(folder_store: Store, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY", NEW_KEY)
    keyring = open_keyring(folder_store)
    assert not home.exists()
    assert open_keyring(folder_store).key_id == keyring.key_id
    monkeypatch.setenv("AFFIDAVIT_KEY", base64.b64encode(bytes(32)).decode())
    with pytest.raises(AffidavitError, match="The key in AFFIDAVIT_KEY does not open"):
        open_keyring(folder_store)
    monkeypatch.delenv("AFFIDAVIT_KEY")
    with pytest.raises(AffidavitError, match="AFFIDAVIT_KEY, which is not set"):
        open_keyring(folder_store)


@pytest.mark.parametrize("value", ["", "short", base64.b64encode(bytes(31)).decode(), "!" * 44])
def test_an_unusable_environment_key_is_refused_without_quoting_it(folder_store: Store, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY", value)
    with pytest.raises(AffidavitError, match="AFFIDAVIT_KEY is not 32 bytes in base64") as caught:
        open_keyring(folder_store)
    assert not value or value not in str(caught.value)


def test_two_providers_at_once_are_refused(folder_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY", NEW_KEY)
    with pytest.raises(UsageError, match="exactly one"):
        open_keyring(folder_store, passphrase="x")


def test_a_passphrase_for_a_workspace_without_one_is_refused(folder_store: Store) -> None:
    open_keyring(folder_store)
    with pytest.raises(UsageError, match="is not sealed by a passphrase"):
        open_keyring(folder_store, passphrase="x")


def test_processes_that_open_a_new_workspace_at_once_agree_on_its_keys(store_location: str) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        keys = pool.map(open_and_identify, [store_location] * 6, chunksize=1)
    assert len(set(keys)) == 1
    with Store.open(store_location) as store:
        assert open_keyring(store).verifier_key == keys[0]


# -- tampering ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_a_keyring_file_that_is_none_is_called_damaged(folder_store: Store, content: bytes) -> None:
    open_keyring(folder_store)
    folder_store.files.write(FILE, content)
    with pytest.raises(IntegrityError, match=r"keyring\.json .* is damaged"):
        open_keyring(folder_store)


def test_a_change_of_any_byte_of_the_keyring_file_never_opens_other_keys(folder_store: Store) -> None:
    keyring = open_keyring(folder_store)
    original = folder_store.files.read(FILE)
    path = folder_store.files.root / FILE  # type: ignore[attr-defined]  # a folder here
    refused = 0
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            assert open_keyring(folder_store).public_key == keyring.public_key  # white space, or a base64 digit's unused bits
        except AffidavitError:
            refused += 1
    assert refused > len(original) * 0.9


def test_a_lost_keyring_file_is_not_replaced_by_a_new_one(store: Store) -> None:
    open_keyring(store)
    store.files.delete(FILE)
    with pytest.raises(IntegrityError, match=r"has lost its keyring\.json"):
        open_keyring(store)
    assert not store.files.exists(FILE)


def test_the_keyring_file_of_another_workspace_is_refused(folder_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY", NEW_KEY)
    open_keyring(folder_store)
    with Store.open(tmp_path / "other") as other:
        open_keyring(other)
        folder_store.files.write(FILE, other.files.read(FILE))
    with pytest.raises(AffidavitError, match="does not open workspace"):
        open_keyring(folder_store)


def test_a_second_keyring_made_for_the_same_workspace_is_refused(folder_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody with the provider's key swaps the master secret, so that evidence would be signed with a key of theirs."""
    monkeypatch.setenv("AFFIDAVIT_KEY", NEW_KEY)
    open_keyring(folder_store)
    with Store.open(tmp_path / "other") as other:
        other.workspace_id = folder_store.workspace_id
        open_keyring(other)
        folder_store.files.write(FILE, other.files.read(FILE))
    with pytest.raises(IntegrityError, match="is not the one it was made with"):
        open_keyring(folder_store)


def test_a_newer_keyring_format_is_refused(folder_store: Store) -> None:
    open_keyring(folder_store)
    value = json.loads(folder_store.files.read(FILE))
    folder_store.files.write(FILE, json.dumps({**value, "format": 3}).encode())
    with pytest.raises(InvalidInput, match="format 3; this Affidavit reads up to 2"):
        open_keyring(folder_store)


@pytest.mark.usefixtures("cheap_argon2id")
@pytest.mark.parametrize(
    "change",
    [{"memory_kib": 2**40}, {"iterations": 10**9}, {"lanes": 0}, {"kdf": "none"}, {"salt": "?"}, {"lanes": "x"}, {"lanes": 64, "memory_kib": 8}],
)
def test_changed_stretching_settings_cannot_exhaust_the_machine(folder_store: Store, change: dict[str, object]) -> None:
    open_keyring(folder_store, passphrase="x")
    value = json.loads(folder_store.files.read(FILE))
    value["provider"].update(change)
    folder_store.files.write(FILE, json.dumps(value).encode())
    with pytest.raises(IntegrityError, match="Argon2id settings are unusable"):
        open_keyring(folder_store, passphrase="x")


# -- the keys -----------------------------------------------------------------------------------------------------------------------------


def test_the_verifier_key_follows_c2sp_signed_note_and_verifies_signatures(folder_store: Store) -> None:
    keyring = open_keyring(folder_store)
    name, digest, encoded = keyring.verifier_key.split("+", 2)
    key = base64.b64decode(encoded)
    assert name == f"affidavit/{folder_store.workspace_id[:12]}"
    assert digest == hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8]
    assert key == b"\x01" + keyring.public_key
    public = Ed25519PublicKey.from_public_bytes(key[1:])
    public.verify(keyring.sign(b"note\n"), b"note\n")
    with pytest.raises(InvalidSignature):
        public.verify(keyring.sign(b"note\n"), b"another\n")


def test_the_verifier_key_of_the_go_reference_implementation_is_reproduced() -> None:
    """golang.org/x/mod/sumdb/note: the key of sum.golang.org."""
    from affidavit_governance.encryption.keyring import verifier_key

    known = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    public_key = base64.b64decode(known.split("+", 2)[2])[1:]
    assert verifier_key("sum.golang.org", public_key) == known


def test_keys_differ_by_purpose_by_workspace_and_from_the_internal_ones() -> None:
    master = bytes(range(32))
    one, two = LocalKeyring(master, "a" * 32), LocalKeyring(master, "b" * 32)
    purposes = ["", "pseudonym", "pseudonym:email", "envelope encryption", "ed25519 seed", "key id"]
    keys = [keyring.derive(purpose) for keyring in (one, two) for purpose in purposes]
    internal = [one.secrets.active.key, two.secrets.active.key, one._signing.private_bytes_raw(), two._signing.private_bytes_raw()]
    assert len({*keys, *internal, master}) == len(keys) + len(internal) + 1
    assert len(one.derive("x", 64)) == 64
    assert one.key_id != two.key_id


def test_what_one_master_secret_derives_never_changes() -> None:
    """A change here would lose everything that was ever sealed or pseudonymised."""
    keyring = LocalKeyring(bytes(range(32)), "0123456789abcdef" * 2)
    assert keyring.key_id == "14a18f1179587add"
    assert keyring.public_key.hex() == "4b9f804474ff3b7ebc4143122e0eac431beae1f809e33f7a4851c64673f86c82"
    assert keyring.derive("pseudonym").hex() == "9edcb81cf597f653dd9599fbd8532bb6277f298dc40b92532e70add8c48a0ab1"
    assert keyring.secrets.active.key.hex() == "bc74c46914e714ef8e292f73f4dd90fe766510dcb1ff7ae4f19eb33550a7be7c"


def test_secrets_are_never_shown_pickled_or_copied() -> None:
    master = os.urandom(32)
    keyring = LocalKeyring(master, "a" * 32)
    for text in (repr(keyring), str(keyring), f"{keyring}"):
        assert keyring.key_id in text
        for secret in (master, keyring.secrets.active.key):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, lambda value: pickle.dumps({"x": [value]}, protocol=0)):
        with pytest.raises(TypeError, match="holds secrets"):
            attempt(keyring)
    with pytest.raises(TypeError):
        vars(keyring)


def test_nothing_secret_is_on_disk_in_the_clear(folder_store: Store, tmp_path: Path) -> None:
    keyring = open_keyring(folder_store)
    Objects(folder_store, keyring).put(b"Ada Lovelace, 1815", purpose="artifact")
    folder_store.close()
    needles = [b"Ada Lovelace"]
    for secret in (keyring.secrets.identity, keyring.secrets.active.key, keyring._signing.private_bytes_raw()):
        needles += [secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [needle for needle in needles if needle in content], path


def test_the_keyring_its_keeper_and_the_providers_are_registered() -> None:
    from affidavit.plugins import bundled_registry

    registry = bundled_registry()
    assert registry.get("service", "keyring") is open_keyring
    assert registry.names("key_provider") == ("aws_kms", "environment", "file", "passphrase", "pkcs11", "vault")
    assert {registry.entries["key_provider", name].extra for name in ("pkcs11", "aws_kms", "vault")} == {"pkcs11", "aws", "vault"}
