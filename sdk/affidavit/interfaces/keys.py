"""What encryption asks of a plugin that keeps keys: a file, a hardware module, a cloud service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class KeyProvider(Protocol):
    """Wraps the secrets of a workspace under a key that it never gives away. Plugins register theirs under the kind ``key_provider``.

    A workspace's ``keyring.json`` holds what `describe` says and what `wrap` gave, so neither may hold a secret in the clear.

    Attributes
    ----------
    name
        As registered.
    """

    name: str

    def describe(self) -> Mapping[str, Any]:
        """What it takes to find the key again, as JSON without secrets: a file's name, a key's ARN, a slot and label."""
        ...

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt `secret` (at most 4096 bytes); `context` is authenticated and must be the same when unwrapping."""
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
