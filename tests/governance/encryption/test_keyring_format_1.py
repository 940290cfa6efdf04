"""A workspace of the first version, whose keyring.json had format 1: read, used, rotated, and what cannot be had from it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from keys_workspace import close, open_workspace

from affidavit.errors import AffidavitError
from affidavit.store import Objects, Store
from affidavit_governance.encryption import open_keyring, rotation
from affidavit_governance.encryption.keyfile import FILE

OLD: dict[str, Any] = json.loads((Path(__file__).parent / "format-1" / "keyring.json").read_text())


@pytest.fixture
def old_location(store_location: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kept keyring and object in a workspace of the kept id, with the table that the first version made."""
    monkeypatch.setenv("AFFIDAVIT_KEY", OLD["AFFIDAVIT_KEY"])
    with Store.open(store_location) as store:
        with store.write() as connection:
            connection.exec_driver_sql("CREATE TABLE keyring (key_id TEXT PRIMARY KEY)")
            connection.execute(sa.text("INSERT INTO keyring VALUES (:key_id)"), {"key_id": OLD["key_id"]})
            connection.execute(sa.text("INSERT INTO components VALUES ('keyring', 1)"))
            connection.execute(sa.text("UPDATE meta SET value = :id WHERE key = 'workspace_id'"), {"id": OLD["workspace_id"]})
        store.files.write(FILE, json.dumps(OLD["keyring.json"]).encode())
        digest = OLD["object"]["digest"]
        store.files.write(f"objects/artifact/{digest[:2]}/{digest[2:]}", base64.b64decode(OLD["object"]["sealed"]))
    yield store_location


def test_a_keyring_of_format_1_opens_with_its_identity_and_everything_sealed(old_location: str) -> None:
    with Store.open(old_location) as store:
        keyring = open_keyring(store)
        assert keyring.key_id == OLD["key_id"]
        assert keyring.verifier_key == OLD["verifier_key"]
        assert hashlib.sha256(keyring.derive("pseudonym")).hexdigest() == OLD["pseudonym_sha256"]
        assert Objects(store, keyring).get(OLD["object"]["digest"], purpose="artifact") == b"kept since format 1"
        row = OLD["row"]
        assert keyring.open(base64.b64decode(row["sealed"]), purpose=row["purpose"], name=row["name"]) == b"a row of format 1"
        assert json.loads(store.files.read(FILE)) == OLD["keyring.json"]  # reading changes nothing


def test_the_first_rotation_writes_format_2_and_keeps_the_identity(old_location: str) -> None:
    workspace = open_workspace(old_location)
    digest = workspace.objects.put(b"sealed before the rotation", purpose="artifact")
    workspace.keys.rotate()
    workspace.keys.rewrap()
    close(workspace)
    workspace = open_workspace(old_location)
    value = json.loads(workspace.store.files.read(FILE))
    assert (value["format"], value["generation"], value["key_id"]) == (2, 1, OLD["key_id"])
    assert workspace.keyring.verifier_key == OLD["verifier_key"]
    assert hashlib.sha256(workspace.keyring.derive("pseudonym")).hexdigest() == OLD["pseudonym_sha256"]
    assert workspace.objects.get(OLD["object"]["digest"], purpose="artifact") == b"kept since format 1"
    assert workspace.objects.get(digest, purpose="artifact") == b"sealed before the rotation"
    close(workspace)


def test_version_1_of_format_1_stays_because_it_follows_from_the_identity(old_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "GRACE", timedelta(0))
    workspace = open_workspace(old_location)
    workspace.keys.rotate()
    workspace.keys.rewrap()
    first = workspace.keys.status()["versions"][0]
    assert first["derived"]
    # Envelopes of version 1 bind their wrapped key: the object from the first version stays where it is (in a database as a row of `files`).
    assert first["objects"] == 1
    with pytest.raises(AffidavitError, match="follows from the identity secret"):
        workspace.keys.destroy(1)
    close(workspace)


def test_a_wrong_key_for_format_1_is_one_clear_error(old_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY", base64.b64encode(bytes(32)).decode())
    with Store.open(old_location) as store, pytest.raises(AffidavitError, match="The key in AFFIDAVIT_KEY does not open workspace"):
        open_keyring(store)
