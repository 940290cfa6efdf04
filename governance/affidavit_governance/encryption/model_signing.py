"""Signed model folders in the format of OpenSSF Model Signing v1.0, which the upstream tool ``model_signing`` verifies.

The signature is a Sigstore bundle (JSON) around a DSSE envelope around an in-toto statement: the predicate
``https://model_signing/signature/v1.0`` lists the SHA-256 of every file, and the subject's digest is the SHA-256 of those digests in the
order of the files' paths. It is signed by ECDSA on P-256, P-384 or P-521. Files of Git and the signature itself are left out, as upstream.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.governance import Keyring
from affidavit.store import write_atomic
from affidavit_governance.audit.dsse import PAYLOAD_TYPE, STATEMENT_TYPE, pae

SIGNATURE = "model.sig"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
GIT = (".git", ".gitattributes", ".github", ".gitignore")

_HASHES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
# FIPS 186-5 sets this order n of P-256 in SP 800-186, section 3.2.1.3.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def signing_key(keyring: Keyring) -> ec.EllipticCurvePrivateKey:
    """The P-256 key that a workspace signs models with, the same each time: the upstream tool takes no Ed25519 key.

    320 bits of the keyring's derivation make it, by FIPS 186-5, appendix A.2.1 (extra random bits): d = (c mod (n − 1)) + 1.
    """
    return key_from_bits(keyring.derive("model signing p-256", 40))


def key_from_bits(bits: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of 40 uniformly random bytes, by FIPS 186-5, appendix A.2.1."""
    if len(bits) != 40:
        raise UsageError("A P-256 key is made of 40 bytes.")
    return ec.derive_private_key(int.from_bytes(bits, "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def public_key_pem(key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
    """The public key as PEM (SubjectPublicKeyInfo): what ``model_signing verify key --public_key`` takes."""
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def workspace_public_key(keyring: Keyring) -> bytes:
    """The PEM that verifies what a workspace signs."""
    return public_key_pem(signing_key(keyring))


def sign_folder(folder: Path, key: ec.EllipticCurvePrivateKey, *, signature: Path | None = None, name: str | None = None) -> Path:
    """Sign every file below `folder`; gives the signature's path, by default ``model.sig`` in it.

    Parameters
    ----------
    name
        What the statement calls the model; default: the folder's name. It is for people only.

    Raises
    ------
    UsageError
        It is no folder, it is empty, or a link or special file is in it, or a curve that upstream does not take.
    AffidavitError
        The signature cannot be written; an earlier one stands.
    """
    if key.curve.name not in _HASHES:
        raise UsageError(f"Models are not signed on the curve {key.curve.name}.", hint=f"Use one of {', '.join(_HASHES)}.")
    signature = signature or folder / SIGNATURE
    ignored = [*GIT, *_inside(signature, folder)]
    digests = dict(_digests(folder, ignored))
    if not digests:
        raise UsageError(f"'{folder}' has no files to sign.")
    payload = json.dumps(_statement(name or folder.resolve().name, digests, ignored), indent=1).encode()
    signed = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(_HASHES[key.curve.name]))
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": _hint(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
        },
    }
    write_atomic(signature, json.dumps(bundle).encode())
    return signature


def verify_folder(folder: Path, public_key: bytes, *, signature: Path | None = None) -> dict[str, str]:
    """Check the signature of a model folder, whoever made it: Affidavit or the upstream tool with a key.

    Parameters
    ----------
    public_key
        PEM of the signer's key; get it from the signer, never from beside the model.

    Returns
    -------
    dict
        Hex SHA-256 of each file, by its path.

    Raises
    ------
    IntegrityError
        Another key, or a changed, missing or added file; names it.
    InvalidInput
        No signature of this format, or one with settings that this reader lacks (shards, other hashes); the upstream tool may read it.
    UsageError
        The folder, signature or key cannot be read, or a link or special file is in the folder.
    """
    signature = signature or folder / SIGNATURE
    statement = _signed_statement(signature, _load_key(public_key))
    signed, ignored = _listed(statement, signature.name)
    found = dict(_digests(folder, [*GIT, *_inside(signature, folder), *ignored]))
    for what, names in (
        ("files that were not signed", found.keys() - signed.keys()),
        ("no longer files that were signed", signed.keys() - found.keys()),
        ("changed files", {name for name in found.keys() & signed.keys() if found[name] != signed[name]}),
    ):
        if names:
            shown = ", ".join(f"'{name}'" for name in sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise IntegrityError(f"The model '{folder.name}' is not what was signed: it has {what}: {shown}.")
    return signed


# -- the folder --------------------------------------------------------------------------------------------------------------------------


def _digests(folder: Path, ignored: list[str]) -> Iterator[tuple[str, str]]:
    """Path and hex SHA-256 of each file below `folder` but the ignored ones, in the order of their paths."""
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is no folder.", hint="Name the folder that holds the model's files.")
    left_out = [PurePosixPath(path) for path in ignored]
    for path in sorted(PurePosixPath(found.relative_to(folder).as_posix()) for found in folder.rglob("*")):
        full = folder / path
        if full.is_symlink() or not (full.is_file() or full.is_dir()):
            raise UsageError(
                f"'{path}' in '{folder.name}' is a link or a special file, which a signature cannot cover.", hint="Put the file itself there."
            )
        if full.is_dir() or any(path.is_relative_to(each) for each in left_out):
            continue
        try:
            with full.open("rb") as file:
                yield str(path), hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"'{path}' in '{folder.name}' cannot be read: {error.strerror}.") from None


def _inside(signature: Path, folder: Path) -> list[str]:
    signature, folder = signature.resolve(), folder.resolve()
    return [signature.relative_to(folder).as_posix()] if signature.is_relative_to(folder) else []


# -- the statement -----------------------------------------------------------------------------------------------------------------------


def _root(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests.values())).hexdigest()


def _statement(name: str, digests: Mapping[str, str], ignored: list[str]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(digests)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": ignored},
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in digests.items()],
        },
    }


def _signed_statement(signature: Path, key: ec.EllipticCurvePublicKey) -> Any:
    """The statement in a signature file, after its signature was checked."""
    try:
        bundle = json.loads(signature.read_bytes())
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        (only,) = envelope["signatures"]
        signed = base64.b64decode(only["sig"], validate=True)
        hint = bundle["verificationMaterial"]["publicKey"].get("hint")
        kinds = (bundle["mediaType"], envelope["payloadType"])
    except OSError as error:
        raise UsageError(f"The signature '{signature}' cannot be read: {error.strerror}.", hint="Check the path.") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, binascii.Error):
        raise InvalidInput(f"'{signature.name}' is no signature of a model by a key: it is damaged or of another format.") from None
    if kinds != (BUNDLE_TYPE, PAYLOAD_TYPE):
        raise InvalidInput(f"'{signature.name}' is a bundle of another format than OpenSSF Model Signing v1.0 writes.")
    if hint and hint != _hint(key):
        raise IntegrityError(f"'{signature.name}' was made with another key than the one given.", hint="Get the signer's public key.")
    try:
        key.verify(signed, pae(PAYLOAD_TYPE, payload), ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        raise IntegrityError(f"'{signature.name}' does not verify: it was changed, or made with another key.") from None
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise InvalidInput(f"'{signature.name}' signs no statement.") from None


def _listed(statement: Any, name: str) -> tuple[dict[str, str], list[str]]:
    """The files that a signed statement lists, and the paths that it leaves out."""
    try:
        predicate = statement["predicate"]
        settings = predicate["serialization"]
        kind = (statement["_type"], statement["predicateType"])
        (subject,) = statement["subject"]
        how = (settings["method"], settings["hash_type"], {each["algorithm"] for each in predicate["resources"]} - {"sha256"})
        listed = {str(each["name"]): str(each["digest"]) for each in predicate["resources"]}
        consistent = len(listed) == len(predicate["resources"]) and _root(listed) == subject["digest"]["sha256"]
        ignored = [str(path) for path in settings.get("ignore_paths", ())]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput(f"'{name}' signs no statement about a model.") from None
    if kind != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidInput(f"'{name}' signs another kind of statement than OpenSSF Model Signing v1.0.")
    if how != ("files", "sha256", set()):
        raise InvalidInput(
            f"'{name}' lists shards or other hashes than SHA-256, which this reader lacks.", hint="Use the upstream model_signing tool."
        )
    if not consistent:
        raise IntegrityError(f"'{name}' is inconsistent: its digest is not that of the files it lists.")
    return listed, ignored


def _load_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError("The public key is no PEM of a public key.", hint="Pass the text between BEGIN and END PUBLIC KEY.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise UsageError("The public key is none that models are signed with.", hint=f"It is an elliptic curve key on {', '.join(_HASHES)}.")
    return key


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(public_key_pem(key)).hexdigest()
