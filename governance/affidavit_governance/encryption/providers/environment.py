"""A key in an environment variable."""

from __future__ import annotations

import os

from affidavit.errors import AffidavitError
from affidavit_governance.encryption.providers.base import LocalProvider, decode_key

KEY = "AFFIDAVIT_KEY"


class EnvironmentProvider(LocalProvider):
    """32 bytes in base64 in ``AFFIDAVIT_KEY``, or in the variable that the setting ``variable`` names."""

    name = "environment"
    optional = ("variable",)

    @property
    def variable(self) -> str:
        """The name of the variable."""
        return str(self.settings.get("variable", KEY))

    @property
    def label(self) -> str:
        return f"The key in {self.variable}"

    def key(self, *, create: bool = False) -> bytes:
        """The key; it is never made here."""
        text = os.environ.get(self.variable)
        if text is None:
            raise AffidavitError(f"Workspace {self.owner.location} is sealed by the key in {self.variable}, which is not set.")
        return decode_key(text.strip(), self.label)
