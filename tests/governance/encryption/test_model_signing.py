"""Model signatures: the upstream tool takes ours and we take its, and neither takes a model that changed."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_public_key

from affidavit.approver import Approver
from affidavit.artifacts import read_artifact
from affidavit.errors import IntegrityError, InvalidInput, Refused, UsageError
from affidavit.workspace import Workspace
from affidavit_governance.audit.dsse import PAYLOAD_TYPE, pae
from affidavit_governance.encryption import model_signing as ours
from affidavit_governance.encryption.export import sign_artifact
from affidavit_governance.encryption.keyring import LocalKeyring

if find_spec("model_signing"):  # where it is installed it must import: a skip would hide that nothing was checked
    import model_signing as upstream
needs_upstream = pytest.mark.skipif(find_spec("model_signing") is None, reason="the upstream tool comes with the extra 'dev'")

KEY = ours.signing_key(LocalKeyring(b"m" * 32, "a" * 32))
PEM = ours.public_key_pem(KEY)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Names whose order differs between paths and plain text: 'a-b' sorts before 'a/b' as text and after it as a path."""
    folder = tmp_path / "credit-risk"
    for name in ("manifest.json", "a/b.json", "a-b.json", "a/c/weights.safetensors", "Ünïcode 模型.txt", ".hidden", ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 3)
    (folder / "empty").mkdir()
    (folder / "nothing.bin").touch()
    return folder


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(PEM)
    return path


def upstream_verifies(folder: Path, key: Path, signature: Path | None = None) -> None:
    if find_spec("model_signing") is None:
        pytest.skip("the upstream tool comes with the extra 'dev'")
    upstream.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature or folder / "model.sig")


def change(folder: Path) -> None:
    (folder / "a/b.json").write_text("changed")


def add(folder: Path) -> None:
    (folder / "a/new.bin").write_text("added")


def remove(folder: Path) -> None:
    (folder / ".hidden").unlink()


def rename(folder: Path) -> None:
    (folder / "a-b.json").rename(folder / "a-c.json")


ATTACKS = [change, add, remove, rename]


# -- both directions ---------------------------------------------------------------------------------------------------------------------


@needs_upstream
def test_the_upstream_tools_command_verifies_our_signature(model: Path, pem: Path) -> None:
    ours.sign_folder(model, KEY)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(model), "--signature", str(model / "model.sig"), "--public_key", str(pem)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    change(model)
    assert subprocess.run(command, capture_output=True).returncode != 0


@pytest.mark.parametrize("attack", ATTACKS)
def test_neither_verifier_takes_another_model_than_was_signed(model: Path, pem: Path, attack: Callable[[Path], None]) -> None:
    ours.sign_folder(model, KEY)
    upstream_verifies(model, pem)
    ours.verify_folder(model, PEM)
    attack(model)
    with pytest.raises(ValueError):
        upstream_verifies(model, pem)
    with pytest.raises(IntegrityError, match="is not what was signed"):
        ours.verify_folder(model, PEM)


@needs_upstream
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
@pytest.mark.parametrize("attack", [None, *ATTACKS])
def test_a_model_that_the_upstream_tool_signed_verifies_here_until_it_changes(
    model: Path, tmp_path: Path, curve: ec.EllipticCurve, attack: Callable[[Path], None] | None
) -> None:
    key = ec.generate_private_key(curve)
    (tmp_path / "private.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    config = upstream.signing.Config().use_elliptic_key_signer(private_key=tmp_path / "private.pem")
    config.set_hashing_config(upstream.hashing.Config().set_ignored_paths(paths=["model.sig"])).sign(model, model / "model.sig")
    if attack is None:
        files = ours.verify_folder(model, ours.public_key_pem(key))
        assert files["a/b.json"] == hashlib.sha256((model / "a/b.json").read_bytes()).hexdigest() and ".gitignore" not in files
    else:
        attack(model)
        with pytest.raises(IntegrityError, match="is not what was signed"):
            ours.verify_folder(model, ours.public_key_pem(key))


def test_a_recorded_signature_of_the_upstream_tool_verifies_until_its_model_changes(tmp_path: Path) -> None:
    recorded = json.loads((Path(__file__).parent / "data" / "upstream_signature.json").read_text())
    for name, content in recorded["files"].items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(content)
    (tmp_path / "model" / "model.sig").write_text(json.dumps(recorded["signature"]))
    assert sorted(ours.verify_folder(tmp_path / "model", recorded["public_key"].encode())) == sorted(recorded["files"])
    (tmp_path / "model" / "a/weights.bin").write_text("other")
    with pytest.raises(IntegrityError, match=r"changed files: 'a/weights\.bin'"):
        ours.verify_folder(tmp_path / "model", recorded["public_key"].encode())


@needs_upstream
def test_our_statement_is_the_one_that_the_upstream_tool_makes(model: Path, tmp_path: Path) -> None:
    (tmp_path / "private.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    config = upstream.signing.Config().use_elliptic_key_signer(private_key=tmp_path / "private.pem")
    config.sign(model, tmp_path / "theirs.sig")
    ours.sign_folder(model, KEY, signature=tmp_path / "ours.sig")
    theirs, mine = (json.loads((tmp_path / name).read_text()) for name in ("theirs.sig", "ours.sig"))
    assert mine["verificationMaterial"] == theirs["verificationMaterial"] and mine["mediaType"] == theirs["mediaType"]
    statements = [json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"])) for bundle in (theirs, mine)]
    for statement in statements:
        statement["predicate"]["serialization"]["ignore_paths"].sort()
    assert statements[0] == statements[1]


# -- attacks on the signature ------------------------------------------------------------------------------------------------------------


def test_another_key_is_refused_by_both(model: Path, tmp_path: Path) -> None:
    ours.sign_folder(model, KEY)
    other = ours.public_key_pem(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "other.pem").write_bytes(other)
    with pytest.raises(ValueError):
        upstream_verifies(model, tmp_path / "other.pem")
    with pytest.raises(IntegrityError, match="another key"):
        ours.verify_folder(model, other)


def forged(model: Path, change: Callable[[dict[str, Any]], None], *, sign: bool) -> None:
    """Change the signed statement; the signature stays, or is made anew with the right key."""
    bundle = json.loads((model / "model.sig").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    if sign:
        signed = KEY.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(ours._HASHES["secp256r1"]))
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signed).decode()
    (model / "model.sig").write_text(json.dumps(bundle))


def test_a_changed_statement_does_not_verify_without_the_hint_either(model: Path) -> None:
    ours.sign_folder(model, KEY)
    forged(model, lambda statement: statement["predicate"]["serialization"]["ignore_paths"].append("a"), sign=False)
    with pytest.raises(IntegrityError, match="does not verify"):
        ours.verify_folder(model, PEM)
    bundle = json.loads((model / "model.sig").read_text())
    del bundle["verificationMaterial"]["publicKey"]["hint"]
    (model / "model.sig").write_text(json.dumps(bundle))
    with pytest.raises(IntegrityError, match="does not verify"):
        ours.verify_folder(model, PEM)


def double(statement: dict[str, Any]) -> None:
    statement["predicate"]["resources"].append(dict(statement["predicate"]["resources"][0], digest="00" * 32))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s["subject"][0]["digest"].update(sha256="00" * 32), IntegrityError, "inconsistent"),
        (double, IntegrityError, "inconsistent"),
        (lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"), InvalidInput, "another kind of statement"),
        (lambda s: s["predicate"]["serialization"].update(method="shards"), InvalidInput, "Use the upstream"),
        (lambda s: s["predicate"]["resources"][0].update(algorithm="blake3"), InvalidInput, "Use the upstream"),
        (lambda s: s.pop("predicate"), InvalidInput, "no statement about a model"),
        (lambda s: s["subject"].append({}), InvalidInput, "no statement about a model"),
    ],
)
def test_a_statement_of_another_kind_is_refused_though_it_is_signed(
    model: Path, change: Callable[[dict[str, Any]], None], error: type[Exception], message: str
) -> None:
    ours.sign_folder(model, KEY)
    forged(model, change, sign=True)
    with pytest.raises(error, match=message):
        ours.verify_folder(model, PEM)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"dsseEnvelope": {"payload": "!", "signatures": [{"sig": ""}]}}'])
def test_what_is_no_signature_is_refused(model: Path, content: bytes) -> None:
    (model / "model.sig").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"'model\.sig' is no signature"):
        ours.verify_folder(model, PEM)


def test_links_empty_folders_other_keys_and_missing_files_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        ours.verify_folder(model, PEM)
    with pytest.raises(UsageError, match="is no folder"):
        ours.sign_folder(model / "manifest.json", KEY)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="no files to sign"):
        ours.sign_folder(tmp_path / "bare", KEY)
    with pytest.raises(UsageError, match="secp256k1"):
        ours.sign_folder(model, ec.generate_private_key(ec.SECP256K1()))
    ours.sign_folder(model, KEY)
    for key in (b"no key", ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        with pytest.raises(UsageError, match="public key"):
            ours.verify_folder(model, key)
    (model / "link").symlink_to("/etc/hosts")
    for attempt in (lambda: ours.sign_folder(model, KEY), lambda: ours.verify_folder(model, PEM)):
        with pytest.raises(UsageError, match="'link' in 'credit-risk' is a link"):
            attempt()


# -- the workspace's key -----------------------------------------------------------------------------------------------------------------


def test_the_key_is_made_of_the_bits_as_fips_186_5_says_and_stays_in_range() -> None:
    order = ours._P256_ORDER
    for bits, scalar in (
        (bytes(40), 1),
        ((order - 1).to_bytes(40, "big"), 1),
        ((order - 2).to_bytes(40, "big"), order - 1),
        (b"\xff" * 40, (2**320 - 1) % (order - 1) + 1),
    ):
        assert ours.key_from_bits(bits).private_numbers().private_value == scalar
    with pytest.raises(UsageError):
        ours.key_from_bits(bytes(32))


def test_a_workspaces_key_is_always_the_same_and_no_other_workspaces() -> None:
    assert ours.public_key_pem(ours.signing_key(LocalKeyring(b"m" * 32, "a" * 32))) == PEM
    assert ours.public_key_pem(ours.signing_key(LocalKeyring(b"m" * 32, "b" * 32))) != PEM
    assert isinstance(load_pem_public_key(PEM), ec.EllipticCurvePublicKey)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    generator = np.random.default_rng(0)
    with Workspace(tmp_path / "ws", policy={"explain": {"required": False}}) as workspace:
        data = workspace.load({"a": generator.normal(size=60), "y": ["n", "p"] * 30}, target="y")
        workspace.register(workspace.train("tabular.logistic", data), "credit-risk")
        yield workspace


def promote(workspace: Workspace, tmp_path: Path) -> None:
    person = Approver.create("rita", tmp_path / "rita.pem")
    workspace.enrol(person, roles=["risk"])
    workspace.promote("credit-risk:1", "production", approver=person)


def test_a_promoted_model_leaves_its_workspace_signed_and_the_ledger_says_so(workspace: Workspace, tmp_path: Path) -> None:
    promote(workspace, tmp_path)
    folder = tmp_path / "out" / "credit-risk"
    with workspace.deploy("credit-risk@production", target="signed-folder", folder=folder) as endpoint:
        assert endpoint.healthy()
        artifact = read_artifact(workspace.versions.get("credit-risk").artifact, workspace.objects)
        public = (tmp_path / "out" / "credit-risk.pem").read_bytes()
        assert ours.verify_folder(folder, public) == dict(artifact.file_digests) | {"manifest.json": artifact.digest}
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["credit-risk", "credit-risk.pem"]
        assert len(list(workspace.ledger.entries("deploy"))) == 2  # intent and outcome
        with pytest.raises(UsageError, match="is there already"):
            workspace.deploy("credit-risk@production", target="signed-folder", folder=folder)
        if find_spec("model_signing"):
            upstream_verifies(folder, folder.with_name("credit-risk.pem"))
        (folder / "manifest.json").write_text("{}")
        assert not endpoint.healthy()


def test_a_stopped_endpoint_answers_no_more_and_its_folder_stays(workspace: Workspace, tmp_path: Path) -> None:
    promote(workspace, tmp_path)
    with workspace.deploy("credit-risk@production", target="signed-folder", folder=tmp_path / "out") as endpoint:
        rows = workspace.background(workspace.model("credit-risk:1"))
        assert len(endpoint.predict(rows)) == len(rows)
    assert not endpoint.healthy() and (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(UsageError, match="was stopped"):
        endpoint.predict(rows)


def test_a_model_that_nobody_approved_does_not_leave(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Promote it first"):
        workspace.deploy("credit-risk:1", target="signed-folder", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stored_file_that_changed_leaves_no_folder(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(workspace, tmp_path)
    reading = workspace.objects.get

    def damaged(digest: str, *, purpose: str) -> bytes:
        if purpose == "artifact" and (tmp_path / "out").exists():
            raise IntegrityError("changed")
        return reading(digest, purpose=purpose)

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(workspace.objects, "get", damaged)
    artifact = read_artifact(workspace.versions.get("credit-risk").artifact, workspace.objects)
    with pytest.raises(IntegrityError):
        sign_artifact(artifact, workspace.objects, workspace.keyring, tmp_path / "out" / "credit-risk")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_target_takes_a_folder_and_nothing_else(workspace: Workspace, tmp_path: Path) -> None:
    promote(workspace, tmp_path)
    for options in ({}, {"folder": tmp_path / "x", "port": 1}):
        with pytest.raises(UsageError, match="takes one option"):
            workspace.deploy("credit-risk@production", target="signed-folder", **options)
