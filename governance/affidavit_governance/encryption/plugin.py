"""Registers the keyring, what looks after its keys, and the bundled key providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

_HERE = "affidavit_governance.encryption"

PROVIDERS = {
    "passphrase": ("passphrase:PassphraseProvider", None),
    "environment": ("environment:EnvironmentProvider", None),
    "file": ("file:FileProvider", None),
    "pkcs11": ("pkcs11:Pkcs11Provider", "pkcs11"),
    "aws_kms": ("aws_kms:AwsKmsProvider", "aws"),
    "vault": ("vault:VaultProvider", "vault"),
}
"""Where each key provider is, and the extra that installs what it needs."""

SERVICES = {
    "seal_file": "files:seal_file",
    "unseal_file": "files:unseal_file",
    "verify_model": "model_signing:verify_folder",
    "model_key": "model_signing:workspace_public_key",
}
"""Sealed files and signed models, by the service's name."""


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the services ``keyring`` and ``keys``, those of files and models, and the key providers."""
    registry.add("service", "keyring", f"{_HERE}.keyring:open_keyring")
    registry.add("service", "keys", f"{_HERE}.rotation:Keys")
    for name, path in SERVICES.items():
        registry.add("service", name, f"{_HERE}.{path}")
    registry.add("target", "signed-folder", f"{_HERE}.export:SignedFolder")
    for name, (path, extra) in PROVIDERS.items():
        registry.add("key_provider", name, f"{_HERE}.providers.{path}", extra=extra)
