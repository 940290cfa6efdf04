"""A key in AWS KMS.

Credentials come from where boto3 finds them, never from the workspace, and so does another endpoint (``AWS_ENDPOINT_URL_KMS``): who can write
in the workspace could else have session tokens sent to a server of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from affidavit.errors import AffidavitError
from affidavit_governance.encryption.providers.base import RemoteProvider

# Retries are botocore's own ("standard" mode); an operation ends within about half a minute where nobody answers.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
_DOES_NOT_OPEN = {"InvalidCiphertextException", "IncorrectKeyException"}
_REASONS = {
    "AccessDeniedException": "these credentials may not use it",
    "DisabledException": "it is disabled",
    "KMSInvalidStateException": "it is disabled or about to be deleted",
    "KeyUnavailableException": "it is not available now",
    "NotFoundException": "there is no such key in this account and region",
}


class AwsKmsProvider(RemoteProvider):
    """A symmetric KMS key: ``key_id`` is its id, alias or ARN; ``region`` as boto3 takes it.

    The context of the workspace is KMS's encryption context, which is authenticated and stands in CloudTrail.
    """

    name = "aws_kms"
    required = ("key_id",)
    optional = ("region",)

    @property
    def label(self) -> str:
        return f"AWS KMS key '{self.settings['key_id']}'"

    def encrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt 32 bytes in KMS; from then on the key goes by its ARN, so that an alias that moves does not matter."""
        answer = self._call("encrypt", KeyId=self.settings["key_id"], Plaintext=data, EncryptionContext=dict(context))
        self.settings["key_id"] = answer["KeyId"]
        return bytes(answer["CiphertextBlob"])

    def decrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt in KMS what `encrypt` made, under this key and no other."""
        answer = self._call("decrypt", KeyId=self.settings["key_id"], CiphertextBlob=data, EncryptionContext=dict(context))
        return bytes(answer["Plaintext"])

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            client = boto3.client("kms", region_name=self.settings.get("region"), config=_CONFIG)
            return getattr(client, operation)(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if operation == "decrypt" and code in _DOES_NOT_OPEN:
                raise self.changed() from None
            raise AffidavitError(f"{self.label} cannot be used: {_REASONS.get(code, f'KMS answers {code}')}.") from None
        except (BotoCoreError, ValueError) as error:  # no credentials, no region, no answer
            raise AffidavitError(
                f"{self.label} cannot be reached ({type(error).__name__}).",
                hint="Check the network, the region and the credentials that boto3 finds.",
            ) from None
