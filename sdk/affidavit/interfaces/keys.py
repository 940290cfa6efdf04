"""What encryption asks of a plugin that keeps keys: a file, a hardware module, a cloud service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from affidavit.errors import UsageError


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """The workspace whose secret a provider wraps.

    Attributes
    ----------
    workspace_id
        32 hexadecimal digits.
    location
        Where it is, for people.
    folder
        The workspace's folder, None in a database.
    passphrase, key
        What the user gave for a provider that takes one; None otherwise.
    """

    workspace_id: str
    location: str
    folder: Path | None = None
    passphrase: str | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)


class KeyProvider(Protocol):
    """Wraps the secrets of a workspace under a key that it never gives away. Plugins register the class under the kind ``key_provider``.

    It is made as ``Provider(settings, owner)``: with what the user set when it is chosen, and with what `describe` said from then on.
    A workspace's ``keyring.json`` holds what `describe` says and what `wrap` gave, so neither may hold a secret in the clear. Whoever can
    write that file can change both: take no code to load and no address to send credentials to from the settings; those come from the
    environment.
    """

    def __init__(self, settings: Mapping[str, Any], owner: KeyOwner) -> None: ...

    @property
    def label(self) -> str:
        """What holds the key, for people; it begins a sentence: ``"The key file '…'"``."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What it takes to find the key again, as JSON without secrets: a key's ARN, a token's label. Asked for after `wrap`."""
        ...

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt `secret` (32 bytes); `context` is authenticated and must be the same when unwrapping.

        Raises
        ------
        AffidavitError
            The key cannot be reached, or is not allowed to be used; says which and where it was looked for.
        """
        ...

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt what `wrap` made.

        Raises
        ------
        AffidavitError
            The key cannot be reached, or is not allowed to be used; says which and where it was looked for.
        IntegrityError
            Another key or context, or `wrapped` was changed.
        """
        ...


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """A provider's settings from ``name=value`` texts. Raises UsageError, which quotes none of them."""
    settings = {}
    for number, pair in enumerate(pairs, 1):
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise UsageError(f"Setting {number} of the key provider is not of the form name=value.", hint="For example key_id=alias/affidavit.")
        settings[name] = value
    return settings
