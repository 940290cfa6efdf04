"""A key in an environment variable, or given by the application."""

from __future__ import annotations

import os

from affidavit.errors import AffidavitError, UsageError
from affidavit_governance.encryption.providers.base import LocalProvider, decode_key

KEY = "AFFIDAVIT_KEY"


class EnvironmentProvider(LocalProvider):
    """32 bytes that the owner has, or in base64 in ``AFFIDAVIT_KEY``, or in the variable that the setting ``variable`` names."""

    name = "environment"
    optional = ("variable",)

    @property
    def variable(self) -> str:
        """The name of the variable."""
        return str(self.settings.get("variable", KEY))

    @property
    def label(self) -> str:
        return f"The key in {self.variable}" if self.owner.key is None else "The key that is given"

    def key(self, *, create: bool = False) -> bytes:
        """The key; it is never made here. Raises UsageError for a given one of another length."""
        if self.owner.key is not None:
            if not isinstance(self.owner.key, bytes) or len(self.owner.key) != 32:
                raise UsageError("The key that is given is not 32 bytes.", hint="A new one: secrets.token_bytes(32)")
            return self.owner.key
        text = os.environ.get(self.variable)
        if text is None:
            raise AffidavitError(
                f"Workspace {self.owner.location} is sealed by the key in {self.variable}, which is not set.", hint="Set it, or give key=."
            )
        return decode_key(text.strip(), self.label)
