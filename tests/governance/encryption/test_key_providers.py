"""What every key provider must do, on each of them; and how one is chosen, changed, or brought by a plugin."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from keys_workspace import close, fill, open_workspace, read_all
from tests.governance.encryption.softhsm import PIN, SOFTHSM, token

from affidavit.errors import AffidavitError, IntegrityError, MissingExtra, UsageError
from affidavit.interfaces.keys import KeyOwner
from affidavit.plugins import PluginManager, Registry, RegistryWriter, bundled_registry
from affidavit.store import Store
from affidavit.workspace import Workspace
from affidavit_governance.encryption import open_keyring
from affidavit_governance.encryption.keyfile import FILE
from affidavit_governance.encryption.providers.choosing import make

CONTEXT = {"purpose": "affidavit keyring", "workspace": "a" * 32, "keyring": "b" * 16}
OWNER = KeyOwner("a" * 32, "ws")
SECRET = bytes(range(32))
NAMES = ["passphrase", "environment", "file", "pkcs11", "aws_kms", "vault"]


@pytest.fixture(params=NAMES)
def chosen(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """Name and settings of each provider, with what stands behind it running."""
    return request.param, request.getfixturevalue(f"_{request.param}")


@pytest.fixture
def _passphrase(monkeypatch: pytest.MonkeyPatch, cheap_argon2id: None) -> dict[str, str]:
    monkeypatch.setenv("AFFIDAVIT_PASSPHRASE", "correct horse")
    return {}


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AFFIDAVIT_KEY", base64.b64encode(os.urandom(32)).decode())
    return {}


@pytest.fixture
def _file() -> dict[str, str]:
    return {}


@pytest.fixture
def _token() -> str:
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra 'pkcs11')")
    label = token()
    if label is None:
        pytest.skip("SoftHSM2 is not installed (Debian's softhsm2)")
    return label


@pytest.fixture
def _pkcs11(_token: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, str]:
    assert SOFTHSM is not None
    monkeypatch.setenv("AFFIDAVIT_PKCS11_MODULE", SOFTHSM)
    monkeypatch.setenv("AFFIDAVIT_PKCS11_PIN", PIN)
    return {"token": _token, "key": f"key of {request.node.name}"[:60]}


@pytest.fixture
def _aws_kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra 'aws')")
    moto = pytest.importorskip("moto", reason="moto is not installed (extra 'dev')")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with moto.mock_aws():
        client = boto3.client("kms", region_name="eu-central-1")
        key = client.create_key()["KeyMetadata"]["KeyId"]
        client.create_alias(AliasName="alias/affidavit", TargetKeyId=key)
        yield {"key_id": "alias/affidavit", "region": "eu-central-1"}


@pytest.fixture
def double() -> Iterator[Any]:
    pytest.importorskip("hvac", reason="hvac is not installed (extra 'vault')")
    from vault_double import running

    with running() as server:
        yield server


@pytest.fixture
def _vault(double: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    from vault_double import TOKEN

    monkeypatch.setenv("VAULT_ADDR", double.address)
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    return {"key": "affidavit"}


def provider(name: str, settings: dict[str, Any], owner: KeyOwner = OWNER) -> Any:
    return make(bundled_registry(), name, settings, owner)


# -- the contract -------------------------------------------------------------------------------------------------------------------------


def test_what_is_wrapped_opens_with_the_described_settings_and_the_same_context_alone(chosen: tuple[str, dict[str, str]]) -> None:
    name, settings = chosen
    first = provider(name, settings)
    wrapped = first.wrap(SECRET, CONTEXT)
    described = json.loads(json.dumps(dict(first.describe())))
    again = provider(name, described)
    assert again.unwrap(wrapped, CONTEXT) == SECRET
    assert again.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == SECRET
    for other in ({**CONTEXT, "workspace": "c" * 32}, {**CONTEXT, "extra": ""}, {}):
        with pytest.raises(IntegrityError):
            again.unwrap(wrapped, other)


def test_wrapping_twice_gives_two_texts_neither_of_which_shows_the_secret(chosen: tuple[str, dict[str, str]]) -> None:
    keeper = provider(*chosen)
    one, two = keeper.wrap(SECRET, CONTEXT), keeper.wrap(SECRET, CONTEXT)
    assert one != two
    for shown in (one, two, repr(keeper).encode(), json.dumps(dict(keeper.describe())).encode(), keeper.label.encode()):
        assert not [form for form in (SECRET, SECRET.hex().encode(), base64.b64encode(SECRET), b"correct horse", PIN.encode()) if form in shown]


def test_a_change_of_what_was_wrapped_is_refused(chosen: tuple[str, dict[str, str]]) -> None:
    keeper = provider(*chosen)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    for position in range(0, len(wrapped), max(1, len(wrapped) // 24)):
        changed = bytearray(wrapped)
        changed[position] ^= 0x11
        with pytest.raises(AffidavitError) as caught:
            keeper.unwrap(bytes(changed), CONTEXT)
        assert SECRET.hex() not in str(caught.value)
    for length in (0, 1, 2, 40, len(wrapped) - 1):
        with pytest.raises(AffidavitError):
            keeper.unwrap(wrapped[:length], CONTEXT)


def test_an_unknown_setting_is_refused_by_name(chosen: tuple[str, dict[str, str]]) -> None:
    name, settings = chosen
    with pytest.raises(UsageError, match=f"Key provider '{name}' has no setting 'colour'"):
        provider(name, {**settings, "colour": "blue"})


@pytest.mark.parametrize(("name", "missing"), [("pkcs11", "token"), ("aws_kms", "key_id"), ("vault", "key")])
def test_a_missing_setting_is_named(name: str, missing: str) -> None:
    try:
        with pytest.raises(UsageError, match=f"needs the setting '{missing}'"):
            provider(name, {})
    except MissingExtra as error:
        pytest.skip(str(error))


# -- a workspace under each ---------------------------------------------------------------------------------------------------------------


def test_a_workspace_made_under_a_provider_is_sealed_rotated_and_opened_by_it(
    chosen: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, settings = chosen
    text = " ".join([name, *(f"'{key}={value}'" for key, value in settings.items())])
    monkeypatch.setenv("AFFIDAVIT_KEY_PROVIDER", text)
    workspace = open_workspace(str(tmp_path / "ws"))
    fill(workspace, 2)
    identity = workspace.keyring.verifier_key
    assert json.loads(workspace.store.files.read(FILE))["provider"]["type"] == name
    workspace.keys.rotate()
    close(workspace)
    monkeypatch.delenv("AFFIDAVIT_KEY_PROVIDER")  # the workspace remembers
    workspace = open_workspace(str(tmp_path / "ws"))
    assert workspace.keyring.verifier_key == identity
    assert workspace.keys.status()["provider"]["type"] == name
    read_all(workspace, 2)
    close(workspace)


def test_a_change_of_provider_changes_keyring_json_alone(chosen: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, settings = chosen
    held = {key: os.environ[key] for key in ("AFFIDAVIT_KEY", "AFFIDAVIT_PASSPHRASE") if key in os.environ}
    for key in held:
        monkeypatch.delenv(key)
    workspace = open_workspace(str(tmp_path / "ws"))  # under the key file
    for key, value in held.items():
        monkeypatch.setenv(key, value)
    fill(workspace, 2)
    files = {each: workspace.store.files.read(each) for each in workspace.store.files.list() if each.startswith(("objects", "journal"))}
    key_file = workspace.keyring.file.provider
    identity = workspace.keyring.verifier_key
    workspace.keys.provide(name, settings)
    assert {each: workspace.store.files.read(each) for each in files} == files
    close(workspace)
    if name != "file":
        key_file.path.unlink()
    workspace = open_workspace(str(tmp_path / "ws"))
    assert workspace.keyring.verifier_key == identity
    read_all(workspace, 2)
    assert [evidence.predicate["provider"] for evidence in workspace.ledger.entries("key")] == [name]
    close(workspace)


# -- choosing -----------------------------------------------------------------------------------------------------------------------------


def test_a_provider_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY_PROVIDER", "abacus beads=7")
    with Store.open(tmp_path / "ws") as store:
        with pytest.raises(AffidavitError, match="key provider 'abacus', and none of that name is installed and allowed") as caught:
            open_keyring(store)
        assert "plugins.allow" in str(caught.value)
        assert not store.files.exists(FILE)


@pytest.mark.parametrize("text", ["aws_kms 'key_id=open", "aws_kms key_id", "aws_kms =x", "aws_kms key_id="])
def test_a_provider_text_that_cannot_be_read_is_refused_without_quoting_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY_PROVIDER", text)
    with Store.open(tmp_path / "ws") as store, pytest.raises(UsageError) as caught:
        open_keyring(store)
    assert "open" not in str(caught.value)


def test_a_named_provider_beside_a_passphrase_or_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY_PROVIDER", "file")
    with Store.open(tmp_path / "ws") as store:
        with pytest.raises(UsageError, match="exactly one"):
            open_keyring(store, passphrase="x")
        monkeypatch.setenv("AFFIDAVIT_KEY", "x")
        with pytest.raises(UsageError, match="exactly one"):
            open_keyring(store)


class Cupboard:
    """A key provider of somebody else's plugin."""

    secrets: dict[bytes, tuple[bytes, dict[str, str]]] = {}  # noqa: RUF012  # one cupboard for all

    def __init__(self, settings: dict[str, Any], owner: KeyOwner) -> None:
        self.shelf = settings["shelf"]

    @property
    def label(self) -> str:
        return f"Shelf {self.shelf}"

    def describe(self) -> dict[str, Any]:
        return {"shelf": self.shelf}

    def wrap(self, secret: bytes, context: dict[str, str]) -> bytes:
        ticket = os.urandom(8)
        self.secrets[ticket] = (secret, dict(context))
        return ticket

    def unwrap(self, wrapped: bytes, context: dict[str, str]) -> bytes:
        secret, bound = self.secrets.get(wrapped, (b"", {}))
        if bound != context:
            raise IntegrityError("That ticket is for another shelf.")
        return secret


def registry_with(name: str, path: str) -> Registry:
    manager = PluginManager()
    manager.load_plugins()
    writer = RegistryWriter(manager.registry, "theirs")
    writer.add("key_provider", name, path)
    manager.registry._entries[("key_provider", name)] = writer.added[0]
    manager.registry._loaded[("key_provider", name)] = Cupboard
    return manager.registry


def test_a_third_party_provider_works_like_a_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_with("cupboard", "their_plugin:Cupboard")
    monkeypatch.setenv("AFFIDAVIT_KEY_PROVIDER", "cupboard shelf=top")
    workspace = open_workspace(str(tmp_path / "ws"), registry=registry)
    fill(workspace, 2)
    workspace.keys.rotate()
    workspace.keys.rewrap()
    close(workspace)
    workspace = open_workspace(str(tmp_path / "ws"), registry=registry)
    read_all(workspace, 2)
    assert workspace.keys.status()["provider"] == {"type": "cupboard", "shelf": "top"}
    close(workspace)
    with Store.open(tmp_path / "ws") as store, pytest.raises(AffidavitError, match="'cupboard', and none of that name"):
        open_keyring(store)  # where the plugin is not allowed


@pytest.mark.parametrize(("name", "library", "extra"), [("pkcs11", "pkcs11", "pkcs11"), ("aws_kms", "boto3", "aws"), ("vault", "hvac", "vault")])
def test_an_absent_library_names_the_extra(name: str, library: str, extra: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None\nfrom affidavit.plugins import bundled_registry\nbundled_registry().get('key_provider', {name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"affidavit[{extra}]" in done.stderr.splitlines()[-1]


def test_opening_a_workspace_imports_no_cloud_library(tmp_path: Path) -> None:
    code = (
        "import sys; from affidavit.store import Store; from affidavit_governance.encryption import open_keyring\n"
        f"open_keyring(Store.open({str(tmp_path / 'ws')!r}))\n"
        "assert not {'boto3', 'botocore', 'hvac', 'pkcs11'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- PKCS#11 ------------------------------------------------------------------------------------------------------------------------------


def test_the_token_s_key_is_made_there_and_cannot_leave(_pkcs11: dict[str, str]) -> None:
    import pkcs11

    provider("pkcs11", _pkcs11).wrap(SECRET, CONTEXT)
    with pkcs11.lib(SOFTHSM).get_token(token_label=_pkcs11["token"]).open(user_pin=PIN) as session:
        key = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=_pkcs11["key"])
        assert not key[pkcs11.Attribute.EXTRACTABLE]
        assert key[pkcs11.Attribute.SENSITIVE]
        with pytest.raises(pkcs11.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


def test_of_two_processes_that_make_the_token_s_key_at_once_one_takes_its_own_back(_pkcs11: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped = provider("pkcs11", _pkcs11).wrap(SECRET, CONTEXT)
    late = provider("pkcs11", _pkcs11)
    found = late._found
    looks = iter([True, False])
    monkeypatch.setattr(type(late), "_found", lambda self, session: [] if next(looks) else found(session))  # it looked before the key was there
    with pytest.raises(AffidavitError, match="made by another process at the same time"):
        late.wrap(SECRET, CONTEXT)
    monkeypatch.undo()
    monkeypatch.setenv("AFFIDAVIT_PKCS11_MODULE", str(SOFTHSM))
    monkeypatch.setenv("AFFIDAVIT_PKCS11_PIN", PIN)
    assert provider("pkcs11", _pkcs11).unwrap(wrapped, CONTEXT) == SECRET


def test_a_token_without_gcm_wraps_by_aes_key_wrap_and_still_binds_the_context(_pkcs11: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = provider("pkcs11", _pkcs11)
    monkeypatch.setattr(type(keeper), "_offers", lambda *_: False)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    assert wrapped[2] == 2
    assert int.from_bytes(wrapped[:2], "big") == 1 + 40
    assert keeper.unwrap(wrapped, CONTEXT) == SECRET
    with pytest.raises(IntegrityError):
        keeper.unwrap(wrapped, {**CONTEXT, "workspace": "c" * 32})
    changed = bytearray(wrapped)
    changed[20] ^= 1
    with pytest.raises(IntegrityError):
        keeper.unwrap(bytes(changed), CONTEXT)


def test_what_keeps_a_token_from_being_used_is_said_without_the_pin(_pkcs11: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = provider("pkcs11", _pkcs11)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    with pytest.raises(AffidavitError, match="the token has 0 AES keys of that label"):
        provider("pkcs11", {**_pkcs11, "key": "none"}).unwrap(wrapped, CONTEXT)
    with pytest.raises(AffidavitError, match="there is no such token"):
        provider("pkcs11", {**_pkcs11, "token": "none"}).unwrap(wrapped, CONTEXT)
    monkeypatch.setenv("AFFIDAVIT_PKCS11_PIN", "99999999")
    with pytest.raises(AffidavitError, match="the PIN is wrong") as caught:
        keeper.unwrap(wrapped, CONTEXT)
    assert "99999999" not in str(caught.value)
    monkeypatch.delenv("AFFIDAVIT_PKCS11_PIN")
    with pytest.raises(AffidavitError, match="AFFIDAVIT_PKCS11_PIN is not set"):
        keeper.unwrap(wrapped, CONTEXT)
    monkeypatch.setenv("AFFIDAVIT_PKCS11_PIN", PIN)
    monkeypatch.setenv("AFFIDAVIT_PKCS11_MODULE", "/nowhere/lib.so")
    with pytest.raises(AffidavitError, match=r"the library '/nowhere/lib\.so' failed"):
        keeper.unwrap(wrapped, CONTEXT)


def test_the_library_to_load_is_never_taken_from_the_workspace() -> None:
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra 'pkcs11')")
    with pytest.raises(UsageError, match="no setting 'module'"):
        provider("pkcs11", {"token": "t", "module": "/tmp/evil.so"})


# -- AWS KMS ------------------------------------------------------------------------------------------------------------------------------


def test_kms_is_asked_with_the_workspace_s_context_and_remembers_the_arn(_aws_kms: dict[str, str]) -> None:
    keeper = provider("aws_kms", _aws_kms)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    described = keeper.describe()
    assert described["key_id"].startswith("arn:aws:kms:eu-central-1:")
    assert described["region"] == "eu-central-1"
    import boto3

    blob = wrapped[2 : 2 + int.from_bytes(wrapped[:2], "big")]
    client = boto3.client("kms", region_name="eu-central-1")
    assert len(client.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]) == 32
    with pytest.raises(client.exceptions.InvalidCiphertextException):
        client.decrypt(CiphertextBlob=blob)


def test_a_kms_key_or_region_that_is_not_there_is_said_to_be(_aws_kms: dict[str, str]) -> None:
    with pytest.raises(AffidavitError, match="there is no such key in this account and region") as caught:
        provider("aws_kms", {**_aws_kms, "key_id": "alias/other"}).wrap(SECRET, CONTEXT)
    assert "testing" not in str(caught.value)
    with pytest.raises(AffidavitError, match="cannot be reached"):
        provider("aws_kms", {"key_id": "alias/affidavit", "region": "no where"}).wrap(SECRET, CONTEXT)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("AccessDeniedException", "these credentials may not use it"),
        ("DisabledException", "it is disabled"),
        ("KMSInvalidStateException", "it is disabled or about to be deleted"),
        ("ThrottlingException", "KMS answers ThrottlingException"),
        ("IncorrectKeyException", "wrapped by another key or for another context"),
    ],
)
def test_what_kms_answers_is_said_by_its_code_alone(_aws_kms: dict[str, str], monkeypatch: pytest.MonkeyPatch, code: str, why: str) -> None:
    """moto refuses less than KMS does, so the answers are given here."""
    from botocore.exceptions import ClientError

    from affidavit_governance.encryption.providers import aws_kms

    keeper = provider("aws_kms", _aws_kms)
    wrapped = keeper.wrap(SECRET, CONTEXT)

    class Client:
        def decrypt(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": code, "Message": "quotes something secret"}}, "Decrypt")

    monkeypatch.setattr(aws_kms.boto3, "client", lambda *_, **__: Client())
    with pytest.raises(AffidavitError, match=why) as caught:
        keeper.unwrap(wrapped, CONTEXT)
    assert "secret" not in str(caught.value)


def test_a_kms_endpoint_that_nobody_answers_at_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed (extra 'aws')")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
    keeper = provider("aws_kms", {"key_id": "alias/affidavit", "region": "eu-central-1"})
    with pytest.raises(AffidavitError, match=r"AWS KMS key 'alias/affidavit' cannot be reached \(EndpointConnectionError\)"):
        keeper.wrap(SECRET, CONTEXT)


# -- Vault --------------------------------------------------------------------------------------------------------------------------------


def test_vault_is_asked_as_its_api_is_documented(_vault: dict[str, str], double: Any) -> None:
    keeper = provider("vault", _vault)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    keeper.unwrap(wrapped, CONTEXT)
    (encrypt, asked), (decrypt, answered) = double.requests
    assert (encrypt, decrypt) == ("/v1/transit/encrypt/affidavit", "/v1/transit/decrypt/affidavit")
    assert set(asked) == {"plaintext", "associated_data"}
    assert set(answered) == {"ciphertext", "associated_data"}
    assert json.loads(base64.b64decode(asked["associated_data"])) == CONTEXT
    assert base64.b64decode(asked["plaintext"]) != SECRET  # the secret itself never leaves
    assert answered["ciphertext"].startswith("vault:v1:")


def test_vault_may_rotate_its_own_key_and_what_was_wrapped_still_opens(_vault: dict[str, str], double: Any) -> None:
    keeper = provider("vault", _vault)
    before = keeper.wrap(SECRET, CONTEXT)
    double.keys["affidavit"].append(os.urandom(32))
    after = keeper.wrap(SECRET, CONTEXT)
    assert b"vault:v2:" in after
    assert keeper.unwrap(before, CONTEXT) == keeper.unwrap(after, CONTEXT) == SECRET


def test_what_vault_rewraps_opens(_vault: dict[str, str], double: Any) -> None:
    """Vault's operators may rewrap for themselves; the context is the one that was sent."""
    import hvac

    keeper = provider("vault", _vault)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    end = 2 + int.from_bytes(wrapped[:2], "big")
    double.keys["affidavit"].append(os.urandom(32))
    body = {"ciphertext": wrapped[2:end].decode(), "associated_data": double.requests[-1][1]["associated_data"]}
    text = hvac.Client(url=double.address).adapter.post("/v1/transit/rewrap/affidavit", json=body)["data"]["ciphertext"]
    assert text.startswith("vault:v2:")
    rewrapped = len(text).to_bytes(2, "big") + text.encode() + wrapped[end:]
    assert keeper.unwrap(rewrapped, CONTEXT) == SECRET


def test_what_keeps_vault_from_being_used_is_said_without_the_token(_vault: dict[str, str], double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = provider("vault", _vault)
    wrapped = keeper.wrap(SECRET, CONTEXT)
    with pytest.raises(AffidavitError, match=r"Vault refuses the request \(400\)"):
        provider("vault", {"key": "other"}).wrap(SECRET, CONTEXT)
    with pytest.raises(AffidavitError, match="there is no transit engine at 'elsewhere'"):
        provider("vault", {"key": "affidavit", "mount": "elsewhere"}).wrap(SECRET, CONTEXT)
    double.sealed = True
    with pytest.raises(AffidavitError, match="Vault is sealed or in maintenance"):
        keeper.unwrap(wrapped, CONTEXT)
    double.sealed = False
    monkeypatch.setenv("VAULT_TOKEN", "hvs.wrong")
    with pytest.raises(AffidavitError, match="this token may not use it") as caught:
        keeper.unwrap(wrapped, CONTEXT)
    assert "hvs." not in str(caught.value)
    monkeypatch.setenv("VAULT_ADDR", "http://somebody:password@127.0.0.1:1")
    with pytest.raises(AffidavitError, match=r"cannot be reached at 127\.0\.0\.1:1"):
        keeper.unwrap(wrapped, CONTEXT)
    monkeypatch.delenv("VAULT_ADDR")
    with pytest.raises(AffidavitError, match="VAULT_ADDR is not set"):
        keeper.unwrap(wrapped, CONTEXT)


def test_a_token_is_never_sent_to_an_address_from_the_workspace() -> None:
    pytest.importorskip("hvac", reason="hvac is not installed (extra 'vault')")
    with pytest.raises(UsageError, match="no setting 'address'"):
        provider("vault", {"key": "affidavit", "address": "https://evil.example"})


@pytest.mark.parametrize(
    "settings",
    [
        {"key": "../../sys/seal"},
        {"key": "k", "mount": "../sys"},
        {"key": "k/.."},
        {"key": "k?x"},
        {"key": "k%2f.."},
        {"key": "k", "namespace": "a\nb"},
        {"key": 5},
    ],
)
def test_a_token_is_never_sent_to_another_path_of_the_api(settings: dict[str, Any], _vault: dict[str, str], double: Any) -> None:
    with pytest.raises(UsageError, match="what no name in Vault does"):
        provider("vault", settings).wrap(SECRET, CONTEXT)
    assert double.requests == []


def test_nothing_is_sent_to_a_kms_endpoint_from_the_workspace() -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed (extra 'aws')")
    with pytest.raises(UsageError, match="no setting 'endpoint'"):
        provider("aws_kms", {"key_id": "alias/affidavit", "endpoint": "https://evil.example"})


# -- changing a passphrase or environment key ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cheap_argon2id")
def test_a_passphrase_can_be_changed_and_the_old_one_no_longer_opens(tmp_path: Path) -> None:
    workspace = open_workspace(str(tmp_path / "ws"), passphrase="first")
    fill(workspace, 1)
    workspace.keys.provide("passphrase", {}, passphrase="second")
    workspace.keys.rotate()  # with the new one in use
    close(workspace)
    with pytest.raises(AffidavitError, match="The passphrase does not open"):
        open_workspace(str(tmp_path / "ws"), passphrase="first")
    workspace = open_workspace(str(tmp_path / "ws"), passphrase="second")
    read_all(workspace, 1)
    close(workspace)


def test_an_environment_key_can_be_changed_by_way_of_another_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFIDAVIT_KEY", base64.b64encode(os.urandom(32)).decode())
    workspace = open_workspace(str(tmp_path / "ws"))
    monkeypatch.setenv("NEXT_KEY", base64.b64encode(os.urandom(32)).decode())
    workspace.keys.provide("environment", {"variable": "NEXT_KEY"})
    close(workspace)
    monkeypatch.delenv("AFFIDAVIT_KEY")
    close(open_workspace(str(tmp_path / "ws")))


# -- a key that the application gives -----------------------------------------------------------------------------------------------------


def test_a_given_key_opens_the_workspace_and_so_does_the_environment_with_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = os.urandom(32)
    workspace = open_workspace(str(tmp_path / "ws"), key=key)
    fill(workspace, 1)
    workspace.keys.rotate()
    close(workspace)
    assert not any(form in workspace.store.files.read(FILE) for form in (key, key.hex().encode(), base64.b64encode(key)))
    assert key.hex() not in repr(KeyOwner("a" * 32, "ws", key=key)) and repr(key) not in repr(KeyOwner("a" * 32, "ws", key=key))
    with Workspace(tmp_path / "ws", key=key):
        pass
    monkeypatch.setenv("AFFIDAVIT_KEY", base64.b64encode(key).decode())
    workspace = open_workspace(str(tmp_path / "ws"))
    read_all(workspace, 1)
    close(workspace)


def test_without_the_given_key_or_with_another_nothing_opens_and_nothing_changes(tmp_path: Path) -> None:
    key = os.urandom(32)
    workspace = open_workspace(str(tmp_path / "ws"), key=key)
    close(workspace)
    before = workspace.store.files.read(FILE)
    with pytest.raises(AffidavitError, match=r"AFFIDAVIT_KEY, which is not set") as refused:
        open_workspace(str(tmp_path / "ws"))
    assert refused.value.hint == "Set it, or give key=."
    with pytest.raises(AffidavitError, match="The key that is given does not open"):
        open_workspace(str(tmp_path / "ws"), key=os.urandom(32))
    assert workspace.store.files.read(FILE) == before
    close(open_workspace(str(tmp_path / "ws"), key=key))


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(33), "k" * 32])
def test_a_given_key_of_another_length_or_type_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(UsageError, match="not 32 bytes"):
        open_workspace(str(tmp_path / "ws"), key=wrong)
    close(open_workspace(str(tmp_path / "ws")))  # nothing was made that would be in the way


def test_a_key_beside_another_choice_or_for_a_workspace_that_takes_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Both a passphrase and a key"):
        open_workspace(str(tmp_path / "ws"), key=os.urandom(32), passphrase="correct horse")
    close(open_workspace(str(tmp_path / "ws")))
    with pytest.raises(UsageError, match="not sealed by a key that is given"):
        open_workspace(str(tmp_path / "ws"), key=os.urandom(32))
    monkeypatch.setenv("AFFIDAVIT_KEY_PROVIDER", "file")
    with pytest.raises(UsageError, match="Both AFFIDAVIT_KEY_PROVIDER and a key"):
        open_workspace(str(tmp_path / "other"), key=os.urandom(32))


def test_a_given_key_is_changed_for_another(tmp_path: Path) -> None:
    first, second = os.urandom(32), os.urandom(32)
    workspace = open_workspace(str(tmp_path / "ws"), key=first)
    fill(workspace, 1)
    workspace.keys.provide("environment", {}, key=second)
    workspace.keys.rotate()  # with the new one in use
    close(workspace)
    with pytest.raises(AffidavitError, match="does not open"):
        open_workspace(str(tmp_path / "ws"), key=first)
    workspace = open_workspace(str(tmp_path / "ws"), key=second)
    read_all(workspace, 1)
    close(workspace)


def test_a_workspace_moved_from_a_passphrase_opens_in_processes_that_still_have_it_open(tmp_path: Path, cheap_argon2id: None) -> None:
    one = open_workspace(str(tmp_path / "ws"), passphrase="first")
    two = open_workspace(str(tmp_path / "ws"), passphrase="first")
    one.keys.provide("file", {})
    version = one.keys.rotate()
    sealed = one.keyring.seal(b"x", purpose="p", name="n")
    assert two.keyring.open(sealed, purpose="p", name="n") == b"x"
    assert two.keyring.secrets.active.key_id == version.key_id
    close(one)
    close(two)
