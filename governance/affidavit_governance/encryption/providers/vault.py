"""A key in the transit engine of HashiCorp Vault.

The address and the token come from ``VAULT_ADDR`` and ``VAULT_TOKEN`` (or Vault's own token file), never from the workspace: who can write
there could else have the token sent to a server of theirs.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any

import hvac
import requests
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, Unauthorized, VaultDown, VaultError

from affidavit.errors import AffidavitError, UsageError
from affidavit.interfaces.keys import KeyOwner
from affidavit_governance.encryption.providers.base import RemoteProvider

ADDRESS = "VAULT_ADDR"
TIMEOUT_SECONDS = 10
# Names become part of the address that the token is sent to: of "../../sys/seal" the client would make a request to seal Vault.
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


class VaultProvider(RemoteProvider):
    """The transit key named ``key``, of an AEAD type such as ``aes256-gcm96``; ``mount`` is the engine's path, ``namespace`` as in Vault.

    The context of the workspace is sent as ``associated_data``.
    """

    name = "vault"
    required = ("key",)
    optional = ("mount", "namespace")

    def __init__(self, settings: Mapping[str, Any], owner: KeyOwner) -> None:
        super().__init__(settings, owner)
        for name, value in self.settings.items():
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise UsageError(f"Key provider 'vault', setting '{name}': it holds what no name in Vault does.")

    @property
    def label(self) -> str:
        return f"Vault transit key '{self._mount}/{self.settings['key']}'"

    @property
    def _mount(self) -> str:
        return str(self.settings.get("mount", "transit"))

    def encrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt 32 bytes in Vault, under the key's latest version; gives Vault's own text, ``vault:v1:…``."""
        answer = self._call("encrypt_data", plaintext=base64.b64encode(data).decode(), associated_data=self._associated_text(context))
        return str(answer["ciphertext"]).encode()

    def decrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt in Vault what `encrypt` made."""
        text = data.decode("ascii", "replace")
        answer = self._call("decrypt_data", ciphertext=text, associated_data=self._associated_text(context))
        try:
            return base64.b64decode(answer["plaintext"], validate=True)
        except ValueError:
            raise self.changed() from None

    def _associated_text(self, context: Mapping[str, str]) -> str:
        return base64.b64encode(self.associated(context)).decode()

    def _call(self, operation: str, **arguments: Any) -> Any:
        address = os.environ.get(ADDRESS)
        if not address:
            raise AffidavitError(f"{self.label} cannot be used: {ADDRESS} is not set.", hint=f"Set {ADDRESS} and VAULT_TOKEN.")
        try:
            client = hvac.Client(url=address, timeout=TIMEOUT_SECONDS, namespace=self.settings.get("namespace"))
            answer = getattr(client.secrets.transit, operation)(name=self.settings["key"], mount_point=self._mount, **arguments)
            return answer["data"]
        except InvalidRequest:
            # Vault answers 400 for changed data as well as for a key that does not exist or fit; its text is left out, as it could quote either.
            if operation == "decrypt_data":
                raise self.changed() from None
            raise AffidavitError(f"{self.label} cannot be used: Vault refuses the request (400).", hint="Is it there, and of an AEAD type?") from None
        except (Forbidden, Unauthorized):
            raise AffidavitError(f"{self.label} cannot be used: this token may not use it.", hint="Check VAULT_TOKEN and its policies.") from None
        except InvalidPath:
            raise AffidavitError(f"{self.label} cannot be used: there is no transit engine at '{self._mount}'.") from None
        except VaultDown:
            raise AffidavitError(f"{self.label} cannot be used: Vault is sealed or in maintenance.") from None
        except (VaultError, requests.RequestException, KeyError, TypeError) as error:
            where = address.rpartition("@")[2]  # without a password
            raise AffidavitError(f"{self.label} cannot be reached at {where} ({type(error).__name__}).") from None
